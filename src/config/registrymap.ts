/**
 * From the text of `registrymap.json` to a RegistryMap (product section 3). Everything is checked here, once, and all
 * problems are reported together, path by path; files that the map names are read here too.
 */
import type { RegistryMap } from "../registry/registry.ts";

export interface ParseMapOptions {
  /** A map from a URL may hold only URLs, hosts, tags, allow and deny (product section 3). */
  readonly source: "file" | "url" | "built in";
  /** What problems name as their place: a path or a URL without its query. Default: the source. */
  readonly name?: string;
  /** The text of a file that the map names; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
  /** A key or a URL; wins over the map's `default`. */
  readonly defaultRegistry?: string | undefined;
  /** Laid over the Docker Hub registry when the map gives it no credentials of its own. */
  readonly dockerHub?: { readonly username: string; readonly password: string } | undefined;
}

/**
 * Parses and checks a map.
 * @throws ConfigError with every problem of the map
 */
export async function parseRegistryMap(text: string, options: ParseMapOptions): Promise<RegistryMap> {
  void text;
  void options;
  throw new Error("not written yet");
}

/** The map as `/help` shows it (compat C32): every key and `default` → URL of the first upstream, never userinfo or query. */
export function helpMap(map: RegistryMap): Record<string, string> {
  void map;
  return {};
}
