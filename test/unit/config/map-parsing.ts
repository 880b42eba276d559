/** Reads a registry map as the loader does, with files that exist only here. */
import { ConfigError, problemLine } from "../../../src/config/problem.ts";
import { parseRegistryMap, type ParseMapOptions } from "../../../src/config/registrymap.ts";
import type { RegistryMap } from "../../../src/registry/registry.ts";

export type Given = Partial<ParseMapOptions> & { files?: Record<string, string> };

/** @param map its text, or a value that becomes its text */
export function parseMap(map: unknown, { files = {}, ...options }: Given = {}): Promise<RegistryMap> {
  return parseRegistryMap(typeof map === "string" ? map : JSON.stringify(map), {
    source: "file",
    name: "map",
    async readFile(path) {
      const text = files[path];
      if (text === undefined) throw new Error(`ENOENT ${path}`);
      return text;
    },
    ...options,
  });
}

/** What is wrong with it, a line each. */
export async function problemsOfMap(map: unknown, given: Given = {}): Promise<string[]> {
  const error = await parseMap(map, given).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ConfigError) return error.problems.map(problemLine);
  throw new Error("expected a ConfigError", { cause: error });
}
