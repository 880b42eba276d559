/** Fills over a store in memory: one download, many readers, and everything that may go wrong on either side. */
import { describe, expect, test } from "bun:test";
import { createFills, type Fill, type FillResult, type Fills } from "../../../src/cache/fill.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { StoreError } from "../../../src/cache/store.ts";
import { RegistryError, UpstreamError } from "../../../src/errors.ts";
import { createFakeSource, digestOfBytes, drain, noise } from "../../support/fill-source.ts";
import { createMemoryStore, type MemoryStore, type MemoryStoreOptions } from "../../support/memory-store.ts";

const silent = { info: () => undefined, warn: () => undefined };
const WHOLE = { first: 0, last: undefined };

interface Setup {
  readonly store: MemoryStore;
  readonly fills: Fills;
  readonly waits: number[];
}

function setup(options: MemoryStoreOptions & { maxFills?: number; idleTimeoutMs?: number } = {}): Setup {
  const store = createMemoryStore(options);
  const waits: number[] = [];
  const downloads = createDownloads(
    { idleTimeoutMs: options.idleTimeoutMs ?? 5000 },
    {
      random: () => 0,
      sleep: async (ms, signal) => {
        signal.throwIfAborted();
        waits.push(ms);
      },
    },
  );
  const fills = createFills({ maxFills: options.maxFills ?? 10 }, { store, log: silent, downloads });
  return { store, fills, waits };
}

function joined(fill: Fill | undefined): Fill {
  if (fill === undefined) throw new Error("the fill was refused");
  return fill;
}

function failureOf(result: FillResult): unknown {
  return result.kind === "failed" ? result.error : "committed";
}

function gate(): { opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}

