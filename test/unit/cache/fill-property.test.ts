/**
 * Fills under everything at once: random pieces, breaks, readers that come and go, store failures, leftovers. Whatever
 * happens, a reader gets the right bytes or an error, and nothing is left open.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { createFills } from "../../../src/cache/fill.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { type Break, createFakeSource, digestOfBytes, noise } from "../../support/fill-source.ts";
import { createMemoryStore, type Step } from "../../support/memory-store.ts";

const silent = { info: () => undefined, warn: () => undefined };

interface Reader {
  readonly first: number;
  readonly last: number | undefined;
  /** Share of the content that came when it begins; above 1: after the end. */
  readonly joinsAt: number;
  /** Share of its part after which it leaves; above 1: never. */
  readonly leavesAt: number;
}

const share = fc.double({ min: 0, max: 1.3, noNaN: true });
const sizes = fc.oneof(fc.integer({ min: 1, max: 40_000 }), fc.integer({ min: 200_000, max: 900_000 }));
const readers = fc.array(
  fc.record({
    first: fc.oneof(fc.constant(0), share),
    length: fc.option(share, { nil: undefined }),
    joinsAt: share,
    leavesAt: share,
  }),
  { minLength: 1, maxLength: 8 },
);
const oneBreak = fc.option(
  fc.oneof(
    fc.record({ kind: fc.constantFrom("error", "end"), after: share }),
    fc.record({ kind: fc.constant("refuse"), after: share }),
  ),
  { nil: undefined },
);
// Half of all upstreams are well: a store that fails can only be told from them.
const breaks = fc.boolean().chain((isWell) => fc.array(oneBreak, { maxLength: isWell ? 0 : 5 }));
const faults = fc.option(
  fc.record({
    kind: fc.constantFrom<Step["kind"]>("spool", "expect", "append", "verify", "commit", "read"),
    from: share,
    error: fc.constantFrom("full", "broken"),
  }),
  { nil: undefined },
);

const cases = fc.record({
  size: sizes,
  pieceBytes: fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 5 }),
  readers,
  breaks,
  fault: faults,
  left: fc.option(fc.record({ length: share, isRight: fc.boolean() }), { nil: undefined }),
  isTotalTold: fc.boolean(),
  takesOffsets: fc.boolean(),
  isWrong: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, fc.constant(true)),
});

test("[R234–R240, R260–R263, R272] a reader gets the right bytes or an error, whatever happens", async () => {
  await fc.assert(fc.asyncProperty(cases, checkCase), { numRuns: Number(process.env["FILL_RUNS"] ?? 300) });
}, 120_000);

