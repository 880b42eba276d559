/**
 * How a variable of an older tool becomes the text of an option: with one line that says so, or one that says why not.
 * Which variables there are, and what they mean together, is known to `compat` and its neighbours.
 */
import { parseSwitch } from "./kinds.ts";
import { OPTIONS, type OptionName } from "./options.ts";
import { parseNginxTime } from "./units.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface InheritedDependencies {
  readonly env: Environment;
  /** Whether a flag, one of our own variables or the file sets this option. */
  isGiven(name: OptionName): boolean;
  /** Whether a file can be read. */
  canRead(path: string): Promise<boolean>;
}

/** What the readers below write into. */
export interface Draft extends InheritedDependencies {
  readonly values: Map<OptionName, string>;
  readonly defaults: Map<OptionName, string>;
  readonly warnings: string[];
}

/** The variable's text; one that is set to nothing counts as absent, as compose files pass unset variables on so. */
export function textOf(env: Environment, variable: string): string | undefined {
  const text = env[variable]?.trim();
  return text === "" ? undefined : text;
}

/** Gives an option a text if its kind accepts it, and says so in one line; if not, says that. */
export function adopt(draft: Draft, layer: "values" | "defaults", adoption: Adoption): boolean {
  const { name, text, from } = adoption;
  const problem = problemOf(() => OPTIONS[name].kind.parse(text));
  if (problem !== undefined) draft.warnings.push(`${from} is ignored: ${problem}`);
  else draft[layer].set(name, text);
  if (problem === undefined && adoption.note !== "silent")
    draft.warnings.push(`${from} is read as --${OPTIONS[name].flag}`);
  return problem === undefined;
}

export interface Adoption {
  readonly name: OptionName;
  readonly text: string;
  /** The variable. */
  readonly from: string;
  /** `"silent"` for names that are documented as ours as well. */
  readonly note?: "silent";
}

/** A yes-or-no variable; undefined when it is absent or not understood. `meaning` is said when it differs from nothing set. */
export function readSwitch(draft: Draft, variable: string, meaning: string): boolean | undefined {
  const text = textOf(draft.env, variable);
  if (text === undefined) return undefined;
  const problem = problemOf(() => parseSwitch(text));
  if (problem !== undefined) {
    draft.warnings.push(`${variable} is ignored: ${problem}`);
    return undefined;
  }
  const value = parseSwitch(text);
  draft.warnings.push(`${variable}=${text} is read as "${meaning}: ${value ? "yes" : "no"}"`);
  return value;
}

/** A time in nginx's notation, at most `maxMs`; undefined when it is absent or not understood, which is one warning. */
export function readNginxTime(draft: Draft, variable: string, maxMs: number): number | undefined {
  const text = textOf(draft.env, variable);
  if (text === undefined) return undefined;
  const problem = problemOf(() => parseNginxTime(text));
  if (problem === undefined) return Math.min(parseNginxTime(text), maxMs);
  draft.warnings.push(`${variable} is ignored: ${problem}`);
  return undefined;
}

export function problemOf(parse: () => unknown): string | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    // Told as a warning: an inherited variable never stops the start.
    return error instanceof Error ? error.message : String(error);
  }
}
