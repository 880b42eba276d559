/** Eviction over records in memory and a store that is a map: what goes, what stays, who waits, and how long a turn takes. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createEviction, type EvictionOptions } from "../../../src/cache/evict.ts";
import { openRecords } from "../../../src/cache/records.ts";
import type { StoredContent } from "../../../src/cache/store.ts";
import type { Digest } from "../../../src/registry/digest.ts";
import { silent } from "../../support/http-server.ts";
import { digestOf } from "../../support/records-model.ts";

const PLACE = { registry: "https://quay.io/", repository: "org/app" };
const IDLE: EvictionOptions = { maxBytes: 1_000_000, minFreeBytes: 0, maxIdleMs: 1000 };
const never = new AbortController().signal;

/** A store of nothing but sizes; `onRemove` is called in each removal, before it is done. */
function createSizes() {
  const contents = new Map<string, number>();
  const sizes = {
    contents,
    removed: [] as string[],
    spooledBytes: 0,
    lists: 0,
    onRemove: async (_digest: string): Promise<void> => undefined,
    usage() {
      const bytes = [...contents.values()].reduce((sum, each) => sum + each, 0);
      return { bytes, count: contents.size, spooledBytes: sizes.spooledBytes, isComplete: true };
    },
    async remove({ text }: Digest): Promise<number> {
      await sizes.onRemove(text);
      const bytes = contents.get(text) ?? 0;
      contents.delete(text);
      sizes.removed.push(text);
      return bytes;
    },
    async *list(): AsyncIterable<StoredContent> {
      sizes.lists += 1;
      for (const [digest, bytes] of contents) yield { digest, bytes };
    },
  };
  return sizes;
}

function setUp(options: Partial<EvictionOptions> = {}, free: () => Promise<number> = async () => 1_000_000) {
  const clock = { ms: 10_000 };
  const now = () => clock.ms;
  const store = createSizes();
  const records = openRecords({ file: ":memory:" }, { log: silent, now });
  const dependencies = { store, records, log: silent, now, freeBytes: free };
  const eviction = createEviction({ ...IDLE, maxIdleMs: 1e9, ...options }, dependencies);

  /** Content of so many bytes, used a millisecond after the one before. */
  function keep(number: number, bytes = 10, mediaType?: string): void {
    clock.ms += 1;
    store.contents.set(digestOf(number), bytes);
    records.link(PLACE, digestOf(number), { bytes, mediaType });
  }

  /** An image: manifest `number`, with layers. */
  function keepImage(number: number, layers: readonly number[]): void {
    for (const layer of layers) keep(layer);
    keep(number, 1, "application/json");
    records.setReferences(digestOf(number), layers.map(digestOf));
    records.setTag(PLACE, `t${number}`, "list", { digest: digestOf(number), mediaType: "x", bytes: 1, checkedMs: 1 });
    clock.ms += 1;
  }

  const kept = () => [...store.contents.keys()].map((digest) => Number.parseInt(digest.slice(-8), 16));
  return { clock, store, records, eviction, keep, keepImage, kept };
}

