/**
 * Registries that gave no answer lately. While one is down, what is cached is served without waiting for it; after each
 * window one request is let through to see whether it is back (lesson T6), unless its upstreams would not be asked even then:
 * `upstream/health.ts` knows each of them, and who has nothing kept is its matter. Learnt from traffic, nothing is polled. The
 * limit of an account is no outage: `upstream/quota.ts` knows it.
 */
import type { RegistryError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";

export interface Outages {
  /** True from the first failure to the next answer, probes included. */
  isFailing(registry: Registry): boolean;
  /** True when what is cached should be served without asking. False once per window, for the request that then finds out. */
  isDown(registry: Registry): boolean;
  /**
   * No answer, or 5xx with its Retry-After; 429 is passed over, for the registry answers others. Within a window no more than a
   * longer Retry-After puts its probe off: one broken repository that is asked for all the time must not keep all others stale.
   */
  failed(registry: Registry, error: RegistryError): void;
  answered(registry: Registry): void;
}

/** Long enough to spare a dead registry, short enough that nobody notices when it is back. */
const WINDOW_MS = 30_000;
/** Registries may ask for hours; a look in between costs one request. */
const MAX_WINDOW_MS = 15 * 60_000;

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
  // One entry per registry of the map.
  const outages = new Map<string, Outage>();

  function windowOf(error: RegistryError): number {
    const retryAfter = error.headers.find(([name]) => name === "Retry-After")?.[1] ?? "";
    return /^\d{1,6}$/.test(retryAfter) ? Math.min(Number(retryAfter) * 1000, MAX_WINDOW_MS) : WINDOW_MS;
  }

  return {
    isFailing: ({ key }) => outages.has(key),
    isDown(registry) {
      const { key } = registry;
      const outage = outages.get(key);
      if (outage === undefined) return false;
      if (now() < outage.probeAtMs || !mayAsk(registry)) return true;
      outages.set(key, { probeAtMs: now() + WINDOW_MS, isProbed: true }); // this caller probes; the others wait for what it finds
      return false;
    },
    failed({ key }, error) {
      if (error.status === 429) return;
      const outage = outages.get(key);
      const windowMs = windowOf(error);
      const isRunning = outage !== undefined && !outage.isProbed && now() < outage.probeAtMs;
      if (isRunning && windowMs <= WINDOW_MS) return;
      outages.set(key, { probeAtMs: Math.max(now() + windowMs, isRunning ? outage.probeAtMs : 0), isProbed: false });
    },
    answered({ key }) {
      outages.delete(key);
    },
  };
}
