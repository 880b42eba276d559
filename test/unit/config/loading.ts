/** Loads settings for a test: arguments as a person types them, an environment and files of its own. */
import { readCommandLine } from "../../../src/config/arguments.ts";
import { loadSettings, type LoadedSettings } from "../../../src/config/load.ts";
import { ConfigError, problemLine } from "../../../src/config/problem.ts";

export interface Given {
  argv?: string[];
  env?: Record<string, string>;
  /** Path → text. */
  files?: Record<string, string>;
  isTerminal?: boolean;
  localAddresses?: string[];
}

export function load({ argv = [], env = {}, files = {}, ...given }: Given): Promise<LoadedSettings> {
  return loadSettings(readCommandLine(argv), {
    env,
    isTerminal: given.isTerminal ?? false,
    localAddresses: () => given.localAddresses ?? [],
    async readFile(path) {
      const text = files[path];
      if (text === undefined) throw new Error(`ENOENT: no such file ${path}`);
      return text;
    },
  });
}

/** The lines of all problems; fails when there are none. */
export async function problemsOf(given: Given): Promise<string[]> {
  const error = await load(given).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ConfigError) return error.problems.map(problemLine);
  throw new Error("expected a ConfigError", { cause: error });
}
