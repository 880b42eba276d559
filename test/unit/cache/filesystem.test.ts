/** What only the Store on a file system promises: its tree, other processes, full and odd disks. */
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, readdir, readlink, rename, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  createFilesystemStore,
  type FilesystemStoreDependencies,
  type FilesystemStoreOptions,
} from "../../../src/cache/filesystem.ts";
import { type Store, StoreError } from "../../../src/cache/store.ts";
import type { Digest } from "../../../src/registry/digest.ts";
import { digestOfBytes, noise } from "../../support/fill-source.ts";
import { createTempDir, type TempDir } from "../../support/temp-dir.ts";

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function tempDir(): Promise<TempDir> {
  const dir = await createTempDir();
  ends.push(dir.remove);
  return dir;
}

interface Opened {
  readonly store: Store;
  readonly lines: string[];
}

async function open(
  directory: string,
  options: Partial<FilesystemStoreOptions> = {},
  dependencies: Partial<FilesystemStoreDependencies> = {},
): Promise<Opened> {
  const lines: string[] = [];
  const line = (fields: unknown, text?: string): void => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log = { info: line, warn: line };
  const store = await createFilesystemStore(
    { directory, maxBytes: 1e9, minFreeBytes: 0, ...options },
    { log, ...dependencies },
  );
  ends.push(store.close);
  return { store, lines };
}

async function put(store: Store, bytes: Uint8Array): Promise<Digest> {
  const digest = digestOfBytes(bytes);
  const spool = await store.spool(digest, bytes.byteLength);
  await spool.append(bytes);
  await spool.commit();
  return digest;
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

async function counted(store: Store): Promise<void> {
  while (!store.usage().isComplete) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Every file below `spool`, the sockets of living processes left out. */
async function spoolFiles(dir: TempDir): Promise<string[]> {
  const names = await readdir(dir.file("spool"), { recursive: true });
  return names.filter((name) => /\/sha(256|512)-/.test(name));
}

describe("the tree", () => {
  test("is an OCI image layout", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    const digest = await put(store, noise(10, 1));
    expect(await Bun.file(dir.file("oci-layout")).json()).toEqual({ imageLayoutVersion: "1.0.0" });
    expect(await Bun.file(dir.file("index.json")).json()).toMatchObject({ schemaVersion: 2, manifests: [] });
    expect(await Bun.file(dir.file("blobs", "sha256", digest.encoded)).bytes()).toEqual(noise(10, 1));
  });

  test("marks that are there already stay as they are", async () => {
    const dir = await tempDir();
    await writeFile(dir.file("index.json"), "kept");
    await open(dir.path);
    expect(await Bun.file(dir.file("index.json")).text()).toBe("kept");
  });

  test("what is not ours is left alone, not found, and named in one line", async () => {
    const dir = await tempDir();
    const digest = digestOfBytes(noise(10, 2));
    const path = (name: string): string => dir.file("blobs", "sha256", name);
    await mkdir(path(digest.encoded), { recursive: true });
    await writeFile(dir.file("notes.txt"), "mine");
    await writeFile(dir.file("records.sqlite"), "");
    await writeFile(path("README"), "what is this");
    await writeFile(path(digestOfBytes(noise(10, 3)).encoded), "");
    await writeFile(dir.file("secret"), "secret");
    await symlink(dir.file("secret"), path(digestOfBytes(noise(10, 4)).encoded));
    const { store, lines } = await open(dir.path, { neighbours: ["records.sqlite"] });
    await counted(store);
    for (const seed of [2, 3, 4]) {
      const odd = digestOfBytes(noise(10, seed));
      expect(await store.find(odd)).toBeUndefined();
      expect(await store.open(odd)).toBeUndefined();
      expect(await store.remove(odd)).toBe(0);
      expect(await store.verify(odd, new AbortController().signal)).toBeUndefined();
    }
    expect(await Array.fromAsync(store.list())).toEqual([]);
    expect(store.usage()).toMatchObject({ bytes: 0, count: 0 });
    expect(await readdir(dir.file("blobs", "sha256"))).toHaveLength(4);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('"examples":["notes.txt","secret"]');
  });

  test("commit() takes the place of an empty file and of one with another length", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    await counted(store);
    for (const found of ["", "too short"]) {
      const digest = digestOfBytes(noise(100, 5));
      await writeFile(dir.file("blobs", "sha256", digest.encoded), found);
      await put(store, noise(100, 5));
      expect(await store.find(digest)).toMatchObject({ bytes: 100 });
      await store.remove(digest);
    }
  });

  test("commit() next to a faster process keeps one copy", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    const other = await open(dir.path);
    await counted(store);
    const digest = digestOfBytes(noise(100, 6));
    const spool = await store.spool(digest, 100);
    await spool.append(noise(100, 6));
    await put(other.store, noise(100, 6));
    expect(await spool.commit()).toEqual({ digest: digest.text, bytes: 100 });
    expect(await spoolFiles(dir)).toEqual([]);
    expect(await store.find(digest)).toBeDefined();
  });

  test("a directory that somebody emptied under us is made again", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    await put(store, noise(10, 7));
    for (const name of await readdir(dir.path)) await rm(dir.file(name), { recursive: true });
    const digest = await put(store, noise(10, 8));
    expect(await store.find(digest)).toBeDefined();
    const [own = ""] = await readdir(dir.file("spool"));
    expect(existsSync(dir.file("spool", own, "alive"))).toBe(true);
  });
});

