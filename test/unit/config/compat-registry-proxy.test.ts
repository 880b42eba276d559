/** docker-registry-proxy's tiers of tags, and what tells that an environment was written for it. */
import { describe, expect, test } from "bun:test";
import { load } from "./loading.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const PRIMARY = { match: "(stable|nightly|production|test)", ttlMs: 10 * MINUTE, tier: "primary" } as const;
const SECONDARY = {
  match: String.raw`(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+`,
  ttlMs: 60 * DAY,
  tier: "secondary",
} as const;
const ON = { ENABLE_MANIFEST_CACHE: "true" };

async function cacheOf(env: Record<string, string>, argv: string[] = [], files: Record<string, string> = {}) {
  const { settings, warnings } = await load({ argv: ["--cache-dir=/cache", ...argv], env, files });
  if (settings.cache === undefined) throw new Error("expected a cache");
  return { ...settings.cache, warnings };
}

describe("MANIFEST_CACHE_*", () => {
  test.each([
    [{}, [PRIMARY, SECONDARY], 60 * MINUTE],
    [{ MANIFEST_CACHE_DEFAULT_TIME: "1h30m" }, [PRIMARY, SECONDARY], 90 * MINUTE],
    [{ MANIFEST_CACHE_DEFAULT_TIME: "200y" }, [PRIMARY, SECONDARY], 36_500 * DAY],
    [
      { MANIFEST_CACHE_PRIMARY_REGEX: String.raw`v\d+`, MANIFEST_CACHE_PRIMARY_TIME: "90" },
      [{ match: String.raw`v\d+`, ttlMs: 90_000, tier: "primary" as const }, SECONDARY],
      60 * MINUTE,
    ],
    [{ MANIFEST_CACHE_PRIMARY_REGEX: "" }, [SECONDARY], 60 * MINUTE],
    [{ MANIFEST_CACHE_SECONDARY_REGEX: " " }, [PRIMARY], 60 * MINUTE],
    [{ MANIFEST_CACHE_SECONDARY_TIME: "1w" }, [PRIMARY, { ...SECONDARY, ttlMs: 7 * DAY }], 60 * MINUTE],
  ])("[C18] with ENABLE_MANIFEST_CACHE, %j makes the tiers", async (env, tagTiers, tagTtlMs) => {
    expect(await cacheOf({ ...ON, ...env })).toMatchObject({ tagTiers, tagTtlMs });
  });

  test.each([{}, { ENABLE_MANIFEST_CACHE: "false" }])("[C18] %j: every tag is asked for", async (env) => {
    const times = { MANIFEST_CACHE_PRIMARY_TIME: "10m", MANIFEST_CACHE_DEFAULT_TIME: "1h" };
    expect(await cacheOf({ ...env, ...times })).toMatchObject({ tagTiers: [], tagTtlMs: 0 });
  });

  test("the time of all other tags is --tag-ttl, which wins where it is given", async () => {
    const env = { ...ON, MANIFEST_CACHE_DEFAULT_TIME: "3h" };
    const files = { "c.json": '{"tagTtl": "7m"}' };
    expect((await cacheOf(env)).tagTtlMs).toBe(180 * MINUTE);
    expect((await cacheOf(env, ["--tag-ttl=5m"])).tagTtlMs).toBe(5 * MINUTE);
    expect((await cacheOf({ ...env, LAYOVER_TAG_TTL: "6m" })).tagTtlMs).toBe(6 * MINUTE);
    expect((await cacheOf(ON, ["--config=c.json"], files)).tagTtlMs).toBe(7 * MINUTE);
  });

  test.each([
    [
      { MANIFEST_CACHE_PRIMARY_REGEX: "(" },
      'MANIFEST_CACHE_PRIMARY_REGEX is ignored: expected a regular expression for tags, got "("',
    ],
    [
      { MANIFEST_CACHE_SECONDARY_TIME: "soon" },
      'MANIFEST_CACHE_SECONDARY_TIME is ignored: expected an nginx time such as 60, 30s or 1d12h, got "soon"',
    ],
    [
      { MANIFEST_CACHE_DEFAULT_TIME: "1.5h" },
      'MANIFEST_CACHE_DEFAULT_TIME is ignored: expected an nginx time such as 60, 30s or 1d12h, got "1.5h"',
    ],
  ])("[C18] %j stops nothing: it is named, and every tag is asked for", async (env, warning) => {
    const { tagTiers, tagTtlMs, warnings } = await cacheOf({ ...ON, ...env });
    expect({ tagTiers, tagTtlMs }).toEqual({ tagTiers: [], tagTtlMs: 0 });
    expect(warnings).toEqual([
      'ENABLE_MANIFEST_CACHE=true is read as "tags are served by the tiers of MANIFEST_CACHE_*: yes"',
      warning,
      "ENABLE_MANIFEST_CACHE is ignored: with a pattern or time that is wrong, every tag is asked for",
    ]);
  });
});

test.each([
  [
    { CACHE_MAX_SIZE: "10g", CACHE_INACTIVE: "60d" },
    { maxBytes: 10 * 1024 ** 3, maxIdleMs: 60 * DAY },
  ],
  [
    { CACHE_MAX_SIZE: "512M", CACHE_INACTIVE: "1w2d" },
    { maxBytes: 512 * 1024 ** 2, maxIdleMs: 9 * DAY },
  ],
  [
    { CACHE_MAX_SIZE: "4096", CACHE_INACTIVE: "1d12h" },
    { maxBytes: 4096, maxIdleMs: 1.5 * DAY },
  ],
  [
    { CACHE_MAX_SIZE: "big", CACHE_INACTIVE: "long" },
    { maxBytes: 32 * 1024 ** 3, maxIdleMs: 60 * DAY },
  ],
])("%j are the budget and the idle age, in nginx's notation", async (env, expected) => {
  expect(await cacheOf(env)).toMatchObject(expected);
});

test.each([
  [{ ENABLE_MANIFEST_CACHE: "false" }, true],
  [{ REGISTRIES: "k8s.gcr.io" }, true],
  [{ AUTH_REGISTRIES: "auth.docker.io:me:secret" }, true],
  [{ CACHE_MAX_SIZE: "32g" }, true],
  [{ PROXY_CONNECT_READ_TIMEOUT: "60s" }, true],
  [{ REGISTRIES: "" }, false],
  [{ DEBUG: "true", MODE: "prod", CUSTOM_DOMAIN: "example.com", LAYOVER_CACHE_MAX_SIZE: "1g" }, false],
])("[C16] %j: that tool's header lines are on: %p", async (env, isOn) => {
  expect((await cacheOf(env)).registryProxyHeaders).toBe(isOn);
});
