/**
 * The Store on a file system: an OCI image layout that other tools can read, with a folder of spools beside it. Nothing is
 * kept in memory but sums and the names of suspended spools; what lies in `blobs` is what there is.
 *
 * Several processes may share the directory: each writes in a spool folder of its own (`spool-folder`), and committed
 * content is only ever renamed into its place, whole and verified.
 */
import { constants } from "node:fs";
import { open, unlink } from "node:fs/promises";
import type { Log } from "../log.ts";
import { type Digest, isVerifiable } from "../registry/digest.ts";
import { createBudget } from "./budget.ts";
import { contentsOf, startCount } from "./count.ts";
import { storeErrorOf, unlessMissing } from "./disk.ts";
import { createIntegrity, type KnownSizes } from "./integrity.ts";
import { committedBytes, isDigestOfNothing, layoutIn, prepareLayout, reportStrangers } from "./layout.ts";
import { createOpenFiles, type OpenFile, within } from "./open-files.ts";
import { openSpoolFile } from "./spool-file.ts";
import { createSpoolFolder, type SpoolFolder, type Suspended } from "./spool-folder.ts";
import { type ContentReader, type Spool, type Store, type StoredContent, StoreError } from "./store.ts";

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
  /** How long content must be: a file of another length is not served. Default: nobody knows. */
  readonly sizes?: KnownSizes;
  /** Told of content that is not what its digest says and was moved aside, for counting. */
  readonly damaged?: () => void;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/** A disk that takes longer for one step has failed: a pull goes on without it. */
const DISK_TIMEOUT_MS = 20_000;
/** Before the first byte there is less time: clients wait half a minute for a header block, in all (protocol R174). */
const FIRST_TIMEOUT_MS = 5000;

/**
 * Opens the store. A read-only directory still serves what it holds; spools are then refused as `broken`.
 * @throws StoreError `broken` when the directory can neither be made nor read
 */
export async function createFilesystemStore(
  options: FilesystemStoreOptions,
  dependencies: FilesystemStoreDependencies,
): Promise<Store> {
  const { log, makeRoom = async () => false, sizes = NO_SIZES, now = Date.now } = dependencies;
  const { damaged = () => undefined } = dependencies;
  const layout = layoutIn(options.directory);
  const files = createOpenFiles({ timeoutMs: DISK_TIMEOUT_MS });
  await prepare();
  const count = startCount(layout, { log });
  const budget = createBudget(options, {
    committedBytes: () => count.bytes,
    dropSuspended: (bytes) => folder.drop(bytes),
    makeRoom,
  });
  const folder: SpoolFolder = await createSpoolFolder(layout, { budget, log, now });
  const { isWhole, verify } = createIntegrity(layout, { sizes, count, log, damaged, openCommitted });

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
    const opening = openSpool(digest, expectedBytes);
    let isLate = false;
    opening.then((late) => (isLate ? late.suspend() : undefined)).catch(() => undefined);
    try {
      return await within(FIRST_TIMEOUT_MS, opening);
    } catch (cause) {
      isLate = true;
      throw storeErrorOf(cause, `open a spool for ${digest.text}`);
    }
  }

  async function openSpool(digest: Digest, expectedBytes: number | undefined): Promise<Spool> {
    const suspended = await folder.take(digest);
    const found = suspended === undefined ? undefined : await resume(digest, suspended, expectedBytes);
    return found ?? begin(digest, expectedBytes);
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
          sizes.verified({ digest: of.text, bytes: size });
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

  async function find(digest: Digest): Promise<StoredContent | undefined> {
    if (!isVerifiable(digest)) return undefined;
    try {
      const bytes = await within(FIRST_TIMEOUT_MS, committedBytes(layout, digest));
      if (bytes === undefined || !(await within(FIRST_TIMEOUT_MS, isWhole(digest, bytes)))) return undefined;
      return { digest: digest.text, bytes };
    } catch (cause) {
      throw storeErrorOf(cause, `look for ${digest.text}`);
    }
  }

  async function openContent(digest: Digest): Promise<ContentReader | undefined> {
    try {
      return await openWhole(digest);
    } catch (cause) {
      throw storeErrorOf(cause, `open ${digest.text}`);
    }
  }

  async function openWhole(digest: Digest): Promise<ContentReader | undefined> {
    const reader = await openCommitted(digest);
    if (reader === undefined) return undefined;
    let isServed = false;
    try {
      isServed = await within(FIRST_TIMEOUT_MS, isWhole(digest, reader.bytes));
    } finally {
      if (!isServed) await reader.close();
    }
    return isServed ? reader : undefined;
  }

  async function openCommitted(digest: Digest): Promise<ContentReader | undefined> {
    if (!isVerifiable(digest)) return undefined;
    const path = layout.pathOf(digest);
    // Not following links, not waiting for the writer of a pipe: whatever lies there, opening it is harmless.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await unlessMissing(files.open(path, flags).catch(unlessLink));
    if (file === undefined) return undefined;
    const bytes = await file.bytes();
    if (bytes !== undefined && (bytes > 0 || isDigestOfNothing(digest))) return readerOf(file, bytes);
    await file.close();
    return undefined;
  }

  return {
    find,
    open: openContent,
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

const NO_SIZES: KnownSizes = { size: () => undefined, verified: () => undefined };

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

function readerOf(file: OpenFile, bytes: number): ContentReader {
  return {
    bytes,
    read: async (into, position) => (position < bytes ? file.read(into.subarray(0, bytes - position), position) : 0),
    close: file.close,
  };
}
