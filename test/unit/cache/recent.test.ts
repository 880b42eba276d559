/** What a fill wrote last is given to a reader that is alone, and is nobody's burden otherwise. */
import { describe, expect, test } from "bun:test";
import { createFills } from "../../../src/cache/fill.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { createRecent } from "../../../src/cache/recent.ts";
import { createSpoolWriter } from "../../../src/cache/spool-writer.ts";
import { createFakeSource, digestOfBytes, drain, noise } from "../../support/fill-source.ts";
import { createMemoryStore } from "../../support/memory-store.ts";

const KEPT_BYTES = 1024 * 1024;

function piece(bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(7);
}

describe("createRecent()", () => {
  test("take() gives each piece once, whole, and only from its beginning", () => {
    const recent = createRecent(() => true);
    const first = piece(100);
    recent.add(first, 0);
    recent.add(piece(50), 100);
    expect(recent.take(50, 1000)).toBeUndefined();
    expect(recent.take(0, 99)).toBeUndefined();
    expect(recent.take(0, 100)).toBe(first);
    expect(recent.take(0, 100)).toBeUndefined();
    expect(recent.take(100, 150)?.byteLength).toBe(50);
    expect(first.byteLength).toBe(100);
  });

  test("nextStart() names the next piece behind a position", () => {
    const recent = createRecent(() => true);
    recent.add(piece(100), 500);
    recent.add(piece(100), 600);
    expect([0, 499, 500, 600].map(recent.nextStart)).toEqual([500, 500, 600, undefined]);
  });

  test("add() frees the oldest beyond a MiB, and everything while there is not one reader", () => {
    let readers = 1;
    const recent = createRecent(() => readers === 1);
    const pieces = Array.from({ length: 5 }, () => piece(KEPT_BYTES / 4));
    for (const [index, bytes] of pieces.entries()) recent.add(bytes, (index * KEPT_BYTES) / 4);
    expect(pieces.map(({ byteLength }) => byteLength > 0)).toEqual([false, true, true, true, true]);
    readers = 2;
    expect(recent.take(KEPT_BYTES / 4, Infinity)).toBeUndefined();
    expect(recent.nextStart(0)).toBeUndefined();
    const last = piece(10);
    recent.add(last, (KEPT_BYTES * 5) / 4);
    expect([...pieces, last].map(({ byteLength }) => byteLength)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("clear() frees what is kept and leaves views on parts alone", () => {
    const recent = createRecent(() => true);
    const [whole, part] = [piece(10), piece(20).subarray(5)];
    recent.add(whole, 0);
    recent.add(part, 10);
    recent.clear();
    expect([whole.byteLength, part.byteLength]).toEqual([0, 15]);
    expect(recent.nextStart(-1)).toBeUndefined();
  });
});

test("createSpoolWriter() writes small pieces as one, frees them, and gives away what it wrote", async () => {
  const appended: number[] = [];
  const written: Uint8Array[] = [];
  const spool = { append: async (bytes: Uint8Array): Promise<void> => void appended.push(bytes.byteLength) };
  const writer = createSpoolWriter(spool, (bytes) => void written.push(bytes));
  const pieces = [piece(1000), piece(2000), piece(3000)];
  for (const bytes of pieces) await writer.push(bytes);
  await writer.end();
  expect(appended).toEqual([6000]);
  expect(pieces.map(({ byteLength }) => byteLength)).toEqual([0, 0, 0]);
  expect(written.map((bytes) => Buffer.from(bytes).equals(piece(6000)))).toEqual([true]);
});

describe("a fill", () => {
  const bytes = noise(1_000_000, 71);
  const digest = digestOfBytes(bytes);

  /** How many bytes so many readers got from the store, and whether all of them got all. */
  async function readFromStore(readers: number): Promise<number> {
    let steps = 0;
    const store = createMemoryStore({
      fault: ({ kind }) => {
        if (kind === "read") steps += 1;
        return undefined;
      },
    });
    const log = { info: () => undefined, warn: () => undefined };
    const fills = createFills({ maxFills: 1 }, { store, log, downloads: createDownloads({ idleTimeoutMs: 5000 }) });
    const fill = fills.join(digest, createFakeSource({ bytes, pieceBytes: () => 50_000 }).open);
    const got = await Promise.all(
      Array.from({ length: readers }, () => drain(fill?.follow({ first: 0, last: undefined }) ?? new ReadableStream())),
    );
    expect(got.map((one) => one.bytes.equals(bytes))).toEqual(got.map(() => true));
    await fills.close();
    expect([store.openReaders, store.openSpools]).toEqual([0, 0]);
    return steps;
  }

  test("[R237, R260] a reader that is alone takes from memory, but for the end that is held back", async () => {
    // The last write is read in two parts: what is not held back, and the rest.
    expect(await readFromStore(1)).toBeLessThanOrEqual(2);
  });

  test("[R260] several readers all read from the store", async () => {
    expect(await readFromStore(3)).toBeGreaterThan(3);
  });
});
