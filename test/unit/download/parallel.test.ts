/** Several connections for one content, in virtual time: when they are worth it, when not, and that nothing is lost or doubled. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Download } from "../../../src/download/download.ts";
import { createDownloads, type DownloadsOptions } from "../../../src/download/downloads.ts";
import { noise } from "../../support/fill-source.ts";
import {
  createVirtualClock,
  createVirtualPath,
  type PathOptions,
  type VirtualClock,
} from "../../support/virtual-path.ts";

const MB = 1_000_000;
const content = noise(64 * MB, 1);

interface Run {
  readonly seconds: number;
  readonly sentBytes: number;
  readonly isRight: boolean;
  readonly asked: readonly { first: number; isExtra: boolean }[];
  readonly mostBodies: number;
  /** Bodies and memory that are left. */
  readonly left: readonly [bodies: number, bytes: number];
}

async function run(path: Partial<PathOptions>, options: Partial<DownloadsOptions> = {}): Promise<Run> {
  const clock = createVirtualClock();
  const upstream = createVirtualPath(clock, { bytes: content, ...path });
  const downloads = createDownloads({ idleTimeoutMs: 60_000, ...options }, { ...clock, random: () => 0.5 });
  const download = downloads.start({ source: upstream.source, first: 0 });
  const got = await clock.until(readAll(download));
  const { sentBytes, asked, mostBodies } = upstream;
  const isRight = Buffer.compare(got, path.bytes ?? content) === 0;
  const left = [upstream.openBodies, downloads.aheadBytes] as const;
  return { seconds: clock.now() / 1000, sentBytes, isRight, asked, mostBodies, left };
}

async function readAll(download: Download, pause?: () => Promise<void>): Promise<Buffer> {
  await download.open();
  const pieces: Uint8Array[] = [];
  for (;;) {
    const piece = await download.next();
    if (piece === undefined) return Buffer.concat(pieces);
    pieces.push(piece);
    await pause?.();
  }
}

describe("several connections", () => {
  test("where each is limited to 2 MB/s they are four times as fast as one, and hardly a byte comes twice", async () => {
    const one = await run({ connectionRate: 2 * MB }, { maxConnections: 1 });
    const several = await run({ connectionRate: 2 * MB });
    expect([one.isRight, several.isRight]).toEqual([true, true]);
    expect([one.mostBodies, several.mostBodies]).toEqual([1, 8]);
    expect(one.seconds / several.seconds).toBeGreaterThan(4);
    expect(several.sentBytes / content.byteLength).toBeLessThan(1.002);
    expect(several.left).toEqual([0, 0]);
  });

  test.each([
    ["open slowly", 2 * MB, 1500],
    ["bring so little that a piece takes half a second", 0.15 * MB, 200],
  ])("that %s are found worth it all the same", async (_title, connectionRate, headerMs) => {
    const bytes = content.subarray(0, 32 * MB);
    const one = await run({ bytes, connectionRate, headerMs }, { maxConnections: 1 });
    const several = await run({ bytes, connectionRate, headerMs });
    expect([several.isRight, several.left]).toEqual([true, [0, 0]]);
    expect(one.seconds / several.seconds).toBeGreaterThan(connectionRate > MB ? 1.5 : 4);
  });

  test("are not opened where one is fast", async () => {
    const { asked, sentBytes, isRight } = await run({ connectionRate: 60 * MB });
    expect([asked.length, sentBytes, isRight]).toEqual([1, content.byteLength, true]);
  });

  test("are given up where the path is full", async () => {
    const { mostBodies, seconds, sentBytes, isRight, left } = await run({ pathRate: 4 * MB });
    expect([isRight, mostBodies, left]).toEqual([true, 2, [0, 0]]);
    expect(seconds).toBeLessThan(16.5); // 16 by one
    expect(sentBytes / content.byteLength).toBeLessThan(1.01);
  });

  test("are not opened for a reader that is slower than one", async () => {
    const clock = createVirtualClock();
    const upstream = createVirtualPath(clock, { bytes: content, connectionRate: 4 * MB });
    const downloads = createDownloads({ idleTimeoutMs: 60_000 }, clock);
    const download = downloads.start({ source: upstream.source, first: 0 });
    const got = await clock.until(readAll(download, () => clock.sleep(30)));
    expect([got.equals(content), upstream.asked.length]).toEqual([true, 1]);
  });

  test("are not opened at an upstream that does not take ranges", async () => {
    const { asked, isRight } = await run({ connectionRate: 2 * MB, host: undefined });
    expect([asked.length, isRight]).toEqual([1, true]);
  });

  test("[R272] are given up at an upstream that answers a part with everything, and not tried there again", async () => {
    const clock = createVirtualClock();
    const fault = (answer: number) => (answer > 0 ? ("whole" as const) : undefined);
    const upstream = createVirtualPath(clock, { bytes: content, connectionRate: 4 * MB, fault });
    const downloads = createDownloads({ idleTimeoutMs: 60_000 }, clock);
    for (const askedInAll of [2, 3]) {
      const got = await clock.until(readAll(downloads.start({ source: upstream.source, first: 0 })));
      expect([got.equals(content), upstream.asked.length]).toEqual([true, askedInAll]);
    }
    expect(upstream.sentBytes).toBeLessThan(2 * content.byteLength + MB);
    expect([upstream.openBodies, downloads.aheadBytes]).toEqual([0, 0]);
  });

  test("do without those that are refused", async () => {
    const fault = (answer: number) => (answer > 0 ? ("refuse" as const) : undefined);
    const { isRight, asked, sentBytes, left } = await run({ connectionRate: 2 * MB, fault });
    expect([isRight, sentBytes, left]).toEqual([true, content.byteLength, [0, 0]]);
    expect(asked.length).toBeLessThanOrEqual(4); // 30 seconds, with rests of 5, 10 and 20
  });

  test("share a bounded memory: with little of it there are few", async () => {
    const { isRight, mostBodies, left } = await run({ connectionRate: 2 * MB }, { aheadBytes: 8 * 1024 * 1024 });
    expect([isRight, left]).toEqual([true, [0, 0]]);
    expect(mostBodies).toBeLessThan(6);
  });

  test("for a reader that rests hold memory only until others need it", async () => {
    const clock = createVirtualClock();
    const upstream = createVirtualPath(clock, { bytes: content, connectionRate: 2 * MB });
    const aheadBytes = 16 * 1024 * 1024;
    const downloads = createDownloads({ idleTimeoutMs: 60_000, aheadBytes }, { ...clock, random: () => 0.5 });
    const resting = downloads.start({ source: upstream.source, first: 0 });
    const begun = await clock.until(readAtLeast(resting, 10 * MB));
    await clock.until(clock.sleep(60_000));
    expect(downloads.aheadBytes).toBeGreaterThan(aheadBytes / 2);
    const startedAtMs = clock.now();
    const other = downloads.start({ source: upstream.source, first: 0 });
    expect((await clock.until(readAll(other))).equals(content)).toBe(true);
    expect(clock.now() - startedAtMs).toBeLessThan(20_000); // 32 by one
    const rest = await clock.until(readAll({ ...resting, open: async () => undefined }));
    expect(Buffer.concat([begun, rest]).equals(content)).toBe(true);
    expect([upstream.openBodies, downloads.aheadBytes]).toEqual([0, 0]);
  });

  test("end with their reader", async () => {
    const clock = createVirtualClock();
    const upstream = createVirtualPath(clock, { bytes: content, connectionRate: 2 * MB });
    const downloads = createDownloads({ idleTimeoutMs: 60_000 }, clock);
    const download = downloads.start({ source: upstream.source, first: 0 });
    await clock.until(readUntil(download, 20 * MB, clock));
    expect(upstream.openBodies).toBeGreaterThan(2);
    download.cancel(new Error("the reader left"));
    expect([upstream.openBodies, downloads.aheadBytes]).toEqual([0, 0]);
    await expect(download.next()).rejects.toThrow("the reader left");
  });

  test("one that is much slower than the others gets another chance", async () => {
    const clock = createVirtualClock();
    const slow = createVirtualPath(clock, { bytes: content, connectionRate: 0.02 * MB });
    const good = createVirtualPath(clock, { bytes: content, connectionRate: 2 * MB });
    let asked = 0;
    const downloads = createDownloads({ idleTimeoutMs: 60_000 }, { ...clock, random: () => 0.5 });
    const source = (wanted: Parameters<typeof slow.source>[0], signal: AbortSignal) =>
      (asked++ === 3 ? slow : good).source(wanted, signal);
    const got = await clock.until(readAll(downloads.start({ source, first: 0 })));
    expect([got.equals(content), slow.asked.length]).toEqual([true, 1]);
    expect(clock.now()).toBeLessThan(16_000); // 32 by one, 200 where the slow one is waited for
  });
});

