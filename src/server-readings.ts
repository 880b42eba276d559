/** The metrics that are read when somebody asks, from parts that keep the numbers anyway. `server-metrics.ts` counts the others. */
import type { Fills } from "./cache/fill.ts";
import type { Store } from "./cache/store.ts";
import type { Downloads } from "./download/download.ts";
import { createReading, createReadings, type Metric } from "./metrics.ts";
import type { Registry, RegistryMap } from "./registry/registry.ts";
import type { UpstreamHealth } from "./upstream/health.ts";
import type { QuotaReading } from "./upstream/quota.ts";
import type { TransferReading } from "./upstream/transfers.ts";

/** What is only read when somebody asks. */
export interface Readings {
  readonly http: { readonly openRequests: number; readonly openConnections: number };
  readonly transfers: () => readonly TransferReading[];
  readonly downloads: Pick<Downloads, "aheadBytes" | "resumes">;
  readonly health: HealthOf;
  readonly quota: { readings(): readonly QuotaReading[] };
  readonly map: () => RegistryMap;
  readonly cache: CacheReadings | undefined;
}

/** How each upstream of a registry is. */
export type HealthOf = (registry: Registry) => readonly UpstreamHealth[];

export interface CacheReadings {
  readonly fills: Pick<Fills, "count" | "followers">;
  readonly store: Pick<Store, "usage">;
  readonly maxBytes: number;
  readonly evicted: () => { readonly contents: number; readonly bytes: number };
}

/** All of them. */
export function readingsOf(readings: Readings): Metric[] {
  return [
    ...trafficReadings(readings),
    ...transferReadings(readings),
    ...downloadReadings(readings),
    ...healthReadings(readings),
    ...quotaReadings(readings),
    ...(readings.cache === undefined ? [] : cacheReadings(readings.cache)),
  ];
}

function trafficReadings({ http }: Readings): Metric[] {
  return [
    gauge("open_requests", "Requests that are being answered", () => http.openRequests),
    gauge("open_connections", "Connections of clients", () => http.openConnections),
  ];
}

function transferReadings({ transfers }: Readings): Metric[] {
  const reading = (name: string, type: "counter" | "gauge", { help, read }: TransferText) =>
    createReadings({ name: `layover_${name}`, labels: ["registry"], help }, type, () =>
      transfers().map((lane) => [[lane.registry], read(lane)]),
    );
  return [
    reading("upstream_transfers", "gauge", {
      help: "Blobs that are coming from a registry",
      read: ({ running }) => running,
    }),
    reading("waiting_transfers", "gauge", {
      help: "Blobs that wait until fewer come from their registry",
      read: ({ waiting }) => waiting,
    }),
    reading("refused_transfers_total", "counter", {
      help: "Blobs that waited in vain, or found too many waiting",
      read: ({ refused }) => refused,
    }),
  ];
}

function downloadReadings({ downloads }: Readings): Metric[] {
  return [
    counted("resumed_downloads_total", "Blobs that broke off and were gone on with", () => downloads.resumes),
    gauge("download_ahead_bytes", "Memory for parts of blobs that came before their turn", () => downloads.aheadBytes),
  ];
}

/** As Prometheus has states: one series for each, of which one is 1. */
function healthReadings({ map, health }: Readings): Metric[] {
  const text = {
    name: "layover_upstream_health",
    labels: ["registry", "upstream", "state"],
    help: "Whether an upstream may be asked: 1 for the state it is in",
  };
  const rows = () =>
    map().registries.flatMap((registry) =>
      health(registry).flatMap(({ upstream, state }) =>
        HEALTH_STATES.map((one): [string[], number] => [[registry.key, upstream, one], one === state ? 1 : 0]),
      ),
    );
  return [createReadings(text, "gauge", rows)];
}

const HEALTH_STATES = ["closed", "half-open", "open"] as const;

/** By configured accounts and nobody's; what a client's own account has left is that client's business. */
function quotaReadings({ quota }: Readings): Metric[] {
  const reading = (name: string, help: string, read: (account: QuotaReading) => number | undefined) =>
    createReadings({ name: `layover_${name}`, labels: ["registry", "upstream", "account"], help }, "gauge", () => {
      // Two accounts of one name are one series: which has been there longer is of no interest.
      const rows = new Map<string, [values: string[], value: number]>();
      for (const each of quota.readings()) {
        const values = [each.registry, each.upstream, each.account];
        const value = read(each);
        if (value !== undefined) rows.set(JSON.stringify(values), [values, value]);
      }
      return [...rows.values()];
    });
  return [
    reading("upstream_quota_limit", "Pulls that a registry gives an account in its window", ({ limit }) => limit),
    reading("upstream_quota_remaining", "Pulls that the account has left", ({ remaining }) => remaining),
    reading(
      "upstream_limited_seconds",
      "Time until an account may ask for manifests again; 0 when it may",
      ({ limitedSeconds }) => limitedSeconds,
    ),
  ];
}

interface TransferText {
  readonly help: string;
  readonly read: (lane: TransferReading) => number;
}

function cacheReadings({ fills, store, maxBytes, evicted }: CacheReadings): Metric[] {
  return [
    gauge("running_fills", "Downloads into the cache that run", () => fills.count),
    gauge("fill_followers", "Clients that are served from running downloads", () => fills.followers),
    gauge("cache_bytes", "Bytes of kept content", () => store.usage().bytes),
    gauge("cache_contents", "Kept contents", () => store.usage().count),
    gauge("cache_spool_bytes", "Bytes of downloads that are not complete", () => store.usage().spooledBytes),
    gauge("cache_limit_bytes", "What --cache-max-size allows", () => maxBytes),
    counted("evicted_contents_total", "Contents that were evicted", () => evicted().contents),
    counted("evicted_bytes_total", "Bytes that were evicted", () => evicted().bytes),
  ];
}

function gauge(name: string, help: string, read: () => number): Metric {
  return createReading({ name: `layover_${name}`, help }, "gauge", read);
}

function counted(name: string, help: string, read: () => number): Metric {
  return createReading({ name: `layover_${name}`, help }, "counter", read);
}
