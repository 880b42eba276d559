/**
 * The configuration file: YAML, TOML, JSON or JSONC by its ending, the names of the flags in camelCase. It yields texts,
 * as flags and variables do, so that a value means the same wherever it stands.
 */
import { extname } from "node:path";
import { OPTIONS, OPTION_NAMES, isInFile, isOptionName, type OptionName } from "./options.ts";
import { suggestion, type Problem } from "./problem.ts";

export interface ConfigFile {
  readonly values: ReadonlyMap<OptionName, string>;
  readonly problems: readonly Problem[];
}

const PARSERS: ReadonlyMap<string, (text: string) => unknown> = new Map([
  [".yaml", (text) => Bun.YAML.parse(text)],
  [".yml", (text) => Bun.YAML.parse(text)],
  [".toml", (text) => Bun.TOML.parse(text)],
  [".json", (text) => Bun.JSONC.parse(text)],
  [".jsonc", (text) => Bun.JSONC.parse(text)],
]);

/** Reads one file's text. `path` decides the language and names the place of problems. */
export function readConfigFile(path: string, text: string): ConfigFile {
  const values = new Map<OptionName, string>();
  const problems: Problem[] = [];
  const root = readRoot(path, text);
  if (root.error !== undefined) problems.push({ from: path, what: root.error });
  for (const [key, value] of Object.entries(root.fields)) {
    const from = `${path}: ${key}`;
    if (!isOptionName(key) || !isInFile(key)) {
      if (key !== "$schema")
        problems.push({ from, what: `unknown key${suggestion(key, OPTION_NAMES.filter(isInFile))}` });
      continue;
    }
    const written = textOf(value, OPTIONS[key].kind.isList);
    if (written === undefined) problems.push({ from, what: `expected ${expectedShape(key)}, got ${shapeOf(value)}` });
    // An empty value, as `domainSuffix:` in YAML, means that nothing is set.
    else if (written !== "") values.set(key, written);
  }
  return { values, problems };
}

/** What a file holds, before anything is known of its names. */
export interface Root {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly error?: string;
}

/** Reads one file's text by the ending of `path`. Never throws: what cannot be read is said in `error`. */
export function readRoot(path: string, text: string): Root {
  const parse = PARSERS.get(extname(path).toLowerCase());
  if (parse === undefined)
    return { fields: {}, error: `expected a file that ends in ${[...PARSERS.keys()].join(", ")}` };
  return parsed(() => parse(text));
}

function parsed(parse: () => unknown): Root {
  try {
    const root = parse();
    if (root === null || root === undefined) return { fields: {} };
    if (typeof root === "object" && !Array.isArray(root)) return { fields: { ...root } };
    return { fields: {}, error: `expected names with values, got ${shapeOf(root)}` };
  } catch (error) {
    // Becomes one of the problems that are told together.
    return { fields: {}, error: error instanceof Error ? error.message : String(error) };
  }
}

function textOf(value: unknown, isList: boolean): string | undefined {
  if (value === null) return "";
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
  if (!isList || !Array.isArray(value)) return undefined;
  return value.every((item) => typeof item === "string") ? value.join(",") : undefined;
}

function expectedShape(name: OptionName): string {
  return OPTIONS[name].kind.isList ? "a text or a list of texts" : "one plain value";
}

function shapeOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a group of names" : `a ${typeof value}`;
}
