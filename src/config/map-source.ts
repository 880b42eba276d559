/**
 * Where the registry map comes from, and its renewal while we run: built in, a file (watched, and on SIGHUP), or a URL
 * (asked again now and then). A bad new map is told and the old one stays; requests take the map in force when they start.
 *
 *   file changes ──┐
 *   refresh timer ─┼─► text ─► parseRegistryMap ─► current()
 *   reload() ──────┘              └─ bad: one error line, current() stays
 */
import { watch, type FSWatcher } from "node:fs";
import { dirname } from "node:path";
import builtIn from "../../registrymap.json";
import type { Log } from "../log.ts";
import type { RegistryMap } from "../registry/registry.ts";
import type { HostLogin } from "./docker-config.ts";
import { fetchMap, type FetchMap } from "./map-fetch.ts";
import { ConfigError, problemLine } from "./problem.ts";
import { parseRegistryMap, type ParseMapOptions } from "./registrymap.ts";
import { StartError, type MapSettings, type MapSource } from "./settings.ts";
import { warnOfUnverified } from "./unverified.ts";

export interface MapSourceDependencies {
  readonly log: Pick<Log, "info" | "warn" | "error">;
  /** The text of the map's file and of files that the map names. */
  readFile(path: string): Promise<string>;
  /** For passwords that the map names by variable. Default: that of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told of each file that holds a secret. */
  readonly onSecretFile?: (path: string) => void;
  /** One request to the map's URL. */
  readonly request: FetchMap;
  /** Calls back until the returned function is called; replaced by tests. Default: setInterval. */
  readonly every?: (ms: number, call: () => void) => () => void;
  /** Tells of changes in a folder until the returned function is called. Default: fs.watch. */
  readonly watchFolder?: (folder: string, changed: () => void) => () => void;
}

/** Editors write in several steps, and Kubernetes swaps a link: the file is read this long after the first sign. */
const SETTLE_MS = 200;

/**
 * Loads the map and keeps it up to date.
 * @throws ConfigError when the map is wrong
 * @throws StartError when it cannot be had
 */
export async function createMapSource(options: MapSettings, dependencies: MapSourceDependencies): Promise<MapSource> {
  const { log } = dependencies;
  const place = placeOf(options);
  let text = await readMap(options, dependencies);
  let map = await parse(text);
  let running: Promise<void> = Promise.resolve();
  for (const { host } of unusedLogins(options, map)) {
    log.warn(
      { map: place, host },
      "an account of AUTH_REGISTRIES is not used: no upstream of the map is that host, or the map has its own",
    );
  }
  if (options.dockerHub !== undefined && !hasCredential(map)) {
    log.warn({ map: place }, "the credential of Docker Hub is not used: no upstream of the map is Docker Hub's");
  }

  function parse(newText: string): Promise<RegistryMap> {
    return parseRegistryMap(newText, parseOptions(options, dependencies));
  }

  async function renew(wants: "changed" | "always"): Promise<void> {
    try {
      const newText = await readMap(options, dependencies);
      if (wants === "changed" && newText === text) return;
      map = await parse(newText);
      text = newText;
      log.info({ map: place, registries: map.registries.length }, "registry map loaded");
      warnOfUnverified(map, log);
    } catch (error) {
      // The old map is better than none (lesson T27).
      for (const line of reasonsOf(error))
        log.error({ map: place, problem: line }, "new registry map refused, the old one stays");
    }
  }

  /** One after the other, so that an older text never replaces a newer one. */
  function queue(wants: "changed" | "always"): Promise<void> {
    running = running.then(() => renew(wants));
    return running;
  }

  const stop = keepFresh(options, dependencies, () => void queue("changed"));
  return { current: () => map, reload: () => queue("always"), close: stop };
}

function placeOf({ location }: MapSettings): string {
  if (location.kind === "built-in") return "built-in registry map";
  return location.kind === "file" ? location.path : location.url.replace(/\?.*$/, "");
}

function parseOptions(options: MapSettings, dependencies: MapSourceDependencies): ParseMapOptions {
  const { readFile, env = process.env, onSecretFile } = dependencies;
  const { location, refreshMs: _refreshMs, ...laidOver } = options;
  const source = location.kind === "built-in" ? "built in" : location.kind;
  return { ...laidOver, source, name: placeOf(options), readFile, env, ...(onSecretFile && { onSecretFile }) };
}

async function readMap({ location }: MapSettings, { readFile, request }: MapSourceDependencies): Promise<string> {
  if (location.kind === "built-in") return JSON.stringify(builtIn);
  if (location.kind === "url") return fetchMap(location.url, request);
  try {
    return await readFile(location.path);
  } catch (error) {
    // Says which of the many files it was, and what to do.
    const reason = error instanceof Error ? error.message : String(error);
    throw new StartError(`cannot read the registry map ${location.path}: ${reason}; check --registry-map`, {
      cause: error,
    });
  }
}

function reasonsOf(error: unknown): string[] {
  if (error instanceof ConfigError) return error.problems.map(problemLine);
  return [error instanceof Error ? error.message : String(error)];
}

function hasCredential(map: RegistryMap): boolean {
  return map.registries.some(({ isDockerHub, credentials }) => isDockerHub && credentials.length > 0);
}

function unusedLogins({ authRegistries }: MapSettings, { registries }: RegistryMap): readonly HostLogin[] {
  const used = new Set(registries.flatMap(({ credentials }) => credentials.map(({ source }) => source)));
  return authRegistries.filter(({ source }) => !used.has(source));
}

/** Starts what belongs to the location; the result ends it. */
function keepFresh(options: MapSettings, dependencies: MapSourceDependencies, renew: () => void): () => void {
  const { location, refreshMs } = options;
  if (location.kind === "built-in") return () => {};
  if (location.kind === "url") return (dependencies.every ?? everyInterval)(refreshMs, renew);
  try {
    return (dependencies.watchFolder ?? watchFolder)(dirname(location.path), renew);
  } catch (error) {
    // Without watches (a limit of the kernel, some network file systems) SIGHUP still reads it again.
    const reason = error instanceof Error ? error.message : String(error);
    dependencies.log.warn(
      { map: location.path, reason },
      "the map's folder cannot be watched: send SIGHUP after a change",
    );
    return () => {};
  }
}

function everyInterval(ms: number, call: () => void): () => void {
  const timer = setInterval(call, ms);
  timer.unref();
  return () => clearInterval(timer);
}

/**
 * The folder and not the file, whose watch would end when an editor or Kubernetes replaces it. Any event counts, as the
 * name that changes may be that of a link's target.
 */
function watchFolder(folder: string, changed: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watcher: FSWatcher = watch(folder, { persistent: false }, () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      changed();
    }, SETTLE_MS);
  });
  watcher.on("error", () => watcher.close());
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}
