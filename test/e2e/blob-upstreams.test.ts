/** A blob whose upstream begins and does not get on: the registry's next upstream goes on, from the byte where it stopped. */
import { expect, test } from "bun:test";
import { startCached } from "../support/cached.ts";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { digestOf } from "../support/images.ts";

test.each([true, false])("[R262, C11] the next upstream goes on, through the cache: %p", async (isCached) => {
  const mirror = await createFakeRegistry();
  try {
    await using own = await startCached({ seed: `next-${isCached}`, isCached, mirrors: { quay: mirror.url } });
    const { quay } = own.farm;
    const { path, repository, image, layer } = own.fresh([3_000_000]);
    mirror.add(repository, image);
    expect((await own.pull(`${path}/manifests/latest`)).status).toBe(200);
    quay.faults.blob.cutAfterBytes = 100_000;
    const { status, body } = await own.pull(`${path}/blobs/${layer}`);
    expect([status, digestOf(body)]).toEqual([200, layer]);
    expect([quay.count({ path: /blobs/ }), mirror.count({ path: /blobs/ })]).toEqual([1, 1]);
    const range = mirror.requests.at(-1)?.headers.get("range") ?? "";
    expect(Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0)).toBeLessThanOrEqual(100_000);
  } finally {
    await mirror.close();
  }
});

test("[R262] a break far behind the one before is the same upstream's to mend", async () => {
  const mirror = await createFakeRegistry();
  try {
    await using own = await startCached({ seed: "same", mirrors: { quay: mirror.url } });
    const { path, repository, image, layer } = own.fresh([6_000_000]);
    mirror.add(repository, image);
    own.farm.quay.faults.blob.cutAfterBytes = 2_000_000;
    own.farm.quay.faults.blob.cutWith = "fin";
    expect(digestOf((await own.pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
    expect(mirror.count({ path: /blobs/ })).toBe(0);
  } finally {
    await mirror.close();
  }
});
