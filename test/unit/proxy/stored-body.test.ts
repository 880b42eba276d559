import { expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import fc from "fast-check";
import type { PositionedBody } from "../../../src/proxy/exchange.ts";
import { storedBody, storedStream } from "../../../src/proxy/stored-body.ts";
import { parseDigest } from "../../../src/registry/digest.ts";
import { createMemoryStore } from "../../support/memory-store.ts";

const CONTENT = new Uint8Array(randomBytes(1_300_000));
const DIGEST =
  parseDigest(`sha256:${createHash("sha256").update(CONTENT).digest("hex")}`) ?? expect.unreachable("no digest");

function storeWith(bytes: Uint8Array) {
  const store = createMemoryStore();
  store.plant(DIGEST, bytes);
  return store;
}

const ranges = fc
  .tuple(fc.nat(CONTENT.length - 1), fc.nat(CONTENT.length - 1))
  .map(([one, other]) => ({ first: Math.min(one, other), last: Math.max(one, other) }));

async function readAll(body: PositionedBody, pieceBytes: number): Promise<Uint8Array> {
  const all = new Uint8Array(body.length);
  for (let position = 0; position < body.length;) {
    position += await body.read(all.subarray(position, position + pieceBytes), position);
  }
  return all;
}

test("storedBody() and storedStream() give any range of the content, and close its reader", async () => {
  const store = storeWith(CONTENT);
  await fc.assert(
    fc.asyncProperty(ranges, fc.integer({ min: 10_000, max: 700_000 }), async (range, pieceBytes) => {
      const expected = CONTENT.subarray(range.first, range.last + 1);
      const body = (await storedBody(store, DIGEST, range)) ?? expect.unreachable();
      expect(body.length).toBe(expected.length);
      expect(Buffer.compare(await readAll(body, pieceBytes), expected)).toBe(0);
      await body.close();
      const stream = (await storedStream(store, DIGEST, range)) ?? expect.unreachable();
      expect(Buffer.compare(await new Response(stream).bytes(), expected)).toBe(0);
      expect([store.openReaders, store.unsafeCloses]).toEqual([0, 0]);
    }),
    { numRuns: 50 },
  );
});

test("storedBody() and storedStream() fail when the content is shorter than it was, and close its reader", async () => {
  const store = storeWith(CONTENT.subarray(0, 900_000));
  const range = { first: 500_000, last: CONTENT.length - 1 };
  const body = (await storedBody(store, DIGEST, range)) ?? expect.unreachable();
  expect(await body.read(new Uint8Array(600_000), 0)).toBe(400_000);
  await expect(body.read(new Uint8Array(10), 400_000)).rejects.toMatchObject({ kind: "broken" });
  await body.close();
  const stream = (await storedStream(store, DIGEST, range)) ?? expect.unreachable();
  await expect(new Response(stream).bytes()).rejects.toMatchObject({ kind: "broken" });
  expect(store.openReaders).toBe(0);
});

test("storedBody() and storedStream() give nothing of content that is gone", async () => {
  const store = createMemoryStore();
  expect(await storedBody(store, DIGEST, { first: 0, last: 0 })).toBeUndefined();
  expect(await storedStream(store, DIGEST, { first: 0, last: 0 })).toBeUndefined();
});
