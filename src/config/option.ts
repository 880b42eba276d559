/** What one line of the table of options says; the table itself is `options.ts`. */
import type { Kind } from "./kinds.ts";

export const GROUPS = [
  "Listening",
  "Registries",
  "Client access",
  "Cache",
  "Host names",
  "TLS",
  "Upstreams",
  "Running",
  "Log",
] as const;

export interface OptionText {
  readonly group: (typeof GROUPS)[number];
  /** The flag without dashes; the file's key and the variable's name follow from it. */
  readonly flag: string;
  /** Inherited variables, read by `config/compat`. */
  readonly inherited?: readonly string[];
  /** Written as a user would; undefined when there is none or the machine decides it. */
  readonly default?: string;
  /** Said in place of a default that is not a plain value. */
  readonly defaultText?: string;
  /** False for what cannot stand in the configuration file. */
  readonly inFile?: false;
  /** One or two sentences. */
  readonly help: string;
}

export interface Option<T> extends OptionText {
  readonly kind: Kind<T>;
}

export function option<T>(kind: Kind<T>, text: OptionText): Option<T> {
  return { kind, ...text };
}
