/**
 * From flags, environment and configuration file to Settings. Flag before environment before file before default;
 * every problem is found before any is reported.
 */
import type { Settings } from "./settings.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** What the loader asks of the machine. */
export interface LoadDependencies {
  /** The text of a file; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
  /** Whether log lines go to a person's terminal. */
  readonly isTerminal: boolean;
  /** IP addresses of this machine, to recognise a proxy that is ourselves. */
  localAddresses(): readonly string[];
}

export interface LoadedSettings {
  readonly settings: Settings;
  /** One line each: old names in force, inherited variables that were not understood. */
  readonly warnings: readonly string[];
}

/**
 * Reads the settings. `argv` are the arguments behind the command's name.
 * @throws ConfigError with all problems at once
 */
export async function loadSettings(
  argv: readonly string[],
  env: Environment,
  dependencies: LoadDependencies,
): Promise<LoadedSettings> {
  void argv;
  void env;
  void dependencies;
  throw new Error("not written yet");
}
