/** What users of docker-registry-proxy find again in the cache: its tiers of tags, and what its answers said. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import path from "node:path";
import { type Cached, startCached } from "../support/cached.ts";
import { digestOf, makeImage } from "../support/images.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

let cached: Cached;
beforeAll(async () => {
  cached = await startTiers("tiers");
});
afterAll(async () => {
  await cached[Symbol.asyncDispose]();
});
beforeEach(() => cached.farm.reset());

function startTiers(seed: string): Promise<Cached> {
  return startCached({ seed, env: { ENABLE_MANIFEST_CACHE: "true", MANIFEST_CACHE_DEFAULT_TIME: "1h30m" } });
}

/** A repository whose image has one tag for each kind. */
function tagged(own: Cached, repository: string, seed = repository): string {
  own.farm.quay.add(repository, makeImage({ seed, tags: ["stable-1", "1.2.3", "latest"] }));
  return `/v2/quay/${repository}`;
}

async function said(own: Cached, target: string, init: RequestInit = {}): Promise<(string | null)[]> {
  const { headers, ...answer } = await askWhole(own, target, init);
  return [
    String(answer.status),
    headers.get("x-cache"),
    headers.get("x-docker-registry-proxy-cache-upstream-status"),
    headers.get("x-docker-registry-proxy-cache-type"),
  ];
}

async function askWhole(own: Cached, target: string, init: RequestInit) {
  const answer = await own.ask(target, init);
  const body = new Uint8Array(await answer.arrayBuffer());
  return { status: answer.status, headers: answer.headers, body };
}

test.each([
  ["stable-1", "manifest-primary", 10 * MINUTE_MS],
  ["1.2.3", "manifest-secondary", 60 * DAY_MS],
  ["latest", "manifest-default", 90 * MINUTE_MS],
])(
  "[C16, C18] the tag %s is of the kind %s: served so long, then asked for, and what moved is new",
  async (tag, type, ttlMs) => {
    await using own = await startTiers(`age${tag.replaceAll(".", "")}`);
    const repository = `org/age`;
    const target = `${tagged(own, repository)}/manifests/${tag}`;
    expect(await said(own, target)).toEqual(["200", "MISS", "MISS", type]);
    await age(own, ttlMs - MINUTE_MS);
    expect(await said(own, target)).toEqual(["200", "HIT", "HIT", type]);
    expect(own.farm.quay.count({ path: new RegExp(`manifests/${tag}`) })).toBe(1);
    await age(own, 2 * MINUTE_MS);
    expect(await said(own, target)).toEqual(["200", "REVALIDATED", "REVALIDATED", type]);
    await age(own, ttlMs + MINUTE_MS);
    const moved = makeImage({ seed: "moved", tags: [tag] });
    own.farm.quay.add(repository, moved);
    const answer = await askWhole(own, target, {});
    expect(digestOf(answer.body)).toBe(moved.digest);
    expect(answer.headers.get("x-cache")).toBe("MISS");
    expect(answer.headers.get("cache-status")).toBe("Layover; fwd=stale; stored");
    expect(answer.headers.get("x-docker-registry-proxy-cache-upstream-status")).toBe("EXPIRED");
    expect(await said(own, target)).toEqual(["200", "HIT", "HIT", type]);
    await age(own, ttlMs + MINUTE_MS);
    own.farm.quay.faults.manifest.status = 503;
    expect(await said(own, target)).toEqual(["200", "STALE", "STALE", type]);
  },
);

test("[C16] content by digest: fetched, then there, for HEAD and Range as well", async () => {
  const { image, layer, path: repository } = cached.fresh();
  await cached.pull(`${repository}/manifests/latest`);
  const manifest = `${repository}/manifests/${image.digest}`;
  const blob = `${repository}/blobs/${layer}`;
  expect(await said(cached, manifest)).toEqual(["200", "HIT", "HIT", "manifest-by-digest"]);
  expect(await said(cached, blob)).toEqual(["200", "MISS", "MISS", "blob-by-digest"]);
  while ((await said(cached, blob))[1] !== "HIT");
  expect(await said(cached, blob, { method: "HEAD" })).toEqual(["200", "HIT", "HIT", "blob-by-digest"]);
  const part = { headers: { range: "bytes=5-9" } };
  expect(await said(cached, blob, part)).toEqual(["206", "HIT", "HIT", "blob-by-digest"]);
});

test("[C16] what passes the cache by says so", async () => {
  const token = await cached.farm.token("/token/ghcr", "alice:secret");
  const authorization = `Bearer ${token}`;
  const target = "/v2/ghcr/org/private/manifests/latest";
  const answer = await said(cached, target, { headers: { authorization } });
  expect(answer).toEqual(["200", "BYPASS", "BYPASS", "manifest-default"]);
});

test("[C16] nothing of it where none of that tool's variables is set, and no kind of lists", async () => {
  await using own = await startCached({ seed: "plain" });
  const { path: repository } = own.fresh();
  expect(await said(own, `${repository}/manifests/latest`)).toEqual(["200", "MISS", null, null]);
  expect((await said(cached, "/v2/quay/org/app/tags/list")).slice(2)).toEqual([null, null]);
});

test("[C16, C18] with the tiers off each tag is asked for, and served stale", async () => {
  await using own = await startCached({ seed: "off", env: { ENABLE_MANIFEST_CACHE: "false" } });
  const target = `${tagged(own, "org/off")}/manifests/1.2.3`;
  expect(await said(own, target)).toEqual(["200", "MISS", "MISS", "manifest-default-disabled"]);
  expect(await said(own, target)).toEqual(["200", "REVALIDATED", "REVALIDATED", "manifest-default-disabled"]);
  for (const fault of [{ status: 500 }, { status: 429 }, { hangUp: "reset" as const }]) {
    own.farm.quay.faults.manifest = fault;
    expect(await said(own, target)).toEqual(["200", "STALE", "STALE", "manifest-default-disabled"]);
  }
});

test("[C18] a registry's own rules come before the tiers", async () => {
  const entries = { quay: { tags: [{ match: "stable", ttl: "0" }] } };
  await using own = await startCached({ seed: "own", entries, env: { ENABLE_MANIFEST_CACHE: "true" } });
  const repository = tagged(own, "org/own");
  for (const state of ["MISS", "REVALIDATED"])
    expect((await said(own, `${repository}/manifests/stable-1`)).slice(2)).toEqual([
      state,
      "manifest-default-disabled",
    ]);
  for (const state of ["MISS", "HIT"])
    expect((await said(own, `${repository}/manifests/1.2.3`)).slice(2)).toEqual([state, "manifest-secondary"]);
});

/** As if every tag had been checked so much earlier: the program is stopped for it. */
async function age(own: Cached, byMs: number): Promise<void> {
  await own.layover.stop();
  {
    using records = new Database(path.join(own.directory, "records.sqlite"));
    records.run("UPDATE tag SET checkedMs = checkedMs - ?", [byMs]);
  }
  await own.restart();
}
