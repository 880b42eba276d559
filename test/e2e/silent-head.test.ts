/** A registry that says nothing for longer than `--idle-timeout`, where that is shorter than `--header-timeout`. */
import { expect, test } from "bun:test";
import { startCached } from "../support/cached.ts";

const TIMES = ["--idle-timeout", "200ms", "--header-timeout", "1s"];

for (const isCached of [true, false])
  test(`[R258] a blob's head that does not come is 503, ${isCached ? "through the cache" : "without a cache"}`, async () => {
    await using own = await startCached({ seed: "silent", isCached, args: TIMES });
    const { path, layer } = own.fresh();
    await own.pull(`${path}/manifests/latest`);
    own.farm.quay.faults.blob = { stallBeforeHeaders: true, match: ({ method }) => method === "GET" };
    const { status, body } = await own.pull(`${path}/blobs/${layer}`);
    expect([status, new TextDecoder().decode(body)]).toEqual([503, expect.stringContaining("UNAVAILABLE")]);
    own.farm.quay.reset();
  });