async function checkCase(input: typeof cases extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
  const { size } = input;
  const right = noise(size, size);
  const digest = digestOfBytes(right);
  const sent = right.slice();
  if (input.isWrong) sent[Math.floor(size / 2)] = (sent[Math.floor(size / 2)] ?? 0) ^ 255;
  const { fault } = input;
  const store = createMemoryStore({
    fault: ({ kind, length }) =>
      fault?.kind === kind && length >= fault.from * size && (fault.from > 0 || kind !== "read")
        ? fault.error
        : undefined,
  });
  if (input.left !== undefined && input.left.length > 0) {
    const content = input.left.isRight ? right : noise(size, size + 1);
    store.leave(digest, content.slice(0, Math.ceil(Math.min(1, input.left.length) * size)));
  }
  const isLeftWrong = input.left !== undefined && input.left.length > 0 && !input.left.isRight;
  const isHarmless = !input.isWrong && !isLeftWrong;

  const downloads = createDownloads(
    { idleTimeoutMs: 5000 },
    { random: Math.random, sleep: async (_ms, signal) => signal.throwIfAborted() },
  );
  const fills = createFills({ maxFills: 1 }, { store, log: silent, downloads });
  let piece = 0;
  const reading: Promise<void>[] = [];
  const waiting = input.readers.map(toReader).toSorted((a, b) => a.joinsAt - b.joinsAt);
  const source = createFakeSource({
    bytes: sent,
    isTotalTold: input.isTotalTold,
    takesOffsets: input.takesOffsets,
    pieceBytes: () => Math.max(input.pieceBytes[piece++ % input.pieceBytes.length] ?? 1, size / 300) | 0,
    breaks: input.breaks.map((one) =>
      one === undefined ? undefined : toBreak(one.kind, Math.floor(one.after * size)),
    ),
    beforePiece(position) {
      startReaders(position / size);
      return undefined;
    },
  });
  const fill = fills.join(digest, source.open);
  if (fill === undefined) throw new Error("refused");
  startReaders(0);
  const result = await fill.done;
  startReaders(Infinity);
  await Promise.all(reading);
  await fills.close();

  const kept = store.bytesOf(digest);
  if (result.kind === "committed") expect(kept).toBeDefined();
  if (kept !== undefined) expect(Buffer.compare(kept, right)).toBe(0);
  for (const offset of source.offsets) expect(offset).toBeLessThan(size);
  if (fault === undefined && input.takesOffsets) {
    expect(source.sentBytes).toBeLessThanOrEqual(size + source.offsets.length);
  }
  expect([store.openReaders, store.openSpools, store.unsafeCloses]).toEqual([0, 0, 0]);
  if (fault === undefined) expect(source.openBodies).toBe(0);

  function toReader({ first, length, joinsAt, leavesAt }: (typeof input.readers)[number]): Reader {
    const from = Math.min(size - 1, Math.floor(first * size));
    return {
      first: from,
      last: length === undefined ? undefined : from + Math.floor(length * size),
      joinsAt,
      leavesAt,
    };
  }

  function startReaders(now: number): void {
    for (let next = waiting[0]; next !== undefined && next.joinsAt <= now; next = waiting[0]) {
      waiting.shift();
      reading.push(read(next));
    }
  }

  async function read({ first, last, leavesAt }: Reader): Promise<void> {
    const expected = right.subarray(first, last === undefined ? size : last + 1);
    const stream = fill?.follow({ first, last }).getReader();
    const got: Uint8Array[] = [];
    let position = 0;
    try {
      for (;;) {
        const next = await stream?.read();
        if (next === undefined || next.done) break;
        const { value } = next;
        if (isHarmless) expect(Buffer.compare(value, expected.subarray(position, position + value.byteLength))).toBe(0);
        got.push(value);
        position += value.byteLength;
        expect(position).toBeLessThanOrEqual(expected.byteLength);
        if (position > leavesAt * expected.byteLength) return await leave(stream);
      }
    } catch (error) {
      // The error of the upstream is an answer; one of these expectations is not.
      if (!(error instanceof Error) || "matcherResult" in error || error.message.includes("expect(")) throw error;
      // A store that fails is no reason, wherever the upstream tells enough to know what is whole.
      const isAnswered = input.breaks.every((one) => one === undefined) && isHarmless;
      if (isAnswered && (input.isTotalTold || (first === 0 && last === undefined))) throw error;
      return;
    }
    expect(position).toBe(expected.byteLength);
    // Whole content that ended in peace is right: that is what the digest is for. A part to an end that nobody told is not asked for.
    const isKnownWhole = input.isTotalTold || last === undefined;
    if (position === size && isKnownWhole) expect(Buffer.compare(Buffer.concat(got), right)).toBe(0);
  }
}

interface Left {
  read(): Promise<unknown>;
  cancel(): Promise<void>;
}

/** Leaves while it waits for more. */
async function leave(stream: Left | undefined): Promise<void> {
  const waiting = stream?.read().catch(() => undefined);
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  await stream?.cancel().catch(() => undefined);
  await waiting;
}

function toBreak(kind: string, after: number): Break {
  if (kind === "refuse") return { kind, error: new Error("refused by the fake upstream") };
  return { kind: kind === "end" ? "end" : "error", after };
}