describe("one download", () => {
  test("[R238, T1] fifty readers get the content by one request", async () => {
    const { store, fills } = setup();
    const bytes = noise(200_000, 1);
    const source = createFakeSource({ bytes });
    const readers = Array.from({ length: 50 }, () =>
      drain(joined(fills.join(digestOfBytes(bytes), source.open)).follow(WHOLE)),
    );
    expect(fills.count).toBe(1);
    for (const got of await Promise.all(readers)) expect(got.bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0]);
    expect(source.sentBytes).toBe(200_000);
    expect(store.bytesOf(digestOfBytes(bytes))).toEqual(bytes);
    await fills.close();
    expect([fills.count, store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0, 0]);
  });

  test("[R239, T2] goes on to its end when the first reader, or every reader, leaves", async () => {
    const { store, fills } = setup();
    const bytes = noise(100_000, 2);
    const third = gate();
    const source = createFakeSource({ bytes, beforePiece: (sent) => (sent < 30_000 ? undefined : third.opened) });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    const reader = fill.follow(WHOLE).getReader();
    await reader.read();
    await reader.cancel();
    third.open();
    expect(await fill.done).toEqual({ kind: "committed", content: { digest: fill.digest.text, bytes: 100_000 } });
    expect(store.openReaders).toBe(0);
  });

  test("[R260, T28] a reader that stands still slows nobody and is still whole later", async () => {
    const { store, fills } = setup();
    const bytes = noise(400_000, 3);
    const fill = joined(fills.join(digestOfBytes(bytes), createFakeSource({ bytes }).open));
    const dead = fill.follow(WHOLE).getReader();
    const first = await dead.read();
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    await fill.done;
    await store.remove(fill.digest);
    let position = first.value?.byteLength ?? 0;
    for (;;) {
      const { done, value } = await dead.read();
      if (done) break;
      expect(Buffer.from(value).equals(bytes.subarray(position, position + value.byteLength))).toBe(true);
      position += value.byteLength;
    }
    expect(position).toBe(400_000);
    expect(store.openReaders).toBe(0);
  });

  test("bytes flow before the end is known", async () => {
    const { fills } = setup();
    const bytes = noise(100_000, 4);
    const rest = gate();
    const source = createFakeSource({ bytes, beforePiece: (sent) => (sent < 50_000 ? undefined : rest.opened) });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    expect(await fill.head).toEqual({ totalBytes: 100_000 });
    const reader = fill.follow(WHOLE).getReader();
    for (let position = 0; position < 50_000;) position += (await reader.read()).value?.byteLength ?? Infinity;
    expect(fill.position).toBe(50_000);
    rest.open();
    await fill.done;
  });

  test.each([
    ["the beginning", 0, 9],
    ["one byte", 5000, 5000],
    ["the middle", 10_000, 60_000],
    ["the end", 90_000, 99_999],
    ["the last byte", 99_999, 99_999],
    ["more than there is", 50_000, 1_000_000],
    ["an open end", 70_000, undefined],
  ])("[T21, R265] a reader of %s gets exactly that", async (_what, first, last) => {
    const { fills } = setup();
    const bytes = noise(100_000, 5);
    for (const isTotalTold of [true, false]) {
      const fill = joined(fills.join(digestOfBytes(bytes), createFakeSource({ bytes, isTotalTold }).open));
      const got = await drain(fill.follow({ first, last }));
      expect(got.error).toBeUndefined();
      expect(got.bytes.equals(bytes.subarray(first, (last ?? 99_999) + 1))).toBe(true);
      await fill.done;
    }
  });

  test("a range that begins behind the end errors, alone", async () => {
    const { fills } = setup();
    const bytes = noise(1000, 6);
    const fill = joined(fills.join(digestOfBytes(bytes), createFakeSource({ bytes }).open));
    expect((await drain(fill.follow({ first: 1000, last: undefined }))).error).toBeInstanceOf(RangeError);
    expect((await drain(fill.follow(WHOLE))).error).toBeUndefined();
  });

  test("content of no bytes ends when its digest is right, and errors otherwise", async () => {
    const { fills } = setup();
    const nothing = new Uint8Array(0);
    const fill = joined(fills.join(digestOfBytes(nothing), createFakeSource({ bytes: nothing }).open));
    expect(await drain(fill.follow(WHOLE))).toMatchObject({ error: undefined });
    expect((await fill.done).kind).toBe("committed");
    const wrong = joined(fills.join(digestOfBytes(noise(1, 1)), createFakeSource({ bytes: nothing }).open));
    expect((await drain(wrong.follow(WHOLE))).error).toBeInstanceOf(UpstreamError);
  });

  test("follow() after the end reads what was committed, and asks upstream again when that is gone", async () => {
    const { store, fills } = setup();
    const bytes = noise(100_000, 7);
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    await fill.done;
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0]);
    await store.remove(fill.digest);
    expect((await drain(fill.follow({ first: 10, last: undefined }))).bytes.equals(bytes.subarray(10))).toBe(true);
    expect(source.offsets).toEqual([0, 10]);
  });

  test("join() refuses a download too many, and gives its place to the next", async () => {
    const { fills } = setup({ maxFills: 1 });
    const [one, two] = [noise(1000, 8), noise(1000, 9)];
    const hold = gate();
    const fill = joined(
      fills.join(digestOfBytes(one), createFakeSource({ bytes: one, beforePiece: () => hold.opened }).open),
    );
    const other = createFakeSource({ bytes: two });
    expect(fills.join(digestOfBytes(two), other.open)).toBeUndefined();
    expect(fills.join(digestOfBytes(one), other.open)).toBe(fill);
    expect(fills.running(digestOfBytes(one))).toBe(fill);
    hold.open();
    await fill.done;
    expect(fills.running(digestOfBytes(one))).toBeUndefined();
    expect(fills.join(digestOfBytes(two), other.open)).toBeDefined();
  });
});

