/** Bytes that one registry delivered are shown by another only where that one shows that it has them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Cached, type Pulled, startCached } from "../support/cached.ts";
import { digestOf } from "../support/images.ts";

let cached: Cached;
beforeAll(async () => {
  cached = await startCached({ seed: "sharing" });
});
afterAll(async () => {
  await cached[Symbol.asyncDispose]();
});
beforeEach(() => {
  cached.farm.reset();
  cached.farm.ghcr.auth = "none";
});

describe("a registry that tells no length", () => {
  test("[R245, R270] shows that it has a blob by two random pieces of it, and is believed from then on", async () => {
    const { layer, image } = await kept();
    const { ghcr } = cached.farm;
    ghcr.add("org/honest", image);
    tellNoLength();
    const { cache, body } = await pull("honest", layer);
    expect([cache, digestOf(body)]).toEqual(["HIT", layer]);
    const ranges = askedRanges();
    expect(ranges).toHaveLength(2);
    for (const range of ranges) {
      const [first = 0, last = 0] = range.match(/\d+/g)?.map(Number) ?? [];
      expect([last - first + 1, last < 200_000]).toEqual([4096, true]);
    }
    expect(new Set(ranges).size).toBe(2);
    expect((await pull("honest", layer)).cache).toBe("HIT");
    expect(askedRanges()).toHaveLength(2);
  });

  test("[R245] and has other bytes gets nothing of what the other delivered", async () => {
    const { layer, image, bytes } = await kept();
    cached.farm.ghcr.add("org/other", { ...image, blobs: new Map([[layer, bytes.map((byte) => byte ^ 1)]]) });
    tellNoLength();
    expect(await refused("other", layer)).toBe(true);
  });

  test("[R245] and has a longer blob gets nothing either", async () => {
    const { layer, image, bytes } = await kept();
    const longer = new Uint8Array([...bytes, 0]);
    cached.farm.ghcr.add("org/longer", { ...image, blobs: new Map([[layer, longer]]) });
    tellNoLength();
    expect(await refused("longer", layer)).toBe(true);
  });

  test("[R245, R272] and knows no ranges is asked for the whole", async () => {
    const { layer, image } = await kept();
    cached.farm.ghcr.add("org/whole", image);
    Object.assign(cached.farm.ghcr.faults.blob, { ignoreRange: true, contentLength: false, framing: "chunked" });
    const { cache, body } = await pull("whole", layer);
    expect([cache, digestOf(body)]).toEqual(["BYPASS", layer]);
  });

  test("[R245, R238] does not join what another registry is delivering", async () => {
    const { layer, image, path: repository } = cached.fresh();
    const { quay, ghcr } = cached.farm;
    await cached.pull(`${repository}/manifests/latest`);
    ghcr.add("org/joins", image);
    quay.faults.blob.stallAfterBytes = 50_000;
    const first = cached.pull(`${repository}/blobs/${layer}`);
    await quay.untilHeld(1);
    tellNoLength();
    expect((await pull("joins", layer)).cache).toBe("BYPASS");
    quay.release();
    expect(digestOf((await first).body)).toBe(layer);
  });
});

test("[R245, R238] a registry that tells another length does not join what another one is delivering, nor have it later", async () => {
  const { layer, image, path: repository, bytes } = cached.fresh();
  const { quay, ghcr } = cached.farm;
  await cached.pull(`${repository}/manifests/latest`);
  ghcr.add("org/short", { ...image, blobs: new Map([[layer, bytes.subarray(0, 10)]]) });
  quay.faults.blob.stallAfterBytes = 50_000;
  const first = cached.pull(`${repository}/blobs/${layer}`);
  await quay.untilHeld(1);
  expect((await pull("short", layer).catch(() => undefined))?.cache ?? "BYPASS").toBe("BYPASS");
  quay.release();
  expect(digestOf((await first).body)).toBe(layer);
  expect(await refused("short", layer)).toBe(true);
});

test("[R245, R234] a registry that delivered wrong bytes has no claim on the right ones", async () => {
  const { layer, image, bytes, path: repository } = cached.fresh();
  const wrong = bytes.map((byte) => byte ^ 1);
  cached.farm.ghcr.add("org/wrong", { ...image, blobs: new Map([[layer, wrong.subarray(1)]]) });
  expect(await refused("wrong", layer)).toBe(true);
  for (const what of ["manifests/latest", `blobs/${layer}`]) await cached.pull(`${repository}/${what}`);
  expect(await refused("wrong", layer)).toBe(true);
});

/** An image of quay whose layer is in the cache. */
async function kept() {
  const fresh = cached.fresh();
  await cached.pull(`${fresh.path}/manifests/latest`);
  // A client has its last byte before the disk has it.
  for (let cache: string | null = ""; cache !== "HIT";)
    cache = (await cached.pull(`${fresh.path}/blobs/${fresh.layer}`)).cache;
  return fresh;
}

async function pull(name: string, layer: string): Promise<Pulled> {
  await cached.pull(`/v2/ghcr/org/${name}/manifests/latest`);
  return cached.pull(`/v2/ghcr/org/${name}/blobs/${layer}`);
}

/** True when the client did not get the bytes. */
async function refused(name: string, layer: string): Promise<boolean> {
  try {
    return digestOf((await pull(name, layer)).body) !== layer;
  } catch {
    return true; // broken off, as wrong bytes must be
  }
}

/** HEAD without a length, and the one byte that stands in for it without a total. */
function tellNoLength(): void {
  Object.assign(cached.farm.ghcr.faults.blob, {
    contentLength: false,
    contentRange: "bytes 0-0/*",
    match: (request: { method: string; headers: Headers }) =>
      request.method === "HEAD" || request.headers.get("range") === "bytes=0-0",
  });
}

/** Ranges that ghcr was asked for, but the first byte. */
function askedRanges(): string[] {
  const ranges = cached.farm.ghcr.requests.map(({ headers }) => headers.get("range") ?? "");
  return ranges.filter((range) => range !== "" && range !== "bytes=0-0");
}
