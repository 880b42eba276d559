/**
 * What `layover help` prints: commands, then every option of the table by group, at most 100 columns wide.
 */
import { COMMAND_FLAGS, flagsOfCommand, type CommandFlag } from "../config/command-flags.ts";
import { GROUPS, type OptionText } from "../config/option.ts";
import { OPTIONS, OPTION_NAMES, variableOf, type OptionName } from "../config/options.ts";
import { CACHE_COMMANDS } from "./cache.ts";
import { CLIENT_NAMES } from "./setup.ts";

export const COMMANDS: Readonly<Record<string, string>> = {
  serve: "Run the proxy. This is the default.",
  check: "Read the configuration, ask every upstream, look at our certificate; exit code 1 when something is wrong.",
  setup: `Print a client's configuration: layover setup CLIENT, one of ${CLIENT_NAMES.join(", ")}.`,
  warm: "Pull images into the cache: layover warm IMAGE…; exit code 1 when one could not be had.",
  cache:
    "Look after the cache in --cache-dir, while a server runs on it or not; exit code 1 when something could not be done.",
  version: "Print version, commit, build time and Bun version.",
  help: "Print this text.",
};

const WIDTH = 100;
const COLUMN = 34;

export function helpText(): string {
  return [
    "Layover: one address in front of every container registry.",
    "",
    "Usage: layover [command] [flags]",
    "",
    "Commands",
    ...Object.entries(COMMANDS).flatMap(([name, text]) => [...inColumns(`  ${name}`, [text]), ...detailsOf(name)]),
    "",
    ...wrapped(
      "Flags take one or two dashes and = or a space; switches also --no-x and --x=false. A flag wins over its environment " +
        "variable, that over the configuration file, that over the default.",
      WIDTH,
    ),
    ...GROUPS.flatMap((group) => [
      "",
      group,
      ...OPTION_NAMES.filter((name) => OPTIONS[name].group === group).flatMap(optionLines),
    ]),
    "",
    "Times take ms s m h d: 500ms, 30s, 1h30m. Every option is described in docs/configuration.md.",
    "",
  ].join("\n");
}

/** The parts of a command and the flags that only it has. */
function detailsOf(command: string): string[] {
  const parts = command === "cache" ? Object.entries(CACHE_COMMANDS) : [];
  return [
    ...parts.flatMap(([name, { operands, help }]) => inColumns(`    ${`cache ${name} ${operands}`.trimEnd()}`, [help])),
    ...flagsOfCommand(command).flatMap((name) => {
      const { flag, short, placeholder, help }: CommandFlag = COMMAND_FLAGS[name];
      const shown = `${short === undefined ? "" : `-${short}, `}--${flag} ${placeholder}`;
      return inColumns(`    ${shown.trimEnd()}`, [help]);
    }),
  ];
}

function optionLines(name: OptionName): string[] {
  const { kind } = OPTIONS[name];
  const { flag, help }: OptionText = OPTIONS[name];
  const placeholder = kind.placeholder === "" ? "" : ` ${kind.placeholder}`;
  return inColumns(`  --${flag}${placeholder}`, [help, sourcesOf(name)]);
}

/** `$LAYOVER_LISTEN, $DOCXY_HTTPS_PORT; default: :5000`. */
function sourcesOf(name: OptionName): string {
  const { inherited = [], default: value, defaultText }: OptionText = OPTIONS[name];
  const variables = [variableOf(name), ...inherited].map((variable) => `$${variable}`).join(", ");
  const shown = defaultText ?? (OPTIONS[name].kind.placeholder === "" ? "off" : value);
  return shown === undefined ? variables : `${variables}; default: ${shown}`;
}

function inColumns(left: string, paragraphs: readonly string[]): string[] {
  const lines = paragraphs.flatMap((text) => wrapped(text, WIDTH - COLUMN)).map((line) => " ".repeat(COLUMN) + line);
  const [first = "", ...others] = lines;
  // A long left side stands on a line of its own.
  return left.length + 2 > COLUMN ? [left, ...lines] : [left + first.slice(left.length), ...others];
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
