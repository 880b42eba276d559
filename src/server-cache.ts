/**
 * The cache's part of the composition: opens store, records and fills in one directory, looks after room in the background,
 * and closes all of it. A directory that cannot be used means no cache, said once: pulls go on.
 */
import { randomInt } from "node:crypto";
import { mkdir, statfs } from "node:fs/promises";
import path from "node:path";
import { createEviction } from "./cache/evict.ts";
import { createFilesystemStore } from "./cache/filesystem.ts";
import { createFills } from "./cache/fill.ts";
import { meteredFills } from "./cache/metered-fills.ts";
import { meteredStore } from "./cache/metered-store.ts";
import { openRecords } from "./cache/records.ts";
import { withRememberedReads } from "./cache/remembered-records.ts";
import { withSmallContents } from "./cache/small-contents.ts";
import { createSparingLog } from "./cache/sparing-log.ts";
import type { Store } from "./cache/store.ts";
import { createTagRules } from "./cache/tag-rules.ts";
import type { CacheSettings } from "./config/settings.ts";
import type { Downloads } from "./download/download.ts";
import type { Log } from "./log.ts";
import type { Cache } from "./proxy/cache.ts";
import { createCompatLines, type TagAge } from "./proxy/compat-headers.ts";
import { createOutages } from "./proxy/outage.ts";
import { createUpkeep, type Upkeep } from "./proxy/upkeep.ts";
import type { Registry, RegistryMap } from "./registry/registry.ts";
import type { CacheMeter } from "./server-metrics.ts";
import type { CacheReadings } from "./server-readings.ts";

export interface OpenedCache {
  readonly cache: Cache;
  readonly upkeep: Upkeep;
  readonly readings: CacheReadings;
  close(): Promise<void>;
}

export interface CacheDependencies {
  readonly log: Log;
  readonly map: () => RegistryMap;
  readonly downloads: Downloads;
  /** Whether a request to the registry would be sent now. Default: always. */
  readonly mayAsk?: (registry: Registry) => boolean;
  /** Whether a registry's accounts have few pulls left. Default: never. */
  readonly isShort?: (registry: Registry) => boolean;
  /** Told of what happens, for counting. */
  readonly meter?: CacheMeter;
}

/** How often idle content and free space are looked after. */
const SWEEP_MS = 10 * 60_000;
/** Downloads at once; each holds a connection, two file handles and up to 4 MiB. More pass the cache by. */
const MAX_FILLS = 256;
/** The most that `randomInt` takes. */
const RANDOM_STEPS = 2 ** 48 - 1;
const NO_METER: CacheMeter = {
  failed: () => undefined,
  damaged: () => undefined,
  filled: () => undefined,
};
const RECORDS_FILE = "records.sqlite";
/** Through it the commands act while a server runs. */
const ADMIN_SOCKET = "admin.sock";
const NEIGHBOURS = [RECORDS_FILE, `${RECORDS_FILE}-wal`, `${RECORDS_FILE}-shm`, ADMIN_SOCKET];

export function adminSocketIn(directory: string): string {
  return path.join(directory, ADMIN_SOCKET);
}

export async function openCache(
  options: CacheSettings,
  { log, map, downloads, mayAsk = () => true, isShort = () => false, meter = NO_METER }: CacheDependencies,
): Promise<OpenedCache | undefined> {
  const { directory, maxBytes, minFreeBytes, maxIdleMs } = options;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const kept = openRecords({ file: path.join(directory, RECORDS_FILE) }, { log, now: Date.now });
    const records = withRememberedReads(kept, {}, { now: () => performance.now() });
    // The store asks for room, and eviction removes from the store: each is made before the other is asked.
    const rooms = { make: async (_bytes: number): Promise<boolean> => false };
    const files = await createFilesystemStore(
      { directory, maxBytes, minFreeBytes, neighbours: NEIGHBOURS },
      { log, makeRoom: (bytes) => rooms.make(bytes), sizes: records, damaged: meter.damaged },
    );
    const store = withSmallContents(meteredStore(files, meter), {}, { now: () => performance.now() });
    const freeBytes = async () => {
      const { bavail, bsize } = await statfs(directory);
      return bavail * bsize;
    };
    const evicted = { contents: 0, bytes: 0 };
    const remove: Store["remove"] = async (digest) => {
      const bytes = await store.remove(digest);
      if (bytes > 0) evicted.contents += 1;
      evicted.bytes += bytes;
      return bytes;
    };
    const eviction = createEviction(
      { maxBytes, minFreeBytes, maxIdleMs },
      { store: { ...store, remove }, records, log, now: Date.now, freeBytes },
    );
    rooms.make = (bytes) => eviction.makeRoom(bytes);
    const sparingLog = createSparingLog(log, () => performance.now());
    const { gaveWrongParts } = downloads;
    const fills = meteredFills(createFills({ maxFills: MAX_FILLS }, { store, log: sparingLog, downloads }), {
      ended: meter.filled,
      gaveWrongParts,
    });
    const ending = new AbortController();
    const sweeping = setInterval(() => void eviction.sweep(ending.signal), SWEEP_MS);
    const ageOf = createTagAges(options);
    const cache: Cache = {
      store,
      records,
      fills,
      outages: createOutages({ now: () => performance.now(), mayAsk }),
      tagTtlMs: (registry, tag) => ageOf(registry, tag).ttlMs,
      isShort,
      staleIfErrorMs: options.staleIfErrorMs,
      grantTtlMs: options.grantTtlMs,
      compatLines: options.registryProxyHeaders ? createCompatLines(ageOf) : undefined,
      now: Date.now,
      random: () => randomInt(RANDOM_STEPS) / RANDOM_STEPS,
      log: sparingLog,
    };
    const upkeep = createUpkeep(
      { maxBytes, minFreeBytes },
      { store, records, eviction, evicted: () => evicted, freeBytes, map, now: Date.now },
    );
    return {
      cache,
      upkeep,
      readings: { fills, store, maxBytes, evicted: () => evicted },
      async close() {
        clearInterval(sweeping);
        ending.abort();
        await fills.close();
        await store.close();
        records.close();
      },
    };
  } catch (error) {
    log.error({ directory, err: error }, "the cache directory cannot be used: going on without a cache");
    return undefined;
  }
}

/** The rules of each registry and behind them those of all, compiled once for as long as its map entry lives. */
function createTagAges({ tagTtlMs, tagTiers }: CacheSettings): (registry: Registry, tag: string) => TagAge {
  const compiled = new WeakMap<Registry, ReturnType<typeof createTagRules>>();
  return (registry, tag) => {
    const ruleFor = compiled.get(registry) ?? createTagRules([...registry.tags, ...tagTiers]);
    compiled.set(registry, ruleFor);
    return ruleFor(tag) ?? { ttlMs: tagTtlMs };
  };
}