test("no file stays open", async () => {
  const openFiles = async (dir: TempDir): Promise<string[]> => {
    const links = await Promise.all(
      (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
    );
    return links.filter((path) => path.startsWith(dir.path));
  };
  const dir = await tempDir();
  const { store } = await open(dir.path);
  for (const [seed, end] of (["commit", "suspend", "discard"] as const).entries()) {
    const bytes = noise(1000, seed);
    const spool = await store.spool(digestOfBytes(bytes), 1000);
    const reader = await spool.open();
    await spool.append(bytes);
    await spool[end]();
    await reader.read(new Uint8Array(10), 0);
    await reader.close();
    await (await store.open(digestOfBytes(bytes)))?.close();
    await store.verify(digestOfBytes(bytes), new AbortController().signal);
  }
  expect(await openFiles(dir)).toEqual([]);
  const forgotten = await store.spool(digestOfBytes(noise(1, 1)), 1);
  expect(await openFiles(dir)).toHaveLength(1);
  await store.close();
  expect(await openFiles(dir)).toEqual([]);
  await forgotten.discard();
});

describe("room", () => {
  test("what must stay free of the disk is not promised", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path, { minFreeBytes: 1e18 });
    expect(await kindOf(store.spool(digestOfBytes(noise(10, 1)), 10))).toBe("full");
    expect(store.usage().spooledBytes).toBe(0);
    expect(await spoolFiles(dir)).toEqual([]);
  });

  test("makeRoom is asked for what is missing, after suspended spools went", async () => {
    const dir = await tempDir();
    const asked: number[] = [];
    let store: Store | undefined;
    const opened = await open(
      dir.path,
      { maxBytes: 1000 },
      {
        async makeRoom(bytes) {
          asked.push(bytes);
          return ((await store?.remove(digestOfBytes(noise(600, 1)))) ?? 0) >= bytes;
        },
      },
    );
    store = opened.store;
    await put(store, noise(600, 1));
    const half = await store.spool(digestOfBytes(noise(300, 2)), 300);
    await half.append(noise(100, 2));
    await half.suspend();
    expect(store.usage()).toMatchObject({ bytes: 600, spooledBytes: 100 });
    const one = await store.spool(digestOfBytes(noise(400, 3)), 400);
    expect(asked).toEqual([]);
    expect(await spoolFiles(dir)).toHaveLength(1);
    const two = await store.spool(digestOfBytes(noise(500, 4)), 500);
    expect(asked).toEqual([500]);
    expect(store.usage()).toMatchObject({ bytes: 0, spooledBytes: 900 });
    await one.discard();
    await two.discard();
  });

  test("content larger than the whole budget evicts nothing", async () => {
    const dir = await tempDir();
    const asked: number[] = [];
    const { store } = await open(
      dir.path,
      { maxBytes: 1000 },
      {
        makeRoom: async (bytes) => {
          asked.push(bytes);
          return true;
        },
      },
    );
    expect(await kindOf(store.spool(digestOfBytes(noise(10, 1)), 1001))).toBe("full");
    expect(asked).toEqual([]);
  });
});

