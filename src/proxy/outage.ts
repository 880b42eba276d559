/**
 * Registries that gave no answer lately. While one is down, what is cached is served without waiting for it; after each
 * window one request is let through to see whether it is back (lesson T6), unless its upstreams would not be asked even then:
 * `upstream/health.ts` knows each of them, and who has nothing kept is its matter. Learnt from traffic, nothing is polled. The
 * limit of an account is no outage: `upstream/quota.ts` knows it. A registry that answers, but fails, is down for that repository
 * alone: one broken image that is asked for all the time must not keep the tags of all others stale.
 */
import { LRUCache } from "lru-cache";
import { type RegistryError, UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";

/** Whose outage is meant. */
type Asked = Pick<Route, "registry" | "repository">;

export interface Outages {
  /** True from the first failure to the next answer, probes included. */
  isFailing(asked: Asked): boolean;
  /** True when what is cached should be served without asking. False once per window, for the request that then finds out. */
  isDown(asked: Asked): boolean;
  /**
   * No answer, or 5xx with its Retry-After; 429 is passed over, for the registry answers others. Within a window no more than a
   * longer Retry-After puts its probe off, however often it fails.
   */
  failed(asked: Asked, error: RegistryError): void;
  answered(asked: Asked): void;
}

/** Long enough to spare a dead registry, short enough that nobody notices when it is back. */
const WINDOW_MS = 30_000;
/** Registries may ask for hours; a look in between costs one request. */
const MAX_WINDOW_MS = 15 * 60_000;
/** Registries of the map, and repositories that fail at one that answers; one that falls out is asked again. */
const MAX_OUTAGES = 10_000;

export interface OutagesDependencies {
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Whether a request to the registry would be sent now. */
  readonly mayAsk: (registry: Registry) => boolean;
}

interface Outage {
  readonly probeAtMs: number;
  /** A request was let through, and what it finds decides about the next window. */
  readonly isProbed: boolean;
}

export function createOutages({ now, mayAsk }: OutagesDependencies): Outages {
  const outages = new LRUCache<string, Outage>({ max: MAX_OUTAGES });

  function isWaiting({ probeAtMs }: Outage): boolean {
    return now() < probeAtMs;
  }

  return {
    isFailing: (asked) => keysOf(asked).some((key) => outages.has(key)),
    isDown(asked) {
      const running = keysOf(asked).flatMap((key) => {
        const outage = outages.get(key);
        return outage === undefined ? [] : [{ key, outage }];
      });
      if (running.length === 0) return false;
      if (running.some(({ outage }) => isWaiting(outage)) || !mayAsk(asked.registry)) return true;
      // This caller probes; the others wait for what it finds.
      for (const { key } of running) outages.set(key, { probeAtMs: now() + WINDOW_MS, isProbed: true });
      return false;
    },
    failed(asked, error) {
      if (error.status === 429) return;
      const [whole, single] = keysOf(asked);
      const key = isSilence(error) ? whole : single;
      const outage = outages.get(key);
      const windowMs = windowOf(error);
      const isRunning = outage !== undefined && !outage.isProbed && isWaiting(outage);
      if (isRunning && windowMs <= WINDOW_MS) return;
      outages.set(key, { probeAtMs: Math.max(now() + windowMs, isRunning ? outage.probeAtMs : 0), isProbed: false });
    },
    answered(asked) {
      for (const key of keysOf(asked)) outages.delete(key);
    },
  };
}

/** The registry's, and the repository's at it. */
function keysOf({ registry: { key }, repository }: Asked): readonly [whole: string, single: string] {
  return [key, `${key} ${repository}`];
}

/** Whether nobody would have been answered. */
function isSilence({ cause }: RegistryError): boolean {
  return cause instanceof UpstreamError && ["connect", "tls", "timeout"].includes(cause.kind);
}

function windowOf(error: RegistryError): number {
  const retryAfter = error.headers.find(([name]) => name === "Retry-After")?.[1] ?? "";
  return /^\d{1,6}$/.test(retryAfter) ? Math.min(Number(retryAfter) * 1000, MAX_WINDOW_MS) : WINDOW_MS;
}
