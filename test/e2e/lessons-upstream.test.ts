/**
 * The lessons about registries, networks and storage in trouble, each with the figures it names (T3, T4, T7, T17, T24).
 * T6 is in outage.test.ts, T8 in quota.test.ts, T9 and T26 in lessons-tokens.test.ts, T23 in chain.test.ts, T27 in lessons-reload.test.ts.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { type Cached, drain, startCached } from "../support/cached.ts";
import type { AnswerFaults } from "../support/fake-faults.ts";
import { layerOf } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { startLayover } from "../support/layover.ts";

const MB = 1_000_000;
/** With the cache and past it: both ways have code of their own between client and registry. */
const WAYS: [name: string, isCached: boolean][] = [
  ["through the cache", true],
  ["without a cache", false],
];

describe("a blob whose connection is reset at 60 %, from a registry that is slow then", () => {
  test.each(WAYS)("[T3, R262] %s: resumed there, at most 1.01 times its bytes, unseen", async (_name, isCached) => {
    await using own = await startCached({ seed: "reset", isCached });
    const { quay } = own.farm;
    const { layer, path } = own.fresh([20 * MB]);
    await own.pull(`${path}/manifests/latest`);
    const before = quay.bytesSent;
    Object.assign(quay.faults.blob, { stallAfterBytes: 12 * MB, cutAfterBytes: 12 * MB, times: 1 });
    const answer = await own.ask(`${path}/blobs/${layer}`);
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, String(20 * MB)]);
    const drained = drain(answer, (bytes) => {
      // What was sent is here: nothing is lost between two sockets, which is no fault of anybody.
      if (bytes < 11.9 * MB || quay.faults.blob.bytesPerSecond !== undefined) return;
      quay.faults.blob = { bytesPerSecond: 8 * MB };
      quay.release();
    });
    expect(await drained).toEqual({ bytes: 20 * MB, digest: layer });
    expect(quay.bytesSent - before).toBeLessThanOrEqual(20 * MB * 1.01);
    expect(rangesAsked(own).some((first) => first > 11.8 * MB && first <= 12 * MB)).toBe(true);
  });
});

/** Where the ranges began that the registry was asked for. */
function rangesAsked({ farm }: Cached): number[] {
  return farm.quay.requests.flatMap(({ headers }) => {
    const first = /^bytes=(\d+)-/.exec(headers.get("range") ?? "")?.[1];
    return first === undefined ? [] : [Number(first)];
  });
}

describe("a registry that sends no byte of a blob for minutes", () => {
  const isGet = ({ method }: { method: string }): boolean => method === "GET";
  const silence = { stallBeforeHeaders: true, match: isGet };
  // All wait for their silence to end, so they do it together.
  let refused: Promise<unknown>;
  let early: Promise<unknown>;
  beforeAll(() => {
    refused = Promise.all(WAYS.map(([, isCached]) => expectRefusalInTime(isCached)));
    early = Promise.all([
      expectEarlyHead("late", silence, {}),
      // An answer that is no answer: the registry is asked once more.
      expectEarlyHead("busy", silence, { status: 503 }),
      expectEarlyHead("absent", silence, { status: 404 }),
    ]);
    for (const each of [refused, early]) each.catch(() => undefined); // its test tells
  });

  test("[T4, R174, R258] a whole 503 before 25 seconds, where nothing is known of the blob", async () => {
    await refused;
  }, 40_000);

  test("[T4, R174] the head within 15 seconds where HEAD shows the blob and its length, and the bytes when they come", async () => {
    await early;
  }, 40_000);
});

async function expectRefusalInTime(isCached: boolean): Promise<void> {
  await using own = await startCached({ seed: "silent", isCached });
  const { layer, path } = own.fresh();
  await own.pull(`${path}/manifests/latest`);
  own.farm.quay.faults.blob.stallBeforeHeaders = true;
  const begun = performance.now();
  const { status, headers, body } = await own.pull(`${path}/blobs/${layer}`);
  expect(performance.now() - begun).toBeLessThan(25_000);
  expect([status, headers.get("content-length")]).toEqual([503, String(body.byteLength)]);
  expect(JSON.parse(Buffer.from(body).toString())).toMatchObject({ errors: [{ code: "UNAVAILABLE" }] });
  own.farm.quay.release();
}

