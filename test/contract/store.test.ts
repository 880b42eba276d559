/** What every Store keeps, whatever it is made of. */
import { afterEach, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { createFilesystemStore } from "../../src/cache/filesystem.ts";
import { withSmallContents } from "../../src/cache/small-contents.ts";
import { type ContentReader, type Store, StoreError } from "../../src/cache/store.ts";
import { type Digest, parseDigest } from "../../src/registry/digest.ts";
import { noise } from "../support/fill-source.ts";
import { createMemoryStore } from "../support/memory-store.ts";
import { createTempDir } from "../support/temp-dir.ts";

interface Subject {
  readonly store: Store;
  /** Changes committed bytes behind the store's back. */
  damage(digest: Digest, bytes: Uint8Array): Promise<void>;
  end(): Promise<void>;
}

const silent = { info: () => undefined, warn: () => undefined };

const MAKERS: readonly (readonly [string, (maxBytes: number) => Promise<Subject>])[] = [
  ["memory", inMemory],
  ["filesystem", onDisk],
  ["filesystem, small contents in memory", onDiskAndInMemory],
];

async function inMemory(maxBytes: number): Promise<Subject> {
  const store = createMemoryStore({ maxBytes });
  return { store, damage: async (digest, bytes) => store.plant(digest, bytes), end: () => store.close() };
}

async function onDisk(maxBytes: number): Promise<Subject> {
  const dir = await createTempDir();
  const store = await createFilesystemStore({ directory: dir.path, maxBytes, minFreeBytes: 0 }, { log: silent });
  return {
    store,
    damage: (digest, bytes) => writeFile(dir.file("blobs", digest.algorithm, digest.encoded), bytes),
    async end() {
      await store.close();
      await dir.remove();
    },
  };
}

async function onDiskAndInMemory(maxBytes: number): Promise<Subject> {
  const subject = await onDisk(maxBytes);
  return { ...subject, store: withSmallContents(subject.store, {}, { now: () => performance.now() }) };
}

describe.each(MAKERS)("%s", (_name, make) => {
  const ends: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  async function open(maxBytes = 1e9): Promise<Subject> {
    const subject = await make(maxBytes);
    ends.push(subject.end);
    return subject;
  }

  async function put(store: Store, bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes);
    const spool = await store.spool(digest, bytes.byteLength);
    await spool.append(bytes);
    await spool.commit();
    return digest;
  }

  test("commit() shows content, find() and open() give it", async () => {
    const { store } = await open();
    const bytes = noise(300_000, 1);
    const digest = digestOf(bytes);
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
    const spool = await store.spool(digest, undefined);
    await spool.append(bytes.subarray(0, 1000));
    expect(spool.length).toBe(1000);
    expect(await store.find(digest)).toBeUndefined();
    await spool.append(bytes.subarray(1000));
    expect(await spool.commit()).toEqual({ digest: digest.text, bytes: 300_000 });
    expect(await store.find(digest)).toEqual({ digest: digest.text, bytes: 300_000 });
    expect(await readAll(await store.open(digest))).toEqual(bytes);
  });

  test("append() leaves the buffer to its caller", async () => {
    const { store } = await open();
    const bytes = noise(10_000, 2);
    const spool = await store.spool(digestOf(bytes), undefined);
    const buffer = bytes.slice(0, 5000);
    await spool.append(buffer);
    buffer.set(bytes.subarray(5000));
    await spool.append(buffer);
    await spool.commit();
    expect(await readAll(await store.open(digestOf(bytes)))).toEqual(bytes);
  });

  test("content of no bytes is content", async () => {
    const { store } = await open();
    const digest = await put(store, new Uint8Array(0));
    expect(await store.find(digest)).toEqual({ digest: digest.text, bytes: 0 });
    expect(await readAll(await store.open(digest))).toEqual(new Uint8Array(0));
  });

  test("sha512 is kept like sha256", async () => {
    const { store } = await open();
    const bytes = noise(5000, 3);
    const digest = digestOf(bytes, "sha512");
    const spool = await store.spool(digest, 5000);
    await spool.append(bytes);
    await spool.commit();
    expect(await store.find(digest)).toEqual({ digest: digest.text, bytes: 5000 });
  });

  test("[R11] what cannot be verified is never kept", async () => {
    const { store } = await open();
    const digest = parsed("blake3:abcdef");
    expect(await kindOf(store.spool(digest, 3))).toBe("broken");
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
    expect(await store.remove(digest)).toBe(0);
    expect(await store.verify(digest, new AbortController().signal)).toBeUndefined();
  });

  test.each([
    ["other bytes", (bytes: Uint8Array) => noise(bytes.byteLength, 99), undefined],
    ["fewer bytes than digest", (bytes: Uint8Array) => bytes.subarray(1), undefined],
    ["fewer bytes than announced", (bytes: Uint8Array) => bytes.subarray(1), 4096],
    ["no bytes", () => new Uint8Array(0), undefined],
  ])("[R234, R235, T12, T13] commit() refuses %s, and nothing of it stays", async (_what, change, expected) => {
    const { store } = await open();
    const bytes = noise(4096, 4);
    const digest = digestOf(bytes);
    for (const method of ["verify", "commit"] as const) {
      const spool = await store.spool(digest, expected);
      expect(spool.length).toBe(0);
      const wrong = change(bytes);
      if (wrong.byteLength > 0) await spool.append(wrong);
      expect(await kindOf(spool[method]())).toBe("mismatch");
      expect(await store.find(digest)).toBeUndefined();
      expect(store.usage()).toMatchObject({ bytes: 0, count: 0, spooledBytes: 0 });
      await spool.suspend();
      await spool.discard();
    }
    const again = await store.spool(digest, undefined);
    expect(again.length).toBe(0);
    await again.discard();
  });

  test("append() refuses more than was announced", async () => {
    const { store } = await open();
    const bytes = noise(100, 5);
    const spool = await store.spool(digestOf(bytes), 99);
    expect(await kindOf(spool.append(bytes))).toBe("mismatch");
    expect(store.usage().spooledBytes).toBe(0);
  });

  test("verify() then commit() is one commit", async () => {
    const { store } = await open();
    const bytes = noise(100, 6);
    const spool = await store.spool(digestOf(bytes), 100);
    await spool.append(bytes);
    await spool.verify();
    expect(await store.find(digestOf(bytes))).toBeUndefined();
    await spool.commit();
    expect(await store.find(digestOf(bytes))).toBeDefined();
  });

  test("suspend() keeps bytes for the next spool of the digest", async () => {
    const { store } = await open();
    const bytes = noise(200_000, 7);
    const digest = digestOf(bytes);
    const first = await store.spool(digest, 200_000);
    await first.append(bytes.subarray(0, 150_000));
    await first.suspend();
    expect(store.usage().spooledBytes).toBe(150_000);
    const second = await store.spool(digest, undefined);
    expect(second.length).toBe(150_000);
    await second.expect(200_000);
    const reader = await second.open();
    await second.append(bytes.subarray(150_000));
    await second.commit();
    expect(await readAll(reader)).toEqual(bytes);
    expect(await readAll(await store.open(digest))).toEqual(bytes);
    expect(store.usage()).toMatchObject({ bytes: 200_000, count: 1, spooledBytes: 0 });
  });

  test("suspended bytes that are wrong are found out at the end", async () => {
    const { store } = await open();
    const bytes = noise(2000, 8);
    const digest = digestOf(bytes);
    const first = await store.spool(digest, undefined);
    await first.append(noise(1000, 9));
    await first.suspend();
    const second = await store.spool(digest, 2000);
    await second.append(bytes.subarray(1000));
    expect(await kindOf(second.commit())).toBe("mismatch");
    const third = await store.spool(digest, 2000);
    expect(third.length).toBe(0);
    await third.discard();
  });

  test("a suspended spool that is longer than the content is begun anew, or refused by expect()", async () => {
    const { store } = await open();
    const digest = digestOf(noise(10, 10));
    const leave = async () => {
      const spool = await store.spool(digest, undefined);
      await spool.append(noise(20, 10));
      await spool.suspend();
    };
    await leave();
    const fresh = await store.spool(digest, 10);
    expect(fresh.length).toBe(0);
    await fresh.discard();
    await leave();
    const long = await store.spool(digest, undefined);
    expect(long.length).toBe(20);
    expect(await kindOf(long.expect(10))).toBe("mismatch");
    expect(store.usage().spooledBytes).toBe(0);
  });

  test("discard() removes, suspend() of nothing leaves nothing", async () => {
    const { store } = await open();
    const digest = digestOf(noise(10, 11));
    const first = await store.spool(digest, 10);
    await first.append(noise(5, 11));
    await first.discard();
    const second = await store.spool(digest, 10);
    expect(second.length).toBe(0);
    await second.suspend();
    expect(store.usage().spooledBytes).toBe(0);
  });

  test("an ended spool refuses everything but being given up again", async () => {
    const { store } = await open();
    const spool = await store.spool(digestOf(noise(10, 12)), undefined);
    await spool.append(noise(5, 12));
    await spool.discard();
    expect(await kindOf(spool.append(noise(1, 1)))).toBe("broken");
    expect(await kindOf(spool.expect(10))).toBe("broken");
    expect(await kindOf(spool.verify())).toBe("broken");
    expect(await kindOf(spool.commit())).toBe("broken");
    expect(await kindOf(spool.open())).toBe("broken");
    await spool.discard();
    await spool.suspend();
  });

  test("two spools of one digest do not touch each other, and both may commit", async () => {
    const { store } = await open();
    const bytes = noise(3000, 13);
    const digest = digestOf(bytes);
    const [one, two] = [await store.spool(digest, 3000), await store.spool(digest, 3000)];
    await one.append(bytes.subarray(0, 1000));
    await two.append(bytes.subarray(0, 2000));
    await one.append(bytes.subarray(1000));
    await two.append(bytes.subarray(2000));
    await one.commit();
    await two.commit();
    expect(await readAll(await store.open(digest))).toEqual(bytes);
    expect(store.usage()).toMatchObject({ bytes: 3000, count: 1, spooledBytes: 0 });
  });

  test("open() of a spool follows it as it grows, past commit and past discard", async () => {
    const { store } = await open();
    const bytes = noise(3000, 14);
    for (const end of ["commit", "discard"] as const) {
      const spool = await store.spool(digestOf(bytes), 3000);
      const reader = await spool.open();
      const into = new Uint8Array(5000);
      expect(await reader.read(into, 0)).toBe(0);
      await spool.append(bytes.subarray(0, 1000));
      expect(reader.bytes).toBe(1000);
      expect(await reader.read(into, 400)).toBe(600);
      expect(into.subarray(0, 600)).toEqual(bytes.subarray(400, 1000));
      await spool.append(bytes.subarray(1000));
      await spool[end]();
      await store.remove(digestOf(bytes));
      expect(await readAll(reader)).toEqual(bytes);
      await reader.close();
    }
  });

  test("[R240] an open reader reads to its end when the content is removed", async () => {
    const { store } = await open();
    const bytes = noise(100_000, 15);
    const digest = await put(store, bytes);
    const reader = await store.open(digest);
    const into = new Uint8Array(10);
    await reader?.read(into, 0);
    expect(await store.remove(digest)).toBe(100_000);
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.remove(digest)).toBe(0);
    expect(await readAll(reader)).toEqual(bytes);
  });

  test("read() gives what is there and 0 behind the end", async () => {
    const { store } = await open();
    const digest = await put(store, noise(10, 16));
    const reader = await store.open(digest);
    const into = new Uint8Array(100);
    expect(await reader?.read(into, 4)).toBe(6);
    expect(await reader?.read(into, 10)).toBe(0);
    expect(await reader?.read(into, 1000)).toBe(0);
    await reader?.close();
    await reader?.close();
  });

  test("list() names everything that is committed and nothing else", async () => {
    const { store } = await open();
    const digests: string[] = [];
    for (let seed = 0; seed < 40; seed++) digests.push((await put(store, noise(10 + seed, seed))).text);
    const spool = await store.spool(digestOf(noise(5, 1000)), 5);
    const listed = await Array.fromAsync(store.list());
    expect(listed.map(({ digest }) => digest).toSorted()).toEqual(digests.toSorted());
    expect(listed.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(store.usage().bytes);
    await spool.discard();
  });

  test("verify() of the store tells damage and lets the content disappear", async () => {
    const { store, damage } = await open();
    const { signal } = new AbortController();
    const bytes = noise(2_000_000, 17);
    const digest = await put(store, bytes);
    expect(await store.verify(digest, signal)).toBe("good");
    await damage(digest, noise(2_000_000, 18));
    expect(await store.verify(digest, signal)).toBe("damaged");
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.verify(digest, signal)).toBeUndefined();
    expect(store.usage()).toMatchObject({ bytes: 0, count: 0 });
  });

  test("verify() of the store stops when its signal is aborted", async () => {
    const { store } = await open();
    const digest = await put(store, noise(100, 19));
    await expect(store.verify(digest, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
  });

  test("[T19] the budget holds for committed, reserved and suspended bytes together", async () => {
    const { store } = await open(1000);
    await put(store, noise(400, 20));
    expect(await kindOf(store.spool(digestOf(noise(700, 21)), 700))).toBe("full");
    expect(store.usage()).toMatchObject({ bytes: 400, spooledBytes: 0 });
    const running = await store.spool(digestOf(noise(500, 22)), 500);
    expect(store.usage().spooledBytes).toBe(500);
    const other = await store.spool(digestOf(noise(200, 23)), undefined);
    expect(await kindOf(other.expect(200))).toBe("full");
    await other.discard();
    await running.discard();
    const now = await store.spool(digestOf(noise(600, 24)), 600);
    await now.append(noise(600, 24));
    await now.commit();
    expect(store.usage()).toMatchObject({ bytes: 1000, count: 2, spooledBytes: 0 });
  });

  test("[T19] a spool of unknown length is full when it passes the budget", async () => {
    const { store } = await open(1000);
    const spool = await store.spool(digestOf(noise(2000, 25)), undefined);
    await spool.append(noise(900, 25));
    expect(await kindOf(spool.append(noise(900, 25)))).toBe("full");
    await spool.discard();
    expect(store.usage().spooledBytes).toBe(0);
  });
});

function digestOf(bytes: Uint8Array, algorithm: "sha256" | "sha512" = "sha256"): Digest {
  return parsed(`${algorithm}:${new Bun.CryptoHasher(algorithm).update(bytes).digest("hex")}`);
}

function parsed(text: string): Digest {
  const digest = parseDigest(text);
  if (digest === undefined) throw new Error(`no digest: ${text}`);
  return digest;
}

async function readAll(reader: ContentReader | undefined): Promise<Uint8Array> {
  if (reader === undefined) throw new Error("there is no content");
  const bytes = new Uint8Array(reader.bytes);
  let position = 0;
  while (position < bytes.byteLength) position += await reader.read(bytes.subarray(position), position);
  await reader.close();
  return bytes;
}

async function kindOf(failing: Promise<unknown>): Promise<string> {
  try {
    await failing;
  } catch (cause) {
    if (cause instanceof StoreError) return cause.kind;
    throw cause;
  }
  return "no error";
}
