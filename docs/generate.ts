/**
 * Makes docs/configuration.md and docs/config.schema.json from the one table of options and the fields of the map, and docs/protocol.md from the titles
 * of the tests. `npm run docs` writes them; tests fail when they are out of date.
 */
import { join } from "node:path";
import { OTHER_NAMES } from "../src/config/compat.ts";
import { FIELDS_FROM_URL } from "../src/config/map-schema.ts";
import { ENTRY_TEXTS, type FieldText, PART_TEXTS } from "../src/config/map-texts.ts";
import { GROUPS, type OptionText } from "../src/config/option.ts";
import { OPTIONS, OPTION_NAMES, isInFile, variableOf, type OptionName } from "../src/config/options.ts";
import { protocolPage, readClaims } from "./protocol.ts";

export function configurationPage(): string {
  return [
    "# Configuration",
    "",
    "<!-- Made by docs/generate.ts from src/config/options.ts and map-texts.ts: change the tables, then run `npm run docs`. -->",
    "",
    "A flag wins over its environment variable, that over the configuration file (`--config`), that over the default.",
    "Flags take one or two dashes, and `=` or a space; switches also `--no-x` and `--x=false`. The file is YAML, TOML,",
    "JSON or JSONC and has the names of the flags in camelCase; `docs/config.schema.json` describes it for editors.",
    "",
    "Times are written `500ms`, `30s`, `10m`, `1h30m`, `7d`. Lists are repeated flags, arrays in the file, or values",
    "separated by commas or spaces. Relative paths are relative to the working directory.",
    "",
    "Anything unknown, and any bad value of a flag, a `LAYOVER_*` variable or the file, stops the start with exit code 2; all",
    "problems are told at once. Variables that older tools read are read too; a bad value of one of those is only a warning.",
    ...GROUPS.flatMap(groupSection),
    "",
    ...MAP_SECTION,
    "",
    "## Further variables of older tools",
    "",
    "They have no option of ours.",
    "",
    ...Object.entries(OTHER_NAMES).map(([name, meaning]) => `- \`${name}\`: ${meaning}`),
    "",
  ].join("\n");
}

export function configSchema(): object {
  const properties = OPTION_NAMES.filter(isInFile).map((name) => {
    const { help, default: value }: OptionText = OPTIONS[name];
    const { schema, placeholder } = OPTIONS[name].kind;
    const shown = placeholder === "" ? value === "true" : value;
    return [name, { description: help, ...schema, ...(shown !== undefined && { default: shown }) }];
  });
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Layover configuration",
    type: "object",
    properties: { $schema: { type: "string" }, ...Object.fromEntries(properties) },
    additionalProperties: false,
  };
}

function groupSection(group: string): string[] {
  const names = OPTION_NAMES.filter((name) => OPTIONS[name].group === group);
  return ["", `## ${group}`, ...names.flatMap(optionSection)];
}

function optionSection(name: OptionName): string[] {
  const text: OptionText = OPTIONS[name];
  const { placeholder } = OPTIONS[name].kind;
  const value = placeholder === "" ? "off" : text.default === undefined ? undefined : `\`${text.default}\``;
  const shown = text.defaultText ?? value;
  return [
    "",
    `### \`--${text.flag}${placeholder === "" ? "" : ` ${placeholder}`}\``,
    "",
    text.help,
    "",
    `- Environment: ${[variableOf(name), ...(text.inherited ?? [])].map((variable) => `\`${variable}\``).join(", ")}`,
    ...(isInFile(name) ? [`- File: \`${name}\``] : []),
    ...(shown === undefined ? [] : [`- Default: ${shown}`]),
  ];
}

const MAP_SECTION: readonly string[] = [
  "## The registry map",
  "",
  "`--registry-map` names a file, or an https URL, of JSON or JSONC. Each name in it is a key, by which clients may name the registry, with a",
  "URL, or with an object of the fields below. `default` is the key or URL of the registry that is meant where a client names none.",
  "A map replaces the one that is built in; `/help` shows the one in force. Unknown fields and bad values stop the start, and all are told at",
  "once; a bad new map changes nothing.",
  "",
  "```jsonc",
  "{",
  '  "default": "docker",',
  '  "docker": "https://registry-1.docker.io",',
  '  "lab": { "upstreams": ["https://registry.lab.example:5000"], "deny": ["secret/**"] },',
  "}",
  "```",
  "",
  ...fieldList(ENTRY_TEXTS),
  "",
  `A map from a URL may hold only ${FIELDS_FROM_URL.map((field) => `\`${field}\``).join(", ")}.`,
  "",
  "Patterns are names of repositories in which `*` stands for any part of one component and `**` for any number of components: `myorg/**` is",
  "all below `myorg`.",
  ...Object.entries(PART_TEXTS).flatMap(([field, texts]) => [
    "",
    `### Fields of \`${field}\``,
    "",
    ...fieldList(texts),
  ]),
];

function fieldList(texts: Readonly<Record<string, FieldText>>): string[] {
  return Object.entries(texts).map(([field, { value, help }]) => `- \`${field}\` (${value}): ${help}`);
}

if (import.meta.main) {
  const files = ["configuration.md", "config.schema.json", "protocol.md"].map((name) => join(import.meta.dir, name));
  const [page = "", schema = "", protocol = ""] = files;
  await Bun.write(page, configurationPage());
  await Bun.write(schema, JSON.stringify(configSchema(), undefined, 2));
  await Bun.write(protocol, protocolPage(await readClaims()));
  await Bun.$`${process.execPath} fmt --no-script ${files}`;
}
