/** A follower that goes on without its fill: what it begins ends with it, whenever that is. */
import { expect, test } from "bun:test";
import { createDetour } from "../../../src/cache/detour.ts";
import type { Followed } from "../../../src/cache/followed.ts";
import type { Download } from "../../../src/download/download.ts";
import { digestOfBytes } from "../../support/fill-source.ts";

test("cancel() ends also the download that begins after it", async () => {
  const cancelled: unknown[] = [];
  const hashing = Promise.withResolvers<undefined>();
  const download: Download = {
    position: 10,
    totalBytes: 20,
    open: async () => undefined,
    next: async () => new Uint8Array(10),
    cancel: (reason) => void cancelled.push(reason),
  };
  const followed: Followed = {
    digest: digestOfBytes(new Uint8Array(20)),
    state: () => ({ kind: "detour", error: new Error("the disk is gone") }),
    limit: () => 10,
    totalBytes: () => 20,
    onChange: () => () => undefined,
    recent: { take: () => undefined, nextStart: () => undefined },
    openReader: async () => undefined,
    takeSpare: () => undefined,
    startOwn: () => download,
    isRight: async () => false,
    hashOfFirst: () => hashing.promise,
  };
  const detour = createDetour(followed, { first: 5, position: 10, last: undefined, reader: undefined });
  const next = detour.next().catch((error: unknown) => error);
  const left = new Error("the client left");
  detour.cancel(left);
  hashing.resolve(undefined);
  expect(await next).toBe(left);
  expect(cancelled).toEqual([left]);
});
