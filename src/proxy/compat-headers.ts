/**
 * What docker-registry-proxy said in each answer, for the dashboards and scripts that read it (compat C16): what kind of
 * content this is, by the tier that its tag falls into, and what the cache did. Pure; `stateLines` puts the lines into answers.
 */
import type { HeaderLine } from "../errors.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import type { Registry, TagRule } from "../registry/registry.ts";
import type { RegistryRequest } from "./access.ts";
import type { CacheState } from "./exchange.ts";

/** How long a tag is served without asking its registry, and the older settings' tier it falls into, if any. */
export type TagAge = Pick<TagRule, "ttlMs" | "tier">;

export type CompatLines = (request: Pick<RegistryRequest, "endpoint" | "route">, state: CacheState) => HeaderLine[];

export function createCompatLines(ageOf: (registry: Registry, tag: string) => TagAge): CompatLines {
  return ({ endpoint, route }, state) => {
    const type = cacheType(endpoint, (tag) => ageOf(route.registry, tag));
    if (type === undefined) return [];
    return [
      ["X-Docker-Registry-Proxy-Cache-Upstream-Status", state],
      ["X-Docker-Registry-Proxy-Cache-Type", type],
    ];
  };
}

/**
 * A tag that a rule of the map or `--tag-ttl` decides about is of no tier: `manifest-default`, or, when its registry is
 * asked each time, `manifest-default-disabled`. Undefined for what is neither manifest nor blob.
 */
function cacheType(endpoint: Endpoint, ageOf: (tag: string) => TagAge): string | undefined {
  if (endpoint.kind === "blob") return "blob-by-digest";
  if (endpoint.kind !== "manifest") return undefined;
  if (endpoint.reference.kind === "digest") return "manifest-by-digest";
  const { tier, ttlMs } = ageOf(endpoint.reference.tag);
  if (tier !== undefined) return `manifest-${tier}`;
  return ttlMs > 0 ? "manifest-default" : "manifest-default-disabled";
}
