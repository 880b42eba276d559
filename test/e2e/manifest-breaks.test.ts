/** A manifest that breaks off on its way from the registry: no client has a header yet, so none need know (docs/request-handling.md, 8). */
import { expect, test } from "bun:test";
import { startCached } from "../support/cached.ts";
import { digestOf } from "../support/images.ts";

const GETS = { method: "GET", path: /\/manifests\// };

for (const isCached of [true, false]) {
  const where = isCached ? "through the cache" : "without a cache";

  test.each(["reset", "fin"] as const)(`[R262] cut once by a %s, it is got once more, ${where}`, async (cutWith) => {
    await using own = await startCached({ seed: "cut", isCached });
    const { path, image } = own.fresh();
    own.farm.quay.faults.manifest = { cutAfterBytes: 50, cutWith, times: 1, match: ({ method }) => method === "GET" };
    const { status, body } = await own.pull(`${path}/manifests/latest`);
    expect([status, digestOf(body)]).toEqual([200, image.digest]);
    expect(own.farm.quay.count(GETS)).toBe(2);
  });

  test(`[R262] cut again and again, it is 502 after the second time, ${where}`, async () => {
    await using own = await startCached({ seed: "cut", isCached });
    const { path, image } = own.fresh();
    own.farm.quay.faults.manifest = { cutAfterBytes: 50, match: ({ method }) => method === "GET" };
    const { status } = await own.pull(`${path}/manifests/${image.digest}`);
    expect([status, own.farm.quay.count(GETS)]).toEqual([502, 2]);
  });

  test(`[R234] wrong bytes are not asked for again, ${where}`, async () => {
    await using own = await startCached({ seed: "cut", isCached });
    const { path, image } = own.fresh();
    own.farm.quay.faults.manifest = { corrupt: true, match: ({ method }) => method === "GET" };
    const { status } = await own.pull(`${path}/manifests/${image.digest}`);
    expect([status, own.farm.quay.count(GETS)]).toEqual([502, 1]);
  });
}