async function readAtLeast(download: Download, bytes: number): Promise<Buffer> {
  await download.open();
  const pieces: Uint8Array[] = [];
  while (download.position < bytes) pieces.push((await download.next()) ?? new Uint8Array());
  return Buffer.concat(pieces);
}

async function readUntil(download: Download, bytes: number, clock: VirtualClock): Promise<void> {
  await download.open();
  while (download.position < bytes) await download.next();
  await clock.sleep(0);
}

test("[R262, R272] whatever breaks, the bytes are right, none is left behind, and few come twice", async () => {
  const small = content.subarray(0, 24 * MB);
  const fault = fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    { weight: 3, arbitrary: fc.record({ after: fc.integer({ min: 0, max: 4 * MB }) }) },
    { weight: 1, arbitrary: fc.constant("refuse" as const) },
  );
  const input = fc.record({
    faults: fc.array(fault, { maxLength: 40 }),
    connectionRate: fc.integer({ min: 0.5 * MB, max: 6 * MB }),
    pathRate: fc.constantFrom(Infinity, 4 * MB, 20 * MB),
    headerMs: fc.integer({ min: 0, max: 2000 }),
    maxConnections: fc.integer({ min: 1, max: 8 }),
    aheadBytes: fc.constantFrom(3 * MB, 64 * MB),
  });
  await fc.assert(
    fc.asyncProperty(input, async ({ faults, maxConnections, aheadBytes, ...path }) => {
      let isFirst = true;
      const plan = (answer: number) => {
        const planned = faults[answer];
        // What is refused before the first byte is the caller's to tell.
        const kept = isFirst && planned === "refuse" ? undefined : planned;
        isFirst = false;
        return kept;
      };
      const ran = await run({ bytes: small, ...path, fault: plan }, { maxConnections, aheadBytes });
      expect([ran.isRight, ran.left]).toEqual([true, [0, 0]]);
      expect(ran.sentBytes / small.byteLength).toBeLessThan(1.25);
    }),
    { numRuns: 60 },
  );
});