describe("broken upstreams", () => {
  test("[R262, T3] a break is mended from the byte where it happened, and nobody notices", async () => {
    const { store, fills, waits } = setup();
    const bytes = noise(100_000, 10);
    const source = createFakeSource({
      bytes,
      breaks: [
        { kind: "error", after: 60_000 },
        { kind: "end", after: 10_000 },
        { kind: "refuse", error: new Error("down") },
      ],
    });
    const got = await drain(joined(fills.join(digestOfBytes(bytes), source.open)).follow(WHOLE));
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0, 60_000, 70_000, 70_000]);
    expect(source.sentBytes).toBe(100_000);
    expect(waits).toEqual([100, 200, 400]);
    expect(store.bytesOf(digestOfBytes(bytes))).toBeDefined();
  });

  test("[R272] an upstream that cannot begin in the middle is read past what is there", async () => {
    const { fills } = setup();
    const bytes = noise(100_000, 11);
    const source = createFakeSource({ bytes, breaks: [{ kind: "error", after: 33_333 }], takesOffsets: false });
    const got = await drain(joined(fills.join(digestOfBytes(bytes), source.open)).follow(WHOLE));
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0, 33_333]);
  });

  test("a break without a known length asks for the last byte again, never for nothing", async () => {
    const { fills } = setup();
    const bytes = noise(50_000, 12);
    const source = createFakeSource({ bytes, isTotalTold: false, breaks: [{ kind: "error", after: 50_000 }] });
    const got = await drain(joined(fills.join(digestOfBytes(bytes), source.open)).follow(WHOLE));
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0, 49_999]);
  });

  test("an upstream that breaks each time is given up after five tries, and the bytes are kept", async () => {
    const { store, fills, waits } = setup();
    const bytes = noise(100_000, 13);
    const breaks = Array.from({ length: 10 }, () => ({ kind: "error", after: 5000 }) as const);
    const source = createFakeSource({ bytes, breaks });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    const got = await drain(fill.follow(WHOLE));
    expect(String(got.error)).toContain("reset by the fake upstream");
    expect(bytes.subarray(0, got.bytes.byteLength)).toEqual(new Uint8Array(got.bytes));
    expect(waits).toHaveLength(5);
    await fill.done;
    expect(store.usage().spooledBytes).toBe(30_000);
    const again = createFakeSource({ bytes });
    const next = joined(fills.join(digestOfBytes(bytes), again.open));
    expect((await drain(next.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(again.offsets).toEqual([29_999]);
    expect(source.openBodies + again.openBodies).toBe(0);
  });

  test("progress between breaks gives new tries", async () => {
    const { fills } = setup();
    const bytes = noise(10 * 1_100_000, 14);
    const breaks = Array.from({ length: 9 }, () => ({ kind: "error", after: 1_100_000 }) as const);
    const source = createFakeSource({ bytes, breaks, pieceBytes: () => 100_000 });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    expect((await fill.done).kind).toBe("committed");
    expect(source.offsets).toHaveLength(10);
  });

  test("what the source throws first is what head rejects with; without tries", async () => {
    const { store, fills, waits } = setup();
    const error = new RegistryError("DENIED", "no");
    const bytes = noise(10, 15);
    const source = createFakeSource({ bytes, breaks: [{ kind: "refuse", error }] });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    const got = drain(fill.follow(WHOLE));
    await expect(fill.head).rejects.toBe(error);
    expect((await got).error).toBe(error);
    expect(failureOf(await fill.done)).toBe(error);
    expect([source.offsets.length, waits.length, store.openSpools]).toEqual([1, 0, 0]);
    expect(fills.running(fill.digest)).toBeUndefined();
  });

  test("a definite answer in mid-content ends the tries", async () => {
    const { fills, waits } = setup();
    const bytes = noise(100_000, 16);
    const error = new RegistryError("BLOB_UNKNOWN", "gone", { status: 404 });
    const source = createFakeSource({
      bytes,
      breaks: [
        { kind: "error", after: 20_000 },
        { kind: "refuse", error },
      ],
    });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    expect(failureOf(await fill.done)).toBe(error);
    expect(waits).toHaveLength(1);
  });

  test("another length on the second answer is not mixed with the first", async () => {
    const { store, fills } = setup();
    const bytes = noise(100_000, 17);
    const first = createFakeSource({ bytes, breaks: [{ kind: "error", after: 50_000 }] });
    const second = createFakeSource({ bytes: noise(100_001, 17) });
    let calls = 0;
    const fill = joined(
      fills.join(digestOfBytes(bytes), (offset, signal) =>
        calls++ === 0 ? first.open(offset, signal) : second.open(offset, signal),
      ),
    );
    const got = await drain(fill.follow(WHOLE));
    expect(String(got.error)).toContain("expected content of 100000 bytes, now it has 100001");
    expect(got.bytes.byteLength).toBeLessThanOrEqual(50_000);
    expect(calls).toBe(2);
    expect(store.bytesOf(fill.digest)).toBeUndefined();
    expect(second.openBodies).toBe(0);
  });

  test.each([
    ["wrong bytes", noise(100_000, 18), noise(100_000, 19), true],
    ["a page", noise(100_000, 18), new TextEncoder().encode(`<html>${"sorry ".repeat(20_000)}</html>`), true],
    ["a page without length", noise(100_000, 18), new TextEncoder().encode("<html>"), false],
    ["a cut body with a clean end", noise(100_000, 18), noise(60_000, 18), false],
    ["a body that is too long", noise(100_000, 18), noise(120_000, 18), false],
    ["nothing", noise(100_000, 18), new Uint8Array(0), false],
  ])("[R234–R237, T12, T13] %s is never committed nor ended politely", async (_what, right, sent, isTotalTold) => {
    const { store, fills } = setup();
    const source = createFakeSource({ bytes: sent, isTotalTold });
    const fill = joined(fills.join(digestOfBytes(right), source.open));
    const got = await Promise.all([
      drain(fill.follow(WHOLE)),
      drain(fill.follow({ first: 0, last: sent.byteLength - 1 })),
      drain(fill.follow({ first: Math.max(0, sent.byteLength - 5), last: undefined })),
    ]);
    for (const { bytes, error } of got) {
      expect(error).toBeInstanceOf(UpstreamError);
      expect(bytes.byteLength).toBeLessThan(Math.max(1, sent.byteLength));
    }
    expect(failureOf(await fill.done)).toBeInstanceOf(UpstreamError);
    expect(store.bytesOf(fill.digest)).toBeUndefined();
    expect(store.usage()).toMatchObject({ count: 0, spooledBytes: 0 });
    expect([store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0]);
  });

  test("a silent body is broken after the idle time, and mended while somebody reads", async () => {
    const { fills } = setup({ idleTimeoutMs: 30 });
    const bytes = noise(100_000, 20);
    const source = createFakeSource({ bytes, breaks: [{ kind: "silence", after: 40_000 }] });
    const got = await drain(joined(fills.join(digestOfBytes(bytes), source.open)).follow(WHOLE));
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0, 40_000]);
  });

  test("[R239] a silent body that nobody reads ends the fill and keeps its bytes", async () => {
    const { store, fills } = setup({ idleTimeoutMs: 30 });
    const bytes = noise(100_000, 21);
    const source = createFakeSource({ bytes, breaks: [{ kind: "silence", after: 40_000 }] });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    expect(failureOf(await fill.done)).toMatchObject({ kind: "timeout" });
    expect(source.offsets).toEqual([0]);
    expect(store.usage().spooledBytes).toBe(40_000);
    expect(source.openBodies).toBe(0);
  });

  test("a source that never answers is given up after the idle time", async () => {
    const { fills } = setup({ idleTimeoutMs: 20 });
    const fill = joined(fills.join(digestOfBytes(noise(1, 1)), () => new Promise(() => undefined)));
    expect(failureOf(await fill.done)).toMatchObject({ kind: "timeout" });
  });
});