/** @param then how the silence of the first GET ends */
async function expectEarlyHead(seed: string, silence: AnswerFaults, then: AnswerFaults): Promise<void> {
  await using own = await startCached({ seed });
  const { quay } = own.farm;
  const { layer, path } = own.fresh();
  await own.pull(`${path}/manifests/latest`);
  quay.faults.blob = { ...silence };
  const begun = performance.now();
  const answers = await Promise.all([own.ask(`${path}/blobs/${layer}`), own.ask(`${path}/blobs/${layer}`)]);
  expect(performance.now() - begun).toBeLessThan(15_000);
  const facts = answers.map(({ status, headers }) => [status, headers.get("content-length"), headers.get("x-cache")]);
  expect(facts).toEqual([
    [200, "200000", "MISS"],
    [200, "200000", "MISS"],
  ]);
  for (const method of ["GET", "HEAD"]) expect([method, quay.count({ method, path: /blobs/ })]).toEqual([method, 1]);
  Object.assign(quay.faults.blob, then);
  quay.faults.blob = {};
  quay.release();
  const drained = await Promise.allSettled(answers.map((answer) => drain(answer)));
  // What cannot be had after all breaks off: it is never ended as if it were whole.
  const isThere = then.status !== 404;
  expect(drained.map((each) => (each.status === "fulfilled" ? each.value : "broken"))).toEqual(
    Array(2).fill(isThere ? { bytes: 200_000, digest: layer } : "broken"),
  );
  const asked = then.status === 503 ? 2 : 1;
  expect(quay.count({ method: "GET", path: /blobs/ })).toBe(asked);
  expect((await own.pull(`${path}/blobs/${layer}`)).status).toBe(200); // kept, or fetched anew
  expect(quay.count({ method: "GET", path: /blobs/ })).toBe(isThere ? asked : asked + 1);
}

describe("started while its registry cannot be reached", () => {
  test("[T7] because it refuses connections: what is cached is there within a second", async () => {
    await using own = await startCached({ seed: "down" });
    const kept = await pullAndStop(own);
    own.farm.quay.goDown();
    await expectAtOnce(own, kept, { upstream: own.farm.quay.url, tagMs: 0 });
  });

  test("[T7] because it says nothing: digests are there within a second, a tag when patience with it is over", async () => {
    await using own = await startCached({ seed: "silent-start" });
    const kept = await pullAndStop(own);
    own.farm.quay.faults.manifest.stallBeforeHeaders = true;
    await expectAtOnce(own, kept, { upstream: own.farm.quay.url, tagMs: 4000 });
    own.farm.quay.release();
  });

  test("[T7] because its name leads nowhere: what is cached is there within a second", async () => {
    // The name is known to this proxy alone: without it the resolver is asked, which knows no name under .test.
    const upstream = "http://registry.test:5000";
    let to = "";
    await using proxy = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ url, method, headers }) => fetch(url.replace(upstream, to), { method, headers, decompress: false }),
    });
    await using own = await startCached({
      seed: "nameless",
      entries: { quay: { upstreams: [upstream], proxy: `http://127.0.0.1:${proxy.port}` } },
    });
    to = own.farm.quay.url;
    const kept = await pullAndStop(own);
    await expectAtOnce(own, kept, { upstream, tagMs: 0 });
  });
});

interface Kept {
  readonly path: string;
  readonly digest: string;
  readonly layer: string;
}

async function pullAndStop(own: Cached): Promise<Kept> {
  const { image, layer, path } = own.fresh();
  for (const what of ["manifests/latest", `blobs/${layer}`]) {
    const { status } = await own.pull(`${path}/${what}`);
    expect(status).toBe(200);
  }
  await own.layover.stop();
  return { path, digest: image.digest, layer };
}

interface Unreachable {
  readonly upstream: string;
  /** How much longer a tag may take than what is asked for by digest: only the registry knows where it leads now. */
  readonly tagMs: number;
}

