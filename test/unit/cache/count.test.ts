/** Counting what lies in the cache while it changes. */
import { afterEach, expect, test } from "bun:test";
import { unlinkSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { type Count, startCount } from "../../../src/cache/count.ts";
import { layoutIn } from "../../../src/cache/layout.ts";
import type { Digest } from "../../../src/registry/digest.ts";
import { digestOfBytes, noise } from "../../support/fill-source.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const silent = { warn: () => undefined };
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function directoryOf(
  contents: number,
): Promise<{ count: () => Count; digests: Digest[]; path: (of: Digest) => string }> {
  const dir = await createTempDir();
  ends.push(dir.remove);
  const layout = layoutIn(dir.path);
  await mkdir(layout.folderOf("sha256"), { recursive: true });
  const digests: Digest[] = [];
  for (let seed = 0; seed < contents; seed++) digests.push(digestOfBytes(noise(8, seed)));
  for (const digest of digests) await writeFile(layout.pathOf(digest), "ten bytes.");
  return { count: () => startCount(layout, { log: silent }), digests, path: layout.pathOf };
}

async function completed(count: Count): Promise<{ bytes: number; contents: number }> {
  while (!count.isComplete) await new Promise((resolve) => setImmediate(resolve));
  await count.close();
  return { bytes: count.bytes, contents: count.contents };
}

test("startCount() counts every content once", async () => {
  const { count } = await directoryOf(100);
  expect(await completed(count())).toEqual({ bytes: 1000, contents: 100 });
});

test("what is committed while it walks is counted once, met or not", async () => {
  const { count, digests } = await directoryOf(3);
  const counting = count();
  for (const digest of digests.slice(0, 2)) counting.add(digest, 10);
  counting.add(digestOfBytes(noise(9, 9)), 100);
  expect(counting.bytes).toBe(120);
  expect(await completed(counting)).toEqual({ bytes: 130, contents: 4 });
});

test("what is removed behind the walk is not counted: it walks again", async () => {
  const { count, digests, path } = await directoryOf(2000);
  const counting = count();
  while (counting.contents < 500) await new Promise((resolve) => setImmediate(resolve));
  expect(counting.isComplete).toBe(false);
  for (const digest of digests) {
    unlinkSync(path(digest));
    counting.subtract(digest, 10);
  }
  expect(await completed(counting)).toEqual({ bytes: 0, contents: 0 });
});

test("add() and subtract() after the walk keep the sums", async () => {
  const { count, digests } = await directoryOf(3);
  const counting = count();
  await completed(counting);
  counting.add(digestOfBytes(noise(9, 9)), 100);
  for (const digest of digests) counting.subtract(digest, 10);
  expect([counting.bytes, counting.contents]).toEqual([100, 1]);
});

test("close() ends the walk", async () => {
  const { count } = await directoryOf(2000);
  const counting = count();
  await counting.close();
  expect(counting.contents).toBeLessThan(2000);
});
