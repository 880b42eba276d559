/**
 * Several connections for one blob, where each is limited: the real program before a registry that gives each answer only so
 * much a second. What comes is right, in order, and comes once; who does not take ranges well is asked over one connection.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Cached, drain, type Fresh, startCached } from "../support/cached.ts";
import { digestOf } from "../support/images.ts";

const LAYER_BYTES = 20_000_000;
/** Slow enough that one connection takes seconds, which is when others are tried. */
const BYTES_PER_SECOND = 6_000_000;
/** What a connection that is ended at a split has on its way. */
const MOST_IN_VAIN = 1.05;

/** An image whose repository is known to be public, so that it may be kept. */
async function fresh(own: Cached): Promise<Fresh> {
  const made = own.fresh([LAYER_BYTES]);
  expect((await own.pull(`${made.path}/manifests/latest`)).status).toBe(200);
  return made;
}

describe.each([true, false])("through the cache: %p", (isCached) => {
  let own: Cached;
  beforeAll(async () => {
    own = await startCached({ seed: `connections-${isCached}`, isCached });
  });
  afterAll(() => own[Symbol.asyncDispose]());
  beforeEach(() => {
    own.farm.reset();
    own.farm.quay.faults.blob.bytesPerSecond = BYTES_PER_SECOND;
  });

  const rangesAsked = () => own.farm.quay.requests.map(({ headers }) => headers.get("range"));

  test("a blob comes in parts, whole, and each byte once", async () => {
    const { path, layer } = await fresh(own);
    const { status, body } = await own.pull(`${path}/blobs/${layer}`);
    expect([status, digestOf(body)]).toEqual([200, layer]);
    const parts = rangesAsked().filter((range) => /^bytes=\d+-\d+$/.test(range ?? ""));
    expect(parts.length).toBeGreaterThan(1);
    expect(own.farm.quay.bytesSent / LAYER_BYTES).toBeLessThan(MOST_IN_VAIN);
  });

  test("[R239, R261] a client that leaves ends all connections past the cache, and none through it", async () => {
    const { path, layer } = await fresh(own);
    const { quay } = own.farm;
    const leaving = new AbortController();
    const answer = await own.ask(`${path}/blobs/${layer}`, { signal: leaving.signal });
    const drained = drain(answer).catch(() => undefined);
    await quay.until({ method: "GET", path: /blobs/ }, 3);
    leaving.abort();
    await drained;
    const asked = quay.count({ method: "GET", path: /blobs/ });
    const atLeast = quay.bytesSent;
    while (quay.openAnswers > 0) await new Promise((resolve) => setImmediate(resolve));
    if (!isCached) {
      expect(quay.count({ method: "GET", path: /blobs/ })).toBe(asked);
      expect(quay.bytesSent - atLeast).toBeLessThan(BYTES_PER_SECOND / 2);
      return;
    }
    const again = await own.pull(`${path}/blobs/${layer}`);
    expect(digestOf(again.body)).toBe(layer);
    expect(quay.bytesSent / LAYER_BYTES).toBeLessThan(MOST_IN_VAIN);
  });

  test("[R262] parts that break off are gone on with", async () => {
    const { path, layer } = await fresh(own);
    own.farm.quay.faults.blob.cutAfterBytes = 3_000_000;
    const { status, body } = await own.pull(`${path}/blobs/${layer}`);
    expect([status, digestOf(body)]).toEqual([200, layer]);
  });

  test("[R272] a registry that answers parts with everything is asked once, and not for parts any more", async () => {
    own.farm.quay.faults.blob.ignoreRange = true;
    for (const _turn of ["it tries", "it knows"]) {
      own.farm.quay.requests.length = 0;
      const { path, layer } = await fresh(own);
      const { body } = await own.pull(`${path}/blobs/${layer}`);
      expect(digestOf(body)).toBe(layer);
    }
    expect(rangesAsked().filter((range) => range !== null)).toEqual([]); // of the second turn
  });
});

test.each([true, false])(
  "[R237] parts with other bytes break one pull, and the next comes over one connection, through the cache: %p",
  async (isCached) => {
    await using own = await startCached({ seed: `wrong-parts-${isCached}`, isCached });
    own.farm.quay.faults.blob.bytesPerSecond = BYTES_PER_SECOND;
    const { blob } = own.farm.quay.faults;
    blob.match = ({ headers }) => {
      blob.corrupt = headers.has("range");
      return true;
    };
    const { path, layer } = await fresh(own);
    await expect(own.pull(`${path}/blobs/${layer}`)).rejects.toThrow();
    expect(own.farm.quay.requests.some(({ headers }) => headers.has("range"))).toBe(true);
    expect(digestOf((await own.pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
  },
);

test("one download in parts serves all who wait, each the whole and its own range", async () => {
  await using own = await startCached({ seed: "followers-of-parts" });
  own.farm.quay.faults.blob.bytesPerSecond = BYTES_PER_SECOND;
  const { path, layer, bytes } = await fresh(own);
  const first = own.pull(`${path}/blobs/${layer}`);
  await own.farm.quay.until({ method: "GET", path: /blobs/ }, 2); // it is in parts by now
  const range = { range: "bytes=1000-1999999" };
  const [one, other, part] = await Promise.all([
    first,
    own.pull(`${path}/blobs/${layer}`),
    own.pull(`${path}/blobs/${layer}`, range),
  ]);
  expect([digestOf(one.body), digestOf(other.body)]).toEqual([layer, layer]);
  expect([part.status, Buffer.from(part.body).equals(bytes.subarray(1000, 2_000_000))]).toEqual([206, true]);
  expect(own.farm.quay.bytesSent / LAYER_BYTES).toBeLessThan(MOST_IN_VAIN);
});

test("--blob-connections 1 is one, and a registry whose transfers all run gives no more", async () => {
  for (const args of [
    ["--blob-connections", "1"],
    ["--upstream-transfers", "1"],
  ]) {
    await using own = await startCached({ seed: `one${args[0]}`, args });
    own.farm.quay.faults.blob.bytesPerSecond = BYTES_PER_SECOND;
    const { path, layer } = await fresh(own);
    expect(digestOf((await own.pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
    expect(own.farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  }
});