describe("other processes", () => {
  const bytes = noise(1000, 300);
  const digest = digestOfBytes(bytes);

  async function leaveIn(dir: TempDir, owner: string, length = 400): Promise<string> {
    const folder = dir.file("spool", owner);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `sha256-${digest.encoded}.0a1b2c3d`), bytes.subarray(0, length));
    return folder;
  }

  /** A socket that nobody listens on: closing one removes its name, so it gets another for that moment. */
  async function leaveSocket(folder: string): Promise<void> {
    const [path, aside] = [join(folder, "alive"), join(folder, "aside")];
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await rename(path, aside);
    await new Promise((resolve) => server.close(resolve));
    await rename(aside, path);
  }

  async function lengthFound(dir: TempDir, now?: () => number): Promise<number> {
    const { store } = await open(dir.path, {}, now === undefined ? {} : { now });
    const spool = await store.spool(digest, undefined);
    await spool.discard();
    return spool.length;
  }

  test("a living process keeps its spools, running and suspended", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    const running = await store.spool(digest, 1000);
    await running.append(bytes.subarray(0, 300));
    const inTwoHours = (): number => Date.now() + 2 * 60 * 60_000;
    expect(await lengthFound(dir, inTwoHours)).toBe(0);
    await running.suspend();
    expect(await lengthFound(dir, inTwoHours)).toBe(0);
    expect((await store.spool(digest, undefined)).length).toBe(300);
  });

  test("[R264] what a process left in order is taken at once", async () => {
    const dir = await tempDir();
    const first = await open(dir.path);
    const spool = await first.store.spool(digest, 1000);
    await spool.append(bytes.subarray(0, 300));
    await spool.suspend();
    await first.store.close();
    expect(await lengthFound(dir)).toBe(300);
    expect(await spoolFiles(dir)).toEqual([]);
  });

  test("what another machine left is taken after an hour without a write", async () => {
    const dir = await tempDir();
    const folder = await leaveIn(dir, "elsewhere~12345678-1-0a1b2c3d");
    await leaveSocket(folder);
    expect(await lengthFound(dir)).toBe(0);
    expect(await lengthFound(dir, () => Date.now() + 59 * 60_000)).toBe(0);
    expect(await lengthFound(dir, () => Date.now() + 61 * 60_000)).toBe(400);
    expect(existsSync(folder)).toBe(false);
  });

  test("a folder of this machine without a socket counts by its last write", async () => {
    const dir = await tempDir();
    const name = hostname().replaceAll(/[^A-Za-z0-9.]/g, "_");
    const folder = await leaveIn(dir, `${name}~12345678-1-0a1b2c3d`);
    expect(await lengthFound(dir)).toBe(0);
    const past = new Date(Date.now() - 2 * 60 * 60_000);
    for (const path of [...(await readdir(folder)).map((file) => join(folder, file)), folder]) {
      await utimes(path, past, past);
    }
    expect(await lengthFound(dir)).toBe(400);
  });

  test("folders that are none of ours stay", async () => {
    const dir = await tempDir();
    await leaveIn(dir, "somebody");
    expect(await lengthFound(dir, () => Date.now() + 1e9)).toBe(0);
    expect(await spoolFiles(dir)).toHaveLength(1);
  });

  test("[T20] what a killed process of this machine left is taken at once, also after a new start of the machine", async () => {
    const dir = await tempDir();
    const folder = await leaveIn(dir, `${hostname().replaceAll(/[^A-Za-z0-9.]/g, "_")}~12345678-1-0a1b2c3d`);
    await leaveSocket(folder);
    expect(await lengthFound(dir)).toBe(400);
    expect(existsSync(folder)).toBe(false);
  });

  test.each([[[200, 700, 500]], [[700, 500, 200]], [[500, 200, 700]]])(
    "of several halves the longest is kept: %p",
    async (lengths) => {
      const dir = await tempDir();
      for (const [index, length] of lengths.entries()) await leaveIn(dir, `left-${index}`, length);
      expect(await lengthFound(dir)).toBe(700);
      expect(await spoolFiles(dir)).toEqual([]);
    },
  );

  test("what nobody went on with in a day is not taken over but removed", async () => {
    const dir = await tempDir();
    const day = 24 * 60 * 60_000;
    await leaveIn(dir, "left-1");
    const { store } = await open(dir.path, {}, { now: () => Date.now() + day + 60_000 });
    expect(store.usage().spooledBytes).toBe(0);
    expect(await spoolFiles(dir)).toEqual([]);
    await leaveIn(dir, "left-2");
    expect(await lengthFound(dir, () => Date.now() + day - 60_000)).toBe(400);
  });

  test("what a running process suspended goes a day after", async () => {
    const dir = await tempDir();
    let aheadMs = 0;
    const { store, lines } = await open(dir.path, {}, { now: () => Date.now() + aheadMs });
    const suspend = async (of: Digest): Promise<void> => {
      const spool = await store.spool(of, 1000);
      await spool.append(bytes.subarray(0, 300));
      await spool.suspend();
    };
    await suspend(digest);
    aheadMs = 23 * 60 * 60_000;
    await suspend(digestOfBytes(noise(500, 80)));
    expect(store.usage().spooledBytes).toBe(600);
    aheadMs += 2 * 60 * 60_000;
    await suspend(digestOfBytes(noise(500, 81)));
    expect(store.usage().spooledBytes).toBe(600);
    expect((await spoolFiles(dir)).filter((name) => name.includes(digest.encoded))).toEqual([]);
    expect(lines.filter((line) => line.startsWith("removed a half download"))).toHaveLength(1);
  });

  test("a suspended spool that another process took away is begun anew", async () => {
    const dir = await tempDir();
    const { store } = await open(dir.path);
    const spool = await store.spool(digest, 1000);
    await spool.append(bytes.subarray(0, 300));
    await spool.suspend();
    for (const name of await spoolFiles(dir)) await rename(dir.file("spool", name), dir.file("spool", "taken"));
    const again = await store.spool(digest, 1000);
    expect(again.length).toBe(0);
    await again.append(bytes);
    await again.commit();
    expect(store.usage().spooledBytes).toBe(0);
  });

  test("paths longer than a socket's may be work", async () => {
    const dir = await tempDir();
    const deep = dir.file("d".repeat(100), "e".repeat(100));
    const { store, lines } = await open(deep);
    const spool = await store.spool(digest, 1000);
    await spool.append(bytes.subarray(0, 300));
    const second = await open(deep);
    expect((await second.store.spool(digest, undefined)).length).toBe(0);
    expect(lines).toEqual([]);
  });
});

describe("verify()", () => {
  test("moves damaged content aside, and keeps sixteen of those at most", async () => {
    const dir = await tempDir();
    const { store, lines } = await open(dir.path);
    for (let seed = 0; seed < 20; seed++) {
      const digest = await put(store, noise(100, 400 + seed));
      await writeFile(dir.file("blobs", "sha256", digest.encoded), noise(100, 1));
      expect(await store.verify(digest, new AbortController().signal)).toBe("damaged");
      expect(await store.find(digest)).toBeUndefined();
    }
    expect(await readdir(dir.file("damaged"))).toHaveLength(16);
    expect(lines.filter((line) => line.includes("damaged"))).toHaveLength(20);
  });
});

describe("odd directories", () => {
  test("one that cannot be made is an error that says which", async () => {
    const dir = await tempDir();
    await writeFile(dir.file("file"), "");
    const failing = open(dir.file("file", "cache"));
    await expect(failing).rejects.toBeInstanceOf(StoreError);
    await expect(failing).rejects.toThrow(dir.file("file", "cache"));
  });
});
