/** The Store beside what remembers how long content is: the Records, of which both are what the program has. */
import { afterEach, expect, test } from "bun:test";
import { appendFile, chmod, readdir, truncate } from "node:fs/promises";
import { createFilesystemStore } from "../../../src/cache/filesystem.ts";
import { openRecords, type Records } from "../../../src/cache/records.ts";
import type { Store } from "../../../src/cache/store.ts";
import { type Digest, parseDigest } from "../../../src/registry/digest.ts";
import { silent } from "../../support/http-server.ts";
import { createTempDir, type TempDir } from "../../support/temp-dir.ts";

const PLACE = { registry: "https://quay.io/", repository: "org/app" };
const BYTES = new Uint8Array(1000).fill(7);

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

interface Opened {
  readonly dir: TempDir;
  readonly store: Store;
  readonly records: Records;
  readonly digest: Digest;
  readonly file: string;
  readonly warnings: string[];
  aside(): Promise<number>;
}

/** A store with one content of 1000 bytes. */
async function open(algorithm: "sha256" | "sha512" = "sha256"): Promise<Opened> {
  const dir = await createTempDir();
  const records = openRecords({ file: ":memory:" }, { log: silent, now: () => 1000 });
  const warnings: string[] = [];
  const log = { info: () => undefined, warn: (_fields: unknown, text?: string) => void warnings.push(text ?? "") };
  const options = { directory: dir.path, maxBytes: 1e6, minFreeBytes: 0 };
  const store = await createFilesystemStore(options, { log, sizes: records });
  ends.push(dir.remove, async () => records.close(), store.close);
  const digest = parseDigest(`${algorithm}:${new Bun.CryptoHasher(algorithm).update(BYTES).digest("hex")}`);
  if (digest === undefined) throw new Error("expected a digest");
  const spool = await store.spool(digest, undefined);
  await spool.append(BYTES);
  await spool.commit();
  const aside = async () => (await readdir(dir.file("damaged")).catch(() => [])).length;
  return { dir, store, records, digest, file: dir.file("blobs", algorithm, digest.encoded), warnings, aside };
}

test("[R234] what is committed has a length that nobody's word changes", async () => {
  const { records, digest } = await open();
  expect(records.size(digest.text)).toEqual({ bytes: 1000, isVerified: true });
  records.link(PLACE, digest.text, { bytes: 7, mediaType: undefined });
  records.setTag(PLACE, "latest", "", { digest: digest.text, mediaType: "t", bytes: 7, checkedMs: 1 });
  records.adopt({ digest: digest.text, bytes: 7 }, 1);
  expect(records.size(digest.text)).toEqual({ bytes: 1000, isVerified: true });
  records.forget(digest.text);
  expect(records.size(digest.text)).toBeUndefined();
});

test.each([
  ["find", "sha256", 999],
  ["find", "sha256", 1001],
  ["open", "sha256", 999],
  ["open", "sha512", 1001],
] as const)("[R235] %s() moves %s content of %i bytes instead of 1000 aside", async (how, algorithm, bytes) => {
  const { store, digest, file, warnings, aside } = await open(algorithm);
  if (bytes < 1000) await truncate(file, bytes);
  else await appendFile(file, "x");
  expect(await store[how](digest)).toBeUndefined();
  expect([await aside(), warnings]).toEqual([1, ["content has another length than it had and is moved aside"]]);
  const spool = await store.spool(digest, 1000);
  await spool.append(BYTES);
  await spool.commit();
  expect(await store.find(digest)).toEqual({ digest: digest.text, bytes: 1000 });
});

test("[R235] what was cut and cannot be moved is not served, and is said", async () => {
  if (process.getuid?.() === 0) return; // root may write everywhere
  const { dir, store, digest, file, warnings } = await open();
  await truncate(file, 10);
  await chmod(dir.file("blobs", "sha256"), 0o500);
  expect(await store.find(digest)).toBeUndefined();
  await chmod(dir.file("blobs", "sha256"), 0o700);
  expect(warnings).toHaveLength(1);
});

test("[R235] a length that somebody told wrongly costs one hashing for all who ask, and is right from then on", async () => {
  const { store, records, digest, aside } = await open();
  records.forget(digest.text);
  records.link(PLACE, digest.text, { bytes: 7, mediaType: undefined });
  const found = await Promise.all([store.find(digest), store.find(digest)]);
  expect(found.map((content) => content?.bytes)).toEqual([1000, 1000]);
  expect([records.size(digest.text), await aside()]).toEqual([{ bytes: 1000, isVerified: true }, 0]);
});

test("[R235] a length that was told rightly shows that a file was cut", async () => {
  const { store, records, digest, file, aside } = await open();
  records.forget(digest.text);
  records.link(PLACE, digest.text, { bytes: 1000, mediaType: undefined });
  await truncate(file, 999);
  expect([await store.find(digest), await aside()]).toEqual([undefined, 1]);
});

test("verify() of good content makes its length a fact, and is no use of it", async () => {
  const { store, records, digest } = await open();
  records.forget(digest.text);
  records.adopt({ digest: digest.text, bytes: 1000 }, 5);
  expect(await store.verify(digest, new AbortController().signal)).toBe("good");
  expect(records.size(digest.text)?.isVerified).toBe(true);
  expect(records.evictionCandidates(1)).toEqual([{ digest: digest.text, bytes: 1000, neededMs: 5 }]);
});