describe("makeRoom()", () => {
  test("removes the longest unused content until so many bytes are free, and no more", async () => {
    const { eviction, keep, kept, clock, records } = setUp();
    for (const number of [1, 2, 3, 4, 5]) keep(number);
    clock.ms += 10;
    records.used(digestOf(1), clock.ms);
    clock.ms += 10;
    expect(await eviction.makeRoom(15)).toBe(true);
    expect(kept()).toEqual([1, 4, 5]);
    expect(records.isLinked(PLACE, digestOf(2))).toBe(false);
    expect(records.isLinked(PLACE, digestOf(4))).toBe(true);
  });

  test("removes nothing for what can never fit", async () => {
    const { eviction, keep, kept, clock } = setUp();
    for (const number of [1, 2]) keep(number);
    clock.ms += 10;
    expect(await eviction.makeRoom(21)).toBe(false);
    expect(await eviction.makeRoom(0)).toBe(true);
    expect(kept()).toEqual([1, 2]);
  });

  test("removes the oldest image whole, its manifest and tag first", async () => {
    const { eviction, keepImage, store, records } = setUp();
    keepImage(100, [1, 2]);
    keepImage(200, [3]);
    expect(await eviction.makeRoom(15)).toBe(true);
    expect(store.removed).toEqual([digestOf(100), digestOf(1), digestOf(2)]);
    expect(records.tag(PLACE, "t100", "list")).toBeUndefined();
    expect(records.tag(PLACE, "t200", "list")).toBeDefined();
  });

  test("[T10] keeps the layers that a used image shares with the removed one", async () => {
    const { eviction, keepImage, kept } = setUp();
    keepImage(100, [1, 2]);
    keepImage(200, [3]);
    keepImage(300, [1]);
    expect(await eviction.makeRoom(20)).toBe(true);
    expect(kept().toSorted((a, b) => a - b)).toEqual([1, 300]);
  });

  test("keeps pinned images with everything they name, and says false when only they are left", async () => {
    const { eviction, keepImage, kept, records } = setUp();
    keepImage(100, [1, 2]);
    keepImage(200, [3]);
    records.pin(digestOf(100));
    expect(await eviction.makeRoom(30)).toBe(false);
    expect(kept().toSorted((a, b) => a - b)).toEqual([1, 2, 100]);
  });

  test("leaves what was used since it began", async () => {
    const { eviction, keep, kept, clock, records, store } = setUp();
    for (const number of [1, 2, 3]) keep(number);
    clock.ms += 10;
    store.onRemove = async (digest) => {
      if (digest === digestOf(1)) records.used(digestOf(2), clock.ms + 5);
    };
    expect(await eviction.makeRoom(20)).toBe(true);
    expect(kept()).toEqual([2]);
  });

  test("shares one run between those who ask at the same time", async () => {
    const { eviction, keep, kept, clock } = setUp();
    for (let number = 0; number < 20; number += 1) keep(number);
    clock.ms += 10;
    const answers = await Promise.all([30, 50, 40].map((bytes) => eviction.makeRoom(bytes)));
    expect(answers).toEqual([true, true, true]);
    expect(kept()).toHaveLength(15);
  });

  test("goes on for one who comes while a run is at its end", async () => {
    const { eviction, keep, clock, store } = setUp();
    for (const number of [1, 2, 3]) keep(number);
    clock.ms += 10;
    expect(await eviction.makeRoom(10)).toBe(true);
    expect(await eviction.makeRoom(10)).toBe(true);
    for (let turns = 0; turns < 12; turns += 1) {
      keep(50);
      keep(51);
      clock.ms += 10;
      const first = eviction.makeRoom(10);
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      clock.ms += 10;
      expect([await eviction.makeRoom(10), await first]).toEqual([true, true]);
    }
    expect(store.removed.length).toBeGreaterThan(12);
  });

  test("finds content that the records do not know when nothing else is left", async () => {
    const { eviction, store, kept } = setUp();
    for (const number of [1, 2, 3]) store.contents.set(digestOf(number), 10);
    expect(await eviction.makeRoom(20)).toBe(true);
    expect(kept()).toHaveLength(1);
    expect(store.lists).toBe(1);
  });

  test("goes on when a removal fails, and does not count it", async () => {
    const { eviction, keep, kept, clock, store } = setUp();
    for (const number of [1, 2, 3]) keep(number);
    clock.ms += 10;
    store.onRemove = async (digest) => {
      if (digest === digestOf(1)) throw new Error("input/output error");
    };
    expect(await eviction.makeRoom(20)).toBe(true);
    expect(kept()).toEqual([1]);
  });

  test("says false when the records are closed", async () => {
    const { eviction, keep, kept, records } = setUp();
    keep(1);
    records.close();
    expect(await eviction.makeRoom(5)).toBe(false);
    expect(kept()).toEqual([1]);
  });
});

