/**
 * The Store on a file system: an OCI image layout that other tools can read, with a folder of spools beside it. Nothing is
 * kept in memory but sums and the names of suspended spools; what lies in `blobs` is what there is.
 *
 * Several processes may share the directory: each writes in a spool folder of its own (`spool-folder`), and committed
 * content is only ever renamed into its place, whole and verified.
 */
import { constants } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";
import type { Log } from "../log.ts";
import { type Digest, isVerifiable } from "../registry/digest.ts";
import { createBudget } from "./budget.ts";
import { contentsOf, startCount } from "./count.ts";
import { setAside } from "./damaged.ts";
import { storeErrorOf, unlessMissing } from "./disk.ts";
import { hashPart } from "./hash-file.ts";
import { committedBytes, hasherFor, isDigestOfNothing, layoutIn, prepareLayout, reportStrangers } from "./layout.ts";
import { createOpenFiles, type OpenFiles } from "./open-files.ts";
import { openSpoolFile } from "./spool-file.ts";
import { createSpoolFolder, type SpoolFolder, type Suspended } from "./spool-folder.ts";
import { type ContentReader, type Spool, type Store, StoreError } from "./store.ts";

export interface FilesystemStoreOptions {
  /** Made when missing. */
  readonly directory: string;
  /** Budget of committed and spooled content together. */
  readonly maxBytes: number;
  /** Free space of the file system that is never used up. */
  readonly minFreeBytes: number;
  /** Names in the directory that belong to others of ours (records, admin socket); anything else unknown is logged once. */
  readonly neighbours?: readonly string[];
}

