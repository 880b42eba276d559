/** How long is waited for a registry where something else could be served, and how long without asking where its quota is short. */
import { RegistryError, UpstreamError } from "../errors.ts";
import type { Route } from "../registry/route.ts";
import type { Outages } from "./outage.ts";

/** After this the last known answer is served, while the question goes on and mends the record (lessons T6, T9). */
const PATIENCE_MS = 3_000;
/** With a tenth of the pulls left tags are looked after so much less often, and no more than some times an hour. */
const SPARING_FACTOR = 4;
const MIN_SPARING_MS = 10 * 60_000;

/** Rejects early when the registry is slow; what was asked goes on. @throws RegistryError UNAVAILABLE */
export async function patiently<T>(outages: Outages, route: Route, asked: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const cause = new UpstreamError("timeout", `${route.registry.key}: no answer within ${PATIENCE_MS} ms`);
    const error = new RegistryError("UNAVAILABLE", "the registry did not answer in time", { status: 503, cause });
    outages.failed(route, error);
    late.reject(error);
  }, PATIENCE_MS);
  try {
    return await Promise.race([asked, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** How long a tag is served without asking while pulls are short: longer than else, never beyond what an outage allows. */
export function sparingTtlMs(ttlMs: number, staleIfErrorMs: number): number {
  return Math.min(Math.max(ttlMs * SPARING_FACTOR, MIN_SPARING_MS), ttlMs + staleIfErrorMs);
}