/** From the start of the process to the last byte, beside what this machine needs to start the program with nothing to do. */
async function expectAtOnce(own: Cached, kept: Kept, { upstream, tagMs }: Unreachable): Promise<void> {
  const bareBegun = performance.now();
  const bare = await startLayover();
  const limitMs = 1000 + 2 * (performance.now() - bareBegun);
  await bare.stop();
  const begun = performance.now();
  const layover = await startLayover({
    map: { default: "quay", quay: { upstreams: [upstream], hosts: ["quay.io"] } },
    args: ["--cache-dir", own.directory, "--cache-min-free", "0"],
  });
  for (const [what, state, digest, withinMs] of [
    [`manifests/${kept.digest}`, "HIT", kept.digest, limitMs],
    [`blobs/${kept.layer}`, "HIT", kept.layer, limitMs],
    ["manifests/latest", "STALE", kept.digest, limitMs + tagMs],
    ["manifests/latest", "STALE", kept.digest, limitMs + tagMs],
  ] as const) {
    const answer = await fetch(`${layover.url}${kept.path}/${what}`);
    expect([answer.status, answer.headers.get("x-cache")]).toEqual([200, state]);
    expect((await drain(answer)).digest).toBe(digest);
    expect(performance.now() - begun).toBeLessThan(withinMs);
  }
  await layover.stop();
}

describe("a storm of tags that are not there", () => {
  test("[T17, R243] is one upstream request for each in five seconds, whatever they are probed for", async () => {
    await using own = await startCached({ seed: "storm" });
    const { quay } = own.farm;
    const { image, path } = own.fresh();
    const probed = image.digest.replace(":", "-");
    const tags = ["missing", `${probed}.sig`, `${probed}.att`, probed];
    let answers = 0;
    let isOver = false;
    const prober = async (tag: string): Promise<void> => {
      while (!isOver) {
        const [head, get] = [
          await own.ask(`${path}/manifests/${tag}`, { method: "HEAD" }),
          await own.pull(`${path}/manifests/${tag}`),
        ];
        expect([head.status, get.status]).toEqual([404, 404]);
        answers += 2;
      }
    };
    const storm = [...tags, ...tags, ...tags].map(prober);
    const asked = (tag: string) => quay.requests.filter((request) => request.path.endsWith(`/${tag}`));
    await Promise.all(tags.map((tag) => quay.until({ path: new RegExp(`/${tag}$`) }, 2)));
    isOver = true;
    await Promise.all(storm);
    for (const tag of tags) {
      const [first, second, ...more] = asked(tag).map(({ at }) => at);
      expect(more).toEqual([]);
      expect((second ?? 0) - (first ?? 0)).toBeGreaterThan(4900);
      expect((second ?? 0) - (first ?? 0)).toBeLessThan(10_000);
    }
    expect(answers).toBeGreaterThan(200);
  });
});

describe("storage that takes signed URLs for a while", () => {
  test.each(WAYS)(
    "[T24, R262, R149] %s: the registry is asked for a fresh one, and the storage sees no login",
    async (_name, isCached) => {
      await using own = await startCached({ seed: "expired", isCached });
      const { ghcr } = own.farm;
      const image = makeImage({ seed: "expired", layers: [20 * MB] });
      const layer = layerOf(image);
      ghcr.add("org/expired", image);
      await own.pull("/v2/ghcr/org/expired/manifests/latest");
      ghcr.faults.blob.redirect = {};
      ghcr.faults.cdn = { stallAfterBytes: 12 * MB, cutAfterBytes: 12 * MB, times: 1 };
      const pulled = own.ask(`/v2/ghcr/org/expired/blobs/${layer}`).then(drain);
      await ghcr.untilHeld(1);
      ghcr.expireUrls();
      // And the first URL of the resumed download is refused, as by a front end that gives out what it kept.
      ghcr.faults.cdn = { status: 403, times: 1 };
      ghcr.release();
      expect(await pulled).toEqual({ bytes: 20 * MB, digest: layer });
      expect(ghcr.faults.cdn.times).toBe(0);
      expect(new Set(ghcr.cdnRequests.map(({ path }) => path)).size).toBe(3);
      expect(ghcr.cdnRequests.map(({ headers }) => headers.get("authorization"))).toEqual([null, null, null]);
      const asked = ghcr.requests.filter(({ method, path }) => method === "GET" && path.includes("/blobs/"));
      expect(asked.map(({ headers }) => headers.get("authorization")?.startsWith("Bearer "))).toEqual([
        true,
        true,
        true,
      ]);
    },
  );
});
