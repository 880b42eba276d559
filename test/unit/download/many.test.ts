/** Several downloads at once over bad connections, with readers of all kinds: what each gets is right, and nothing is left of them. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Download } from "../../../src/download/download.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { noise } from "../../support/fill-source.ts";
import {
  createVirtualClock,
  createVirtualPath,
  type PathFault,
  type VirtualClock,
} from "../../support/virtual-path.ts";

const MB = 1_000_000;
const content = noise(24 * MB, 3);

interface Reader {
  readonly first: number;
  /** Inclusive; undefined: to the end. */
  readonly last: number | undefined;
  readonly startsAtMs: number;
  /** Between two pieces. */
  readonly pauseMs: number;
  readonly leavesAtMs: number | undefined;
}

interface Got {
  readonly bytes: Buffer;
  readonly end: "complete" | "left" | "failed";
}

async function read(download: Download, reader: Reader, clock: VirtualClock): Promise<Got> {
  const pieces: Uint8Array[] = [];
  const left = new Error("the reader left");
  let isOver = false;
  if (reader.leavesAtMs !== undefined)
    void clock.sleep(reader.leavesAtMs).then(() => (isOver ? undefined : download.cancel(left)));
  try {
    await download.open();
    for (let piece = await download.next(); piece !== undefined; piece = await download.next()) {
      pieces.push(piece);
      if (reader.pauseMs > 0) await clock.sleep(reader.pauseMs);
    }
    return { bytes: Buffer.concat(pieces), end: "complete" };
  } catch (error) {
    download.cancel(error);
    return { bytes: Buffer.concat(pieces), end: error === left ? "left" : "failed" };
  } finally {
    isOver = true;
  }
}

const bytes = fc.integer({ min: 0, max: 4 * MB });
const fault: fc.Arbitrary<PathFault | "refuse" | "whole" | undefined> = fc.oneof(
  { weight: 8, arbitrary: fc.constant(undefined) },
  { weight: 3, arbitrary: fc.record({ after: bytes }) },
  { weight: 1, arbitrary: fc.record({ endsAfter: bytes }) },
  { weight: 1, arbitrary: fc.record({ longerBy: fc.integer({ min: 1, max: 100_000 }) }) },
  { weight: 1, arbitrary: fc.record({ offsetBy: fc.constantFrom(-1, -5 * MB, 1, 5 * MB) }) },
  { weight: 1, arbitrary: fc.record({ totalBy: fc.constantFrom(-1, 1, -MB) }) },
  { weight: 1, arbitrary: fc.constantFrom("refuse" as const, "whole" as const) },
);
const position = fc.oneof(fc.constantFrom(0, 1, content.byteLength - 1), fc.nat(content.byteLength - 1));
const reader: fc.Arbitrary<Reader> = fc
  .record({
    ends: fc.tuple(position, position),
    isToEnd: fc.boolean(),
    startsAtMs: fc.constantFrom(0, 0, 3000),
    pauseMs: fc.constantFrom(0, 0, 0, 5, 100),
    leavesAtMs: fc.option(fc.integer({ min: 0, max: 12_000 }), { nil: undefined, freq: 3 }),
  })
  .map(({ ends, isToEnd, ...rest }) => ({
    ...rest,
    first: isToEnd ? 0 : Math.min(...ends),
    last: isToEnd ? undefined : Math.max(...ends),
  }));

test("[R262, R272] whatever answers are, each reader gets a beginning of what it asked for, and nothing is left behind", async () => {
  const input = fc.record({
    faults: fc.array(fault, { maxLength: 60 }),
    readers: fc.array(reader, { minLength: 1, maxLength: 3 }),
    connectionRate: fc.integer({ min: 0.5 * MB, max: 6 * MB }),
    pathRate: fc.constantFrom(Infinity, 4 * MB, 20 * MB),
    headerMs: fc.integer({ min: 0, max: 2000 }),
    maxConnections: fc.integer({ min: 1, max: 8 }),
    aheadBytes: fc.constantFrom(3 * MB, 12 * MB, 64 * MB),
  });
  await fc.assert(
    fc.asyncProperty(input, async ({ faults, readers, maxConnections, aheadBytes, ...path }) => {
      const clock = createVirtualClock();
      const upstream = createVirtualPath(clock, { bytes: content, ...path, fault: (answer) => faults[answer] });
      const downloads = createDownloads(
        { idleTimeoutMs: 60_000, maxConnections, aheadBytes },
        { ...clock, random: () => 0.5 },
      );
      const all = readers.map(async (each) => {
        if (each.startsAtMs > 0) await clock.sleep(each.startsAtMs);
        // Who asks for a range was told the length with the answer that it goes on with.
        const totalBytes = each.last === undefined ? undefined : content.byteLength;
        const download = downloads.start({ source: upstream.source, first: each.first, last: each.last, totalBytes });
        return read(download, each, clock);
      });
      const got = await clock.until(Promise.all(all));
      await clock.until(clock.sleep(5000)); // what gave all it should may end by itself for a moment
      for (const [index, { first, last = content.byteLength - 1 }] of readers.entries()) {
        const wanted = content.subarray(first, last + 1);
        const { bytes: here, end } = got[index] ?? { bytes: Buffer.alloc(0), end: "failed" };
        expect(here.equals(wanted.subarray(0, here.byteLength))).toBe(true);
        if (end === "complete") expect(here.byteLength).toBe(wanted.byteLength);
        // Nothing is wrong, nothing may fail.
        if (faults.every((each) => each === undefined)) expect(end).not.toBe("failed");
      }
      expect([upstream.openBodies, downloads.aheadBytes]).toEqual([0, 0]);
    }),
    { numRuns: Number(process.env["DOWNLOAD_RUNS"] ?? 40) },
  );
});
