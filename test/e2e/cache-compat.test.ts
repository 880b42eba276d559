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

const TAGS = [
  { tag: "stable-1", type: "manifest-primary", ttlMs: 10 * MINUTE_MS },
  { tag: "1.2.3", type: "manifest-secondary", ttlMs: 60 * DAY_MS },
  { tag: "latest", type: "manifest-default", ttlMs: 90 * MINUTE_MS },
] as const;

test("[C16, C18] each tag is served as long as its tier says, then asked for; what moved is new, what fails is stale", async () => {
  await using own = await startTiers("age");
  const { quay } = own.farm;
  const repository = tagged(own, "org/age");
  async function expectState(state: string, shown = state): Promise<void> {
    for (const { tag, type } of TAGS)
      expect([tag, ...(await said(own, `${repository}/manifests/${tag}`))]).toEqual([tag, "200", shown, state, type]);
  }
  await expectState("MISS");
  await age(own, (ttlMs) => ttlMs - MINUTE_MS);
  quay.reset();
  await expectState("HIT");
  expect(quay.count({ path: /manifests/ })).toBe(0);
  await age(own, () => 2 * MINUTE_MS);
  await expectState("REVALIDATED");
  await age(own, (ttlMs) => ttlMs + MINUTE_MS);
  const moved = makeImage({ seed: "moved", tags: TAGS.map(({ tag }) => tag) });
  quay.add("org/age", moved);
  await expectState("EXPIRED", "MISS");
  await expectState("HIT");
  const answer = await askWhole(own, `${repository}/manifests/latest`, {});
  expect(digestOf(answer.body)).toBe(moved.digest);
  await age(own, (ttlMs) => ttlMs + MINUTE_MS);
  quay.faults.manifest.status = 503;
  await expectState("STALE");
}, 60_000);

test("[C16] a tag that moved says so in Cache-Status too", async () => {
  await using own = await startCached({ seed: "moving" });
  const target = `${tagged(own, "org/moving")}/manifests/latest`;
  await own.pull(target);
  own.farm.quay.add("org/moving", makeImage({ seed: "moved on" }));
  const { headers } = await askWhole(own, target, {});
  expect([headers.get("x-cache"), headers.get("cache-status")]).toEqual(["MISS", "Layover; fwd=stale; stored"]);
});

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

test("[C16] what passes the cache by says so: HEAD of a blob that is not there is asked upstream", async () => {
  const { layer, path: repository } = cached.fresh();
  await cached.pull(`${repository}/manifests/latest`);
  const answer = await said(cached, `${repository}/blobs/${layer}`, { method: "HEAD" });
  expect(answer).toEqual(["200", "BYPASS", "BYPASS", "blob-by-digest"]);
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

/** As if each tag had been checked so much earlier, by its tier's time: the program is stopped for it. */
async function age(own: Cached, byMs: (ttlMs: number) => number): Promise<void> {
  await own.layover.stop();
  {
    using records = new Database(path.join(own.directory, "records.sqlite"));
    const update = records.prepare("UPDATE tag SET checkedMs = checkedMs - ?1 WHERE tag = ?2");
    for (const { tag, ttlMs } of TAGS) update.run(byMs(ttlMs), tag);
    update.finalize();
  }
  await own.restart();
}
