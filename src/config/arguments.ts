/**
 * The command line taken apart by `node:util` parseArgs: a command, its operands, and flags with their texts. Long flags
 * take one or two dashes, `=` or a space; switches take `--x`, `--no-x` and `--x=false`. Meaning comes later, in `load`.
 */
import { parseArgs } from "node:util";
import {
  COMMAND_FLAGS,
  COMMAND_FLAG_NAMES,
  commandFlagNamed,
  flagsOfCommand,
  type CommandFlag,
  type CommandFlagName,
} from "./command-flags.ts";
import { OPTIONS, OPTION_NAMES, optionOfFlag, type OptionName } from "./options.ts";
import { suggestion, type Problem } from "./problem.ts";

export interface CommandLine {
  /** The first word that is not a flag: `"serve"`, or undefined. */
  readonly command: string | undefined;
  /** The words behind it. */
  readonly operands: readonly string[];
  /** `-help`, `--help` or `-h` was given; `-version` or `--version`. */
  readonly wants: "help" | "version" | undefined;
  readonly flags: ReadonlyMap<OptionName, string>;
  /** Flags of this command only, with every value given; a switch has none. */
  readonly commandFlags: ReadonlyMap<CommandFlagName, readonly string[]>;
  /** Flags that are not known or lack a value. */
  readonly problems: readonly Problem[];
}

/** Takes the arguments behind the program's name apart. Never throws: what is wrong becomes a problem. */
export function readCommandLine(argv: readonly string[]): CommandLine {
  const words: string[] = [];
  const flags = new Map<OptionName, string>();
  const problems: Problem[] = [];
  const commandFlags = new Map<CommandFlagName, readonly string[]>();
  const tokens = tokensOf(argv);
  let wants: CommandLine["wants"];
  // The word behind an unknown flag is its value as far as anybody can tell: `--lisen :80` is one mistake, not two.
  let valueAt = -1;
  const own = flagsOfCommand(tokens.find((token) => token.kind === "positional")?.value ?? "");
  for (const token of tokens) {
    if (token.kind === "positional" && token.index !== valueAt) words.push(token.value);
    if (token.kind !== "option") continue;
    if (token.name === "help" || token.name === "h") wants = "help";
    else if (token.name === "version") wants ??= "version";
    else if (readCommandFlag(token, { commandFlags, problems, own })) continue;
    else if (!readFlag(token, { flags, problems, own }) && token.value === undefined) valueAt = token.index + 1;
  }
  return { command: words[0], operands: words.slice(1), wants, flags, commandFlags, problems };
}

interface FlagToken {
  readonly name: string;
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly inlineValue?: boolean | undefined;
}

interface Found {
  readonly flags: Map<OptionName, string>;
  readonly problems: Problem[];
  /** The flags that the command has besides the options. */
  readonly own: readonly CommandFlagName[];
}

interface FoundOfCommand extends Omit<Found, "flags"> {
  readonly commandFlags: Map<CommandFlagName, readonly string[]>;
}

/** @returns false for a flag that is none of the command's own */
function readCommandFlag(token: FlagToken, { commandFlags, problems, own }: FoundOfCommand): boolean {
  const name = commandFlagNamed(token.name);
  if (name === undefined || !own.includes(name)) return false;
  const from = `flag ${token.rawName}`;
  const { flag, placeholder }: CommandFlag = COMMAND_FLAGS[name];
  const isNextFlag = token.inlineValue === false && /^-./.test(token.value ?? "");
  if (placeholder === "") {
    if (token.value === undefined) commandFlags.set(name, []);
    else problems.push({ from, what: `expected no value; write --${flag}` });
  } else if (token.value === undefined || token.value === "" || isNextFlag) {
    problems.push({ from, what: `expected a value: --${flag}=${placeholder}` });
  } else commandFlags.set(name, [...(commandFlags.get(name) ?? []), token.value]);
  return true;
}

/** @returns false for a flag nobody knows */
function readFlag(token: FlagToken, found: Found): boolean {
  const positive = token.name.startsWith("no-") ? optionOfFlag(token.name.slice(3)) : undefined;
  const name = optionOfFlag(token.name) ?? positive;
  if (name === undefined || (positive !== undefined && !isSwitch(positive))) {
    const flags = [...OPTION_NAMES.map((option) => OPTIONS[option].flag), ...found.own, "help", "version"];
    const known = flags.map((flag) => `--${flag}`);
    found.problems.push({ from: `flag ${token.rawName}`, what: `unknown flag${suggestion(token.rawName, known)}` });
    return false;
  }
  readKnown(name, token, { ...found, isNegated: positive !== undefined });
  return true;
}

function readKnown(
  name: OptionName,
  token: FlagToken,
  { flags, problems, isNegated }: Omit<Found, "own"> & { isNegated: boolean },
): void {
  const from = `flag ${token.rawName}`;
  if (isSwitch(name)) {
    if (!isNegated) flags.set(name, token.value ?? "true");
    else if (token.value === undefined) flags.set(name, "false");
    else problems.push({ from, what: `expected no value; write --${OPTIONS[name].flag}=${token.value}` });
    return;
  }
  const isNextFlag = token.inlineValue === false && token.value?.startsWith("-") === true;
  if (token.value === undefined || token.value === "" || isNextFlag) {
    problems.push({ from, what: `expected a value: --${OPTIONS[name].flag}=${OPTIONS[name].kind.placeholder}` });
    return;
  }
  const earlier = OPTIONS[name].kind.isList ? flags.get(name) : undefined;
  flags.set(name, earlier === undefined ? token.value : `${earlier},${token.value}`);
}

function isSwitch(name: OptionName): boolean {
  return OPTIONS[name].kind.placeholder === "";
}

function tokensOf(argv: readonly string[]) {
  const options = Object.fromEntries(
    OPTION_NAMES.map((name) => [
      OPTIONS[name].flag,
      { type: isSwitch(name) ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  const ofCommands = Object.fromEntries(
    COMMAND_FLAG_NAMES.map((name) => {
      const { flag, short, placeholder }: CommandFlag = COMMAND_FLAGS[name];
      const type = placeholder === "" ? ("boolean" as const) : ("string" as const);
      return [flag, { type, ...(short !== undefined && { short }) }];
    }),
  );
  return parseArgs({
    args: withTwoDashes(argv),
    options: { ...options, ...ofCommands },
    strict: false,
    tokens: true,
    allowPositionals: true,
  }).tokens;
}

/** `-listen=:80` → `--listen=:80`, as users of Go programs write it (compat C31). A single letter stays a short flag. */
function withTwoDashes(argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, i) => (/^-[a-z][a-z-]/i.test(word) && (end < 0 || i < end) ? `-${word}` : word));
}