export interface FilesystemStoreDependencies {
  readonly log: Pick<Log, "info" | "warn">;
  /** Asked for room when the budget is used up: true when it made at least so many bytes free. Default: never. */
  readonly makeRoom?: (bytes: number) => Promise<boolean>;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * Opens the store. A read-only directory still serves what it holds; spools are then refused as `broken`.
 * @throws StoreError `broken` when the directory can neither be made nor read
 */
export async function createFilesystemStore(
  options: FilesystemStoreOptions,
  dependencies: FilesystemStoreDependencies,
): Promise<Store> {
  const { log, makeRoom = async () => false, now = Date.now } = dependencies;
  const layout = layoutIn(options.directory);
  const files = createOpenFiles();
  await prepare();
  const count = startCount(layout, { log });
  const budget = createBudget(options, {
    committedBytes: () => count.bytes,
    dropSuspended: (bytes) => folder.drop(bytes),
    makeRoom,
  });
  const folder: SpoolFolder = await createSpoolFolder(layout, { budget, log, now });

  async function prepare(): Promise<void> {
    try {
      await prepareLayout(layout);
    } catch (cause) {
      if (!(await isReadable(layout.directory))) {
        throw storeErrorOf(cause, `make the cache directory ${layout.directory}`);
      }
      log.warn(
        { err: cause, directory: layout.directory },
        "the cache directory cannot be written; nothing new is kept",
      );
    }
    await reportStrangers(layout, new Set(options.neighbours), log);
  }

  async function spool(digest: Digest, expectedBytes: number | undefined): Promise<Spool> {
    if (!isVerifiable(digest)) throw new StoreError("broken", `content of ${digest.text} cannot be verified`);
    try {
      const suspended = await folder.take(digest);
      const found = suspended === undefined ? undefined : await resume(digest, suspended, expectedBytes);
      return found ?? (await begin(digest, expectedBytes));
    } catch (cause) {
      throw storeErrorOf(cause, `open a spool for ${digest.text}`);
    }
  }

  /** Undefined when what was left is of no use. */
  async function resume(digest: Digest, suspended: Suspended, expectedBytes: number | undefined) {
    const isTooLong = expectedBytes !== undefined && suspended.bytes > expectedBytes;
    let opened: Spool | undefined;
    try {
      if (!isTooLong) opened = await unlessMissing(openFile(digest, suspended));
    } finally {
      if (opened === undefined) suspended.reservation.release();
    }
    if (opened !== undefined) return expecting(opened, expectedBytes);
    await unlessMissing(unlink(suspended.path));
    return undefined;
  }

  async function begin(digest: Digest, expectedBytes: number | undefined): Promise<Spool> {
    const path = await folder.newPath(digest);
    const reservation = budget.reserve(0);
    try {
      return await expecting(await openFile(digest, { path, bytes: 0, reservation }), expectedBytes);
    } catch (cause) {
      reservation.release();
      throw cause;
    }
  }

  function openFile(digest: Digest, { path, bytes, reservation }: Suspended): Promise<Spool> {
    return openSpoolFile(
      { digest, path, target: layout.pathOf(digest), bytes, reservation },
      {
        files,
        keep: folder.keep,
        committed(of, size, replacedBytes) {
          if (replacedBytes !== undefined && replacedBytes > 0) count.subtract(of, replacedBytes);
          count.add(of, size);
        },
      },
    );
  }

  async function remove(digest: Digest): Promise<number> {
    if (!isVerifiable(digest)) return 0;
    const bytes = await committedBytes(layout, digest);
    if (bytes === undefined) return 0;
    try {
      if ((await unlessMissing(unlink(layout.pathOf(digest)).then(() => true))) === undefined) return 0;
    } catch (cause) {
      throw storeErrorOf(cause, `remove ${digest.text}`);
    }
    count.subtract(digest, bytes);
    return bytes;
  }

  async function verify(digest: Digest, signal: AbortSignal): Promise<"good" | "damaged" | undefined> {
    const opened = await openCommitted(digest);
    if (opened === undefined) return undefined;
    const content = readerOf(opened, files);
    const { bytes } = content;
    const hasher = hasherFor(digest);
    try {
      await hashPart(content, hasher, { first: 0, end: bytes, signal });
    } catch (cause) {
      signal.throwIfAborted();
      throw storeErrorOf(cause, `read ${digest.text}`);
    } finally {
      await content.close();
    }
    if (hasher.digest("hex") === digest.encoded) return "good";
    if ((await unlessMissing(setAside(layout, digest).then(() => true))) === undefined) return undefined;
    count.subtract(digest, bytes);
    log.warn({ digest: digest.text, bytes }, "content was damaged on disk and is moved aside");
    return "damaged";
  }

  async function openCommitted(digest: Digest): Promise<{ handle: FileHandle; bytes: number } | undefined> {
    if (!isVerifiable(digest)) return undefined;
    const path = layout.pathOf(digest);
    // Not following links, not waiting for the writer of a pipe: whatever lies there, opening it is harmless.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await unlessMissing(files.open(path, flags).catch(unlessLink));
    if (handle === undefined) return undefined;
    const stats = await handle.stat();
    if (stats.isFile() && (stats.size > 0 || isDigestOfNothing(digest))) return { handle, bytes: stats.size };
    await files.close(handle);
    return undefined;
  }

  return {
    async find(digest) {
      if (!isVerifiable(digest)) return undefined;
      const bytes = await committedBytes(layout, digest);
      return bytes === undefined ? undefined : { digest: digest.text, bytes };
    },
    async open(digest) {
      const opened = await openCommitted(digest);
      return opened === undefined ? undefined : readerOf(opened, files);
    },
    spool,
    remove,
    list: () => contentsOf(layout),
    verify,
    usage: () => ({
      bytes: count.bytes,
      count: count.contents,
      spooledBytes: budget.spooledBytes,
      isComplete: count.isComplete,
    }),
    async close() {
      await count.close();
      await folder.close();
      await files.closeAll();
    },
  };
}

async function expecting(spool: Spool, expectedBytes: number | undefined): Promise<Spool> {
  if (expectedBytes === undefined) return spool;
  try {
    await spool.expect(expectedBytes);
    return spool;
  } catch (cause) {
    await spool.suspend();
    throw cause;
  }
}

async function isReadable(directory: string): Promise<boolean> {
  try {
    await (await open(directory, "r")).close();
    return true;
  } catch {
    // Why it could not be made says more, and is what the caller throws.
    return false;
  }
}

function unlessLink(cause: unknown): undefined {
  const isLinkOrSocket =
    cause instanceof Error && "code" in cause && (cause.code === "ELOOP" || cause.code === "ENXIO");
  if (!isLinkOrSocket) throw cause;
  return undefined;
}

function readerOf({ handle, bytes }: { handle: FileHandle; bytes: number }, files: OpenFiles): ContentReader {
  return {
    bytes,
    async read(into, position) {
      if (position >= bytes) return 0;
      const part = into.subarray(0, bytes - position);
      return (await handle.read(part, 0, part.byteLength, position)).bytesRead;
    },
    close: () => files.close(handle),
  };
}
