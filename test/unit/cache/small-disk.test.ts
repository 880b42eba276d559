/** Real disks that are full or read-only: a tmpfs of two megabytes, where this process may mount one. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { createFills } from "../../../src/cache/fill.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { createFilesystemStore } from "../../../src/cache/filesystem.ts";
import { type Store, StoreError } from "../../../src/cache/store.ts";
import { createFakeSource, digestOfBytes, drain, noise } from "../../support/fill-source.ts";
import { mayMount, mountDisk, type SmallDisk } from "../../support/small-disk.ts";

const silent = { info: () => undefined, warn: () => undefined };

describe.skipIf(!mayMount())("on a small disk", () => {
  let dir: SmallDisk;
  const stores: Store[] = [];
  beforeEach(async () => {
    dir = await mountDisk("2m");
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    await dir[Symbol.asyncDispose]();
  });

  async function open(minFreeBytes = 0): Promise<Store> {
    const store = await createFilesystemStore({ directory: dir.path, maxBytes: 1e9, minFreeBytes }, { log: silent });
    stores.push(store);
    return store;
  }

  async function pull(store: Store, size: number, isTotalTold: boolean) {
    const bytes = noise(size, size);
    const fills = createFills(
      { maxFills: 1 },
      { store, log: silent, downloads: createDownloads({ idleTimeoutMs: 5000 }) },
    );
    const source = createFakeSource({ bytes, isTotalTold, pieceBytes: () => 50_000 });
    const fill = fills.join(digestOfBytes(bytes), source.open);
    if (fill === undefined) throw new Error("refused");
    const got = await drain(fill.follow({ first: 0, last: undefined }));
    expect(got.error).toBeUndefined();
    expect(got.bytes.equals(bytes)).toBe(true);
    const result = await fill.done;
    await fills.close();
    return { result, source };
  }

  test("[T19] a content that cannot fit is not begun, and is pulled by one request", async () => {
    const store = await open();
    const { result, source } = await pull(store, 4_000_000, true);
    expect(result).toMatchObject({ kind: "failed", error: { kind: "full" } });
    expect(source.offsets).toEqual([0]);
  });

  test("[R263, T19] a disk that fills up in mid-fill fails no pull and is left clean", async () => {
    const store = await open();
    const { result, source } = await pull(store, 4_000_001, false);
    expect(result).toMatchObject({ kind: "failed", error: { kind: "full" } });
    // One reader of the fill goes on with its body: nothing is fetched twice.
    expect(source.offsets).toEqual([0]);
    expect(store.usage()).toMatchObject({ bytes: 0, spooledBytes: 0 });
    expect(
      (await readdir(path.join(dir.path, "spool"), { recursive: true })).filter((name) => name.includes("sha")),
    ).toEqual([]);
    expect((await pull(store, 500_000, true)).result.kind).toBe("committed");
    await store.remove(digestOfBytes(noise(500_000, 500_000)));
  });

  test("append() says full when the disk does", async () => {
    const store = await open();
    const bytes = noise(3_000_000, 1);
    const spool = await store.spool(digestOfBytes(bytes), undefined);
    const failing = (async () => {
      for (let at = 0; at < bytes.byteLength; at += 100_000) await spool.append(bytes.subarray(at, at + 100_000));
    })();
    await expect(failing).rejects.toMatchObject({ name: "StoreError", kind: "full" });
    await spool.discard();
  });

  test("free space that must stay free stays free", async () => {
    const store = await open(1_000_000);
    await expect(store.spool(digestOfBytes(noise(10, 1)), 1_500_000)).rejects.toBeInstanceOf(StoreError);
    await (await store.spool(digestOfBytes(noise(10, 1)), 500_000)).discard();
  });

  test("[T19] a read-only disk serves what it holds, refuses what is new, and fails no pull", async () => {
    const writable = await open();
    await pull(writable, 300_000, true);
    dir.makeReadOnly();
    // It became so under a running store, which still ends in peace.
    await writable.close();
    const store = await open();
    const held = digestOfBytes(noise(300_000, 300_000));
    expect(await store.find(held)).toMatchObject({ bytes: 300_000 });
    const { result, source } = await pull(store, 300_001, true);
    expect(result).toMatchObject({ kind: "failed", error: { kind: "broken" } });
    expect(source.offsets).toEqual([0]);
    await expect(store.remove(held)).rejects.toMatchObject({ kind: "broken" });
    await store.close();
  });
});
