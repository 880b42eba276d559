/**
 * The cache, for commands: through the admin socket of the server that runs on its directory, or, when none does, by
 * opening the directory here. Both are the same Upkeep.
 */
import { stat } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { type CacheSettings, StartError, type Settings } from "../config/settings.ts";
import { createDownloads } from "../download/downloads.ts";
import type { Log } from "../log.ts";
import { type Upkeep, UpkeepError } from "../proxy/upkeep.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { adminSocketIn, openCache } from "../server-cache.ts";

export interface OpenedUpkeep {
  readonly upkeep: Upkeep;
  close(): Promise<void>;
}

export interface UpkeepClientDependencies {
  readonly log: Log;
  /** Asked for only when no server runs: it has the map in force. */
  loadMap(): Promise<RegistryMap>;
}

/** @throws StartError when there is no cache, or it cannot be opened */
export async function openUpkeep(
  cache: CacheSettings,
  settings: Settings,
  { log, loadMap }: UpkeepClientDependencies,
): Promise<OpenedUpkeep> {
  const socket = await runningServer(cache.directory);
  if (socket !== undefined) return { upkeep: remoteUpkeep(socket), close: async () => undefined };
  // Made by the first server that runs on it; a slip in the flag must not make another.
  if (!(await exists(path.join(cache.directory, "blobs"))))
    throw new StartError(`expected a cache in ${cache.directory}, found none; check --cache-dir`);
  const map = await loadMap();
  const opened = await openCache(cache, { log, map: () => map, downloads: createDownloads(settings.upstream) });
  if (opened === undefined) throw new StartError(`the cache in ${cache.directory} cannot be opened`);
  return opened;
}

/** The admin socket of the server that runs on the directory, when one does. @throws StartError when it is not ours to use */
export async function runningServer(directory: string): Promise<string | undefined> {
  const socket = adminSocketIn(directory);
  const failure = await new Promise<string | undefined>((resolve) => {
    const probe = net.connect({ path: socket });
    probe.once("connect", () => (probe.destroy(), resolve(undefined)));
    probe.once("error", (error) => resolve("code" in error ? String(error.code) : error.message));
  });
  if (failure === undefined) return socket;
  if (failure === "EACCES" || failure === "EPERM")
    throw new StartError(`no permission for ${socket}: run this as the user that runs Layover, or as root`);
  return undefined;
}

/** Where the server listens. @throws StartError when it cannot be asked */
export async function addressesOf(socket: string): Promise<readonly string[]> {
  const response = await fetch("http://layover/about", { unix: socket });
  const about: unknown = await response.json();
  const addresses: unknown = typeof about === "object" && about !== null ? Reflect.get(about, "addresses") : undefined;
  if (!Array.isArray(addresses)) throw new StartError("the server that runs does not say where it listens");
  return addresses.filter((address) => typeof address === "string");
}

function remoteUpkeep(socket: string): Upkeep {
  function ask<T>(operation: string, asked: object = {}, signal?: AbortSignal): AsyncGenerator<T> {
    return linesOf<T>(socket, { operation, asked, signal });
  }
  return {
    images: (pattern) => ask("images", { pattern }),
    remove: (name) => first(ask("remove", { name })),
    pin: (name) => first(ask("pin", { name })),
    unpin: (name) => first(ask("unpin", { name })),
    verify: (signal) => ask("verify", {}, signal),
    prune: (signal) => first(ask("prune", {}, signal)),
    stats: () => first(ask("stats")),
  };
}

interface Question {
  readonly operation: string;
  readonly asked: object;
  readonly signal: AbortSignal | undefined;
}

/** The lines of an answer as they come. The server is of this program, so its values have the shapes of Upkeep. */
async function* linesOf<T>(socket: string, { operation, asked, signal }: Question): AsyncGenerator<T> {
  const response = await fetch(`http://layover/upkeep/${operation}`, {
    unix: socket,
    method: "POST",
    body: JSON.stringify(asked),
    ...(signal !== undefined && { signal }),
    // Hashing a disk, or waiting for an eviction, takes longer than the client's own limit.
    timeout: false,
  });
  if (response.status !== 200) throw new UpkeepError(errorOf(await response.json()) ?? `status ${response.status}`);
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const value = JSON.parse(line);
      const error = errorOf(value);
      if (error !== undefined) throw new UpkeepError(error);
      yield value;
    }
  }
}

async function first<T>(values: AsyncIterable<T>): Promise<T> {
  for await (const value of values) return value;
  throw new UpkeepError("the server gave no answer; its log says more");
}

function errorOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const error: unknown = Reflect.get(value, "error");
  return typeof error === "string" ? error : undefined;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(Boolean, () => false);
}