describe("what an earlier download left", () => {
  const bytes = noise(100_000, 30);
  const digest = digestOfBytes(bytes);

  test("is gone on with; readers begin with it", async () => {
    const { store, fills } = setup();
    store.leave(digest, bytes.slice(0, 60_000));
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digest, source.open));
    expect(await fill.head).toEqual({ totalBytes: 100_000 });
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([59_999]);
    expect(source.sentBytes).toBe(40_001);
  });

  test("costs one byte when it is whole already", async () => {
    const { store, fills } = setup();
    store.leave(digest, bytes);
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digest, source.open));
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.sentBytes).toBe(1);
    expect((await fill.done).kind).toBe("committed");
  });

  test("and is longer than the content is thrown away, whether the upstream says its length or refuses the range", async () => {
    const { store, fills } = setup();
    for (const isRefused of [true, false]) {
      store.leave(digest, noise(200_000, 31));
      const source = createFakeSource({ bytes });
      const fill = joined(
        fills.join(digest, (wanted, signal) => {
          if (wanted.first < 100_000) return source.open(wanted, signal);
          if (isRefused) throw new RegistryError("RANGE_INVALID", "beyond the end");
          return source.open({ ...wanted, first: 0 }, signal);
        }),
      );
      expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
      expect((await fill.done).kind).toBe("committed");
      await store.remove(digest);
    }
  });

  test("and is wrong fails this download, and the next is clean", async () => {
    const { store, fills } = setup();
    store.leave(digest, noise(50_000, 32));
    const first = joined(fills.join(digest, createFakeSource({ bytes }).open));
    expect((await drain(first.follow(WHOLE))).error).toBeInstanceOf(UpstreamError);
    await first.done;
    const source = createFakeSource({ bytes });
    expect((await drain(joined(fills.join(digest, source.open)).follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0]);
  });

  test("a new download waits until the last one has put its bytes away", async () => {
    const hold = gate();
    const { fills } = setup({ beforeSuspend: () => hold.opened });
    const error = new RegistryError("BLOB_UNKNOWN", "gone", { status: 404 });
    const broken = createFakeSource({
      bytes,
      breaks: [
        { kind: "error", after: 20_000 },
        { kind: "refuse", error },
      ],
    });
    const first = joined(fills.join(digest, broken.open));
    await drain(first.follow(WHOLE));
    const source = createFakeSource({ bytes });
    const second = joined(fills.join(digest, source.open));
    expect(second).not.toBe(first);
    hold.open();
    expect((await drain(second.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([19_999]);
  });
});

describe("[R263, T19] a store that fails fails no pull", () => {
  const bytes = noise(1_200_000, 40);
  const digest = digestOfBytes(bytes);

  test.each(["spool", "expect"] as const)("at %s: the one reader costs one request", async (kind) => {
    const { store, fills } = setup({ fault: (step) => (step.kind === kind ? "full" : undefined) });
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digest, source.open));
    expect(await fill.head).toEqual({ totalBytes: 1_200_000 });
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0]);
    expect(failureOf(await fill.done)).toBeInstanceOf(StoreError);
    expect([store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0]);
  });

  test.each(["full", "broken"] as const)(
    "in mid-content (%s): each reader goes on from where it is",
    async (failure) => {
      const { store, fills } = setup({
        fault: ({ kind, length }) => (kind === "append" && length >= 300_000 ? failure : undefined),
      });
      const source = createFakeSource({ bytes, pieceBytes: () => 50_000 });
      const fill = joined(fills.join(digest, source.open));
      const ranges = [
        WHOLE,
        WHOLE,
        { first: 50_000, last: 900_000 },
        { first: 10, last: 20 },
        { first: 800_000, last: undefined },
      ];
      const got = await Promise.all(ranges.map((range) => drain(fill.follow(range))));
      for (const [index, { first, last = 1_199_999 }] of ranges.entries()) {
        expect(got[index]?.error).toBeUndefined();
        expect(got[index]?.bytes.equals(bytes.subarray(first, last + 1))).toBe(true);
      }
      expect(source.sentBytes).toBeLessThanOrEqual(1_200_000 + 3 * 900_000);
      expect(failureOf(await fill.done)).toMatchObject({ kind: failure });
      expect(store.bytesOf(digest)).toBeUndefined();
      expect([store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0]);
    },
  );

  test("in mid-content with one reader: nothing is fetched twice", async () => {
    const { fills } = setup({ fault: ({ kind, length }) => (kind === "append" && length > 0 ? "full" : undefined) });
    const source = createFakeSource({ bytes, pieceBytes: () => 30_000 });
    expect((await drain(joined(fills.join(digest, source.open)).follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0]);
    expect(source.sentBytes).toBe(1_200_000);
  });

  test("when nobody knew the length: the whole is hashed, a part to an unknown end is broken off", async () => {
    const { fills } = setup({ fault: ({ kind, length }) => (kind === "append" && length > 0 ? "full" : undefined) });
    const source = createFakeSource({ bytes, isTotalTold: false, pieceBytes: () => 30_000 });
    const fill = joined(fills.join(digest, source.open));
    const [whole, part, end] = await Promise.all([
      drain(fill.follow(WHOLE)),
      drain(fill.follow({ first: 600_000, last: 900_000 })),
      drain(fill.follow({ first: 900_000, last: undefined })),
    ]);
    expect(whole.error).toBeUndefined();
    expect(whole.bytes.equals(bytes)).toBe(true);
    expect(part.error).toBeUndefined();
    expect(part.bytes.equals(bytes.subarray(600_000, 900_001))).toBe(true);
    expect(end.error).toBeInstanceOf(UpstreamError);
  });

  test.each(["verify", "commit"] as const)("at %s", async (kind) => {
    const { store, fills } = setup({ fault: (step) => (step.kind === kind ? "broken" : undefined) });
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digest, source.open));
    const got = await Promise.all([
      drain(fill.follow(WHOLE)),
      drain(fill.follow({ first: 1_199_999, last: 1_199_999 })),
    ]);
    expect(got[0].bytes.equals(bytes)).toBe(true);
    expect(got[1].bytes.equals(bytes.subarray(1_199_999))).toBe(true);
    expect((await fill.done).kind).toBe("failed");
    expect([store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0]);
  });

  test("when it cannot be read", async () => {
    const { fills } = setup({ fault: ({ kind, length }) => (kind === "read" && length > 0 ? "broken" : undefined) });
    const source = createFakeSource({ bytes, pieceBytes: () => 100_000 });
    const fill = joined(fills.join(digest, source.open));
    expect((await drain(fill.follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect((await fill.done).kind).toBe("committed");
  });

  test.each([
    ["is asked for from its beginning, and is whole", true],
    ["is never whole when it was wrong", false],
  ])("when it cannot be read any more, what a reader has of it %s", async (_what, isRight) => {
    let isBroken = false;
    const { store, fills } = setup({ fault: ({ kind }) => (isBroken && kind === "read" ? "broken" : undefined) });
    const earlier = bytes.slice(0, 400_000);
    if (!isRight) earlier[5] = (earlier[5] ?? 0) ^ 1;
    store.leave(digest, earlier);
    const source = createFakeSource({ bytes, pieceBytes: () => 100_000 });
    const reader = joined(fills.join(digest, source.open)).follow(WHOLE).getReader();
    const first = (await reader.read()).value?.byteLength ?? 0;
    isBroken = true;
    const rest = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    const got = await drain(rest);
    expect(got.error === undefined).toBe(isRight);
    expect(first + got.bytes.byteLength === bytes.byteLength).toBe(isRight);
    expect(source.offsets).toEqual([399_999, 0]); // where the end is nobody knew yet
    expect(source.openBodies).toBe(0);
  });

  test.each([
    ["from the start", "spool", 0],
    ["from the middle", "append", 300_000],
  ] as const)("and wrong bytes are still found out: %s", async (_what, kind, from) => {
    const { fills } = setup({ fault: (step) => (step.kind === kind && step.length >= from ? "full" : undefined) });
    const wrong = bytes.slice();
    wrong[150_000] = (wrong[150_000] ?? 0) ^ 1;
    const fill = joined(fills.join(digest, createFakeSource({ bytes: wrong, pieceBytes: () => 50_000 }).open));
    for (const got of await Promise.all([drain(fill.follow(WHOLE)), drain(fill.follow(WHOLE))])) {
      expect(got.error).toBeInstanceOf(UpstreamError);
      expect(got.bytes.byteLength).toBeLessThan(1_200_000);
    }
  });

  test("and the requests of the readers are mended like the fill's", async () => {
    const { fills } = setup({ fault: ({ kind }) => (kind === "spool" ? "broken" : undefined) });
    const source = createFakeSource({
      bytes,
      breaks: [
        { kind: "error", after: 70_000 },
        { kind: "end", after: 5000 },
      ],
    });
    expect((await drain(joined(fills.join(digest, source.open)).follow(WHOLE))).bytes.equals(bytes)).toBe(true);
    expect(source.offsets).toEqual([0, 70_000, 75_000]);
  });

  test("a reader on its own request that leaves hangs up", async () => {
    const { fills } = setup({ fault: ({ kind }) => (kind === "spool" ? "broken" : undefined) });
    const source = createFakeSource({ bytes });
    const fill = joined(fills.join(digest, source.open));
    const reader = fill.follow(WHOLE).getReader();
    await reader.read();
    await reader.cancel();
    expect(source.openBodies).toBe(0);
  });
});

describe("close()", () => {
  test("ends fills and readers, and keeps what came for the next start", async () => {
    const { store, fills } = setup();
    const bytes = noise(100_000, 50);
    const never = gate();
    const source = createFakeSource({ bytes, beforePiece: (sent) => (sent < 50_000 ? undefined : never.opened) });
    const fill = joined(fills.join(digestOfBytes(bytes), source.open));
    const got = drain(fill.follow(WHOLE));
    const waiting = fill.follow({ first: 99_000, last: undefined }).getReader().read();
    waiting.catch(() => undefined);
    await fill.head;
    while (fill.position < 50_000) await new Promise((resolve) => setTimeout(resolve, 1));
    await fills.close();
    expect(String((await got).error)).toContain("stopping");
    await expect(waiting).rejects.toThrow("stopping");
    expect(store.usage().spooledBytes).toBe(50_000);
    expect(fills.join(digestOfBytes(bytes), source.open)).toBeUndefined();
    expect([fills.count, store.openReaders, store.openSpools, source.openBodies]).toEqual([0, 0, 0, 0]);
    never.open();
  });

  test("while the source has not answered yet", async () => {
    const { store, fills } = setup();
    const fill = joined(fills.join(digestOfBytes(noise(1, 1)), () => new Promise(() => undefined)));
    await fills.close();
    expect(failureOf(await fill.done)).toMatchObject({ message: "the server is stopping" });
    expect(store.openSpools).toBe(0);
  });
});

test("[R261] follow() that is cancelled while it waits ends at once", async () => {
  const { store, fills } = setup();
  const bytes = noise(100_000, 60);
  const hold = gate();
  const source = createFakeSource({ bytes, beforePiece: (sent) => (sent < 50_000 ? undefined : hold.opened) });
  const fill = joined(fills.join(digestOfBytes(bytes), source.open));
  const reader = fill.follow(WHOLE).getReader();
  for (let position = 0; position < 50_000;) position += (await reader.read()).value?.byteLength ?? Infinity;
  const reading = reader.read();
  // The stream asks its source only in the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  await reader.cancel();
  expect(await reading).toMatchObject({ done: true });
  expect(store.openReaders).toBe(0);
  hold.open();
  await fill.done;
});
