import { expect, test } from "bun:test";
import { createCompatLines, type TagAge } from "../../../src/proxy/compat-headers.ts";
import type { CacheState } from "../../../src/proxy/exchange.ts";
import { parseEndpoint } from "../../../src/registry/endpoint.ts";
import type { Registry } from "../../../src/registry/registry.ts";

const DIGEST = `sha256:${"0".repeat(64)}`;
const AGES: Record<string, TagAge> = {
  stable: { ttlMs: 600_000, tier: "primary" },
  "1.2.3": { ttlMs: 0, tier: "secondary" },
  latest: { ttlMs: 3_600_000 },
};
const registry = { key: "quay" } as Registry;
const route = { registry, repository: "org/app", requested: "org/app", pathPrefix: "", namespace: undefined };
const linesOf = createCompatLines((asked, tag) => {
  expect(asked).toBe(registry);
  return AGES[tag] ?? { ttlMs: 0 };
});
const STATES: CacheState[] = ["MISS", "HIT", "REVALIDATED", "STALE", "EXPIRED", "BYPASS"];

function linesFor(path: string, state: CacheState) {
  const endpoint = parseEndpoint(path);
  if (endpoint === undefined) throw new Error(`expected a registry path, got ${path}`);
  return linesOf({ endpoint, route }, state);
}

test.each([
  [`/v2/org/app/blobs/${DIGEST}`, "blob-by-digest"],
  [`/v2/org/app/manifests/${DIGEST}`, "manifest-by-digest"],
  ["/v2/org/app/manifests/stable", "manifest-primary"],
  ["/v2/org/app/manifests/1.2.3", "manifest-secondary"],
  ["/v2/org/app/manifests/latest", "manifest-default"],
  ["/v2/org/app/manifests/edge", "manifest-default-disabled"],
])("[C16] createCompatLines() says that %s is %s, and what the cache did", (path, type) => {
  for (const state of STATES) {
    expect(linesFor(path, state)).toEqual([
      ["X-Docker-Registry-Proxy-Cache-Upstream-Status", state],
      ["X-Docker-Registry-Proxy-Cache-Type", type],
    ]);
  }
});

test("[C16] createCompatLines() says nothing about lists", () => {
  expect(linesFor("/v2/org/app/tags/list", "MISS")).toEqual([]);
});