describe("sweep()", () => {
  test("removes what is idle and leaves the rest", async () => {
    const { eviction, keep, kept, clock } = setUp(IDLE);
    keep(1);
    clock.ms += 900;
    keep(2);
    clock.ms += 200;
    await eviction.sweep(never);
    expect(kept()).toEqual([2]);
  });

  test("returns to the budget, running downloads included", async () => {
    const { eviction, keep, kept, clock, store } = setUp({ maxBytes: 45 });
    for (const number of [1, 2, 3, 4]) keep(number);
    clock.ms += 10;
    await eviction.sweep(never);
    expect(kept()).toEqual([1, 2, 3, 4]);
    store.spooledBytes = 20;
    await eviction.sweep(never);
    expect(kept()).toEqual([3, 4]);
  });

  test("returns to the free space of the disk", async () => {
    const { eviction, keep, kept, clock } = setUp({ minFreeBytes: 100 }, async () => 85);
    for (const number of [1, 2, 3]) keep(number);
    clock.ms += 10;
    await eviction.sweep(never);
    expect(kept()).toEqual([3]);
  });

  test("learns about unknown content at first and once a day", async () => {
    const { eviction, store, records, clock, kept } = setUp(IDLE);
    store.contents.set(digestOf(1), 10);
    await eviction.sweep(never);
    await eviction.sweep(never);
    expect(store.lists).toBe(1);
    expect(records.totals()).toMatchObject({ contents: 1, bytes: 10, links: 0 });
    clock.ms += 24 * 60 * 60_000;
    await eviction.sweep(never);
    expect(store.lists).toBe(2);
    expect(kept()).toEqual([]);
  });

  test("ends early when told to", async () => {
    const { eviction, keep, kept, clock, store } = setUp(IDLE);
    for (let number = 0; number < 30; number += 1) keep(number);
    clock.ms += 5000;
    const controller = new AbortController();
    store.onRemove = async (digest) => {
      if (digest === digestOf(4)) controller.abort();
    };
    await eviction.sweep(controller.signal);
    expect(kept()).toHaveLength(25);
  });

  test("never rejects, and can be repeated", async () => {
    const broken = async () => {
      throw new Error("stale file handle");
    };
    const { eviction, keep, clock } = setUp(IDLE, broken);
    keep(1);
    clock.ms += 5000;
    await eviction.sweep(never);
    await eviction.sweep(never);
  });

  test("waits while the records catch up with their log, or that would grow without bound", async () => {
    const { store, records, clock, keep, kept } = setUp();
    for (let number = 1; number <= 100; number += 1) keep(number);
    const [asked, caughtUp] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const settled = () => (asked.resolve(), caughtUp.promise);
    const options = { ...IDLE, maxBytes: 0, maxIdleMs: 1e9 };
    const dependencies = { store, log: silent, now: () => clock.ms, freeBytes: async () => 1_000_000 };
    const eviction = createEviction(options, { ...dependencies, records: { ...records, settled } });
    clock.ms += 10;
    const room = eviction.makeRoom(1000);
    await asked.promise;
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(kept().length).toBeGreaterThan(80);
    caughtUp.resolve();
    expect(await room).toBe(true);
    expect(kept()).toEqual([]);
  });

  test("serves makeRoom() while it runs", async () => {
    const { eviction, keep, kept, clock } = setUp(IDLE);
    for (let number = 0; number < 50; number += 1) keep(number);
    clock.ms += 5000;
    for (let number = 50; number < 60; number += 1) keep(number);
    clock.ms += 10;
    const sweep = eviction.sweep(never);
    expect(await eviction.makeRoom(550)).toBe(true);
    await sweep;
    expect(kept()).toEqual([55, 56, 57, 58, 59]);
  });
});

test("eviction never leaves a manifest without a layer that was there, and takes no used image before an unused one", async () => {
  const image = fc.record({ layers: fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 4 }), pinned: fc.boolean() });
  const property = fc.asyncProperty(
    fc.array(image, { minLength: 1, maxLength: 8 }),
    fc.array(fc.nat(7), { maxLength: 6 }),
    fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 4 }),
    async (images, uses, rooms) => {
      const { eviction, keepImage, kept, records, clock, store } = setUp();
      const usedMs = new Map<number, number>();
      for (const [index, { layers, pinned }] of images.entries()) {
        keepImage(100 + index, layers);
        usedMs.set(index, clock.ms);
        if (pinned) records.pin(digestOf(100 + index));
      }
      for (const use of uses) {
        clock.ms += 5;
        if (use < images.length) usedMs.set(use, clock.ms);
        records.used(digestOf(100 + use), clock.ms);
      }
      clock.ms += 5;
      for (const bytes of rooms) {
        const before = store.usage().bytes;
        const hasRoom = await eviction.makeRoom(bytes);
        if (hasRoom) expect(before - store.usage().bytes).toBeGreaterThanOrEqual(bytes);
        clock.ms += 5;
      }
      const left = new Set(kept());
      for (const [index, { layers, pinned }] of images.entries()) {
        if (pinned) expect(left.has(100 + index)).toBe(true);
        if (left.has(100 + index)) for (const layer of layers) expect(left.has(layer)).toBe(true);
        for (const [other, { pinned: isOtherPinned }] of images.entries()) {
          const isOlder = (usedMs.get(other) ?? 0) < (usedMs.get(index) ?? 0);
          if (isOlder && !isOtherPinned && !left.has(100 + index)) expect(left.has(100 + other)).toBe(false);
        }
      }
      records.close();
    },
  );
  await fc.assert(property, { numRuns: 150 });
});

test("a sweep over 100,000 contents gives others their turn (delays are printed)", async () => {
  const { eviction, store, clock } = setUp(IDLE);
  for (let number = 0; number < 100_000; number += 1) store.contents.set(digestOf(number), 1);
  const delays: number[] = [];
  let isOver = false;
  const watch = (async () => {
    while (!isOver) {
      const begin = performance.now();
      await new Promise((resolve) => setImmediate(resolve));
      delays.push(performance.now() - begin);
    }
  })();
  const begin = performance.now();
  await eviction.sweep(never);
  const learntMs = performance.now() - begin;
  clock.ms += 5000;
  await eviction.sweep(never);
  const sweptMs = performance.now() - begin - learntMs;
  isOver = true;
  await watch;
  delays.sort((a, b) => a - b);
  const at = (share: number) => `${(delays[Math.floor((delays.length - 1) * share)] ?? 0).toFixed(1)} ms`;
  console.log({ learntMs, sweptMs, p50: at(0.5), p99: at(0.99), longest: at(1) });
  expect(store.contents.size).toBe(0);
}, 60_000);
