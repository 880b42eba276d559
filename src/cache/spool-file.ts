/**
 * One spool as a file: written at its end by one, read by any number through the same file handle, hashed on the way.
 * write → datasync → rename → sync of the directory, so that a name in `blobs` always means whole, right and durable.
 *
 * The handle stays open until the spool ended and the last reader left; a reader thus outlives commit, discard, and the
 * eviction of what was committed (protocol R240).
 */
import { mkdir, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { Digest } from "../registry/digest.ts";
import type { Reservation } from "./budget.ts";
import { fileBytes, storeErrorOf, syncDirectory, unlessMissing } from "./disk.ts";
import { hashPart } from "./hash-file.ts";
import { hasherFor } from "./layout.ts";
import type { OpenFiles } from "./open-files.ts";
import { type ContentReader, type Spool, StoreError, type StoredContent } from "./store.ts";

export interface SpoolFile {
  readonly digest: Digest;
  readonly path: string;
  /** Where it is committed to. */
  readonly target: string;
  /** Bytes that are there already. */
  readonly bytes: number;
  readonly reservation: Reservation;
}

export interface SpoolFileDependencies {
  readonly files: OpenFiles;
  /** Told of what was committed, and how many bytes of the same digest it replaced. */
  readonly committed: (digest: Digest, bytes: number, replacedBytes: number | undefined) => void;
  /** Takes a spool that is given up for later. */
  readonly keep: (digest: Digest, spool: { path: string; bytes: number; reservation: Reservation }) => Promise<void>;
}

/** A download of unknown length reserves so much at a time, and one of known length looks so often whether it still fits. */
const STEP_BYTES = 64 * 1024 * 1024;

type State = "open" | "failed" | "ended";

/** @throws the file system's error */
export async function openSpoolFile(file: SpoolFile, dependencies: SpoolFileDependencies): Promise<Spool> {
  const { digest, path, target, reservation } = file;
  const handle = await dependencies.files.open(path, file.bytes === 0 ? "wx+" : "r+");
  const hasher = hasherFor(digest);
  let length = file.bytes;
  let totalBytes: number | undefined;
  let checkedBytes = file.bytes;
  let state: State = "open";
  let isVerified = false;
  let readers = 0;
  // What was found is hashed beside the request to the upstream; the first write waits for it.
  const stop = new AbortController();
  const rehashed = hashPart(handle, hasher, { first: 0, end: file.bytes, signal: stop.signal });
  rehashed.catch(() => undefined);

  async function append(bytes: Uint8Array): Promise<void> {
    assertOpen("append");
    try {
      await rehashed;
      const end = length + bytes.byteLength;
      if (totalBytes !== undefined && end > totalBytes) await refuse(`expected ${totalBytes} bytes, got more`);
      await holdRoom(end);
      // The write runs on a thread of its own; hashing meanwhile makes the two together as fast as the slower.
      const writing = handle.write(bytes, length);
      hasher.update(bytes);
      await writing;
      length = end;
      reservation.wrote(length);
    } catch (cause) {
      if (state === "open") state = "failed";
      throw storeErrorOf(cause, `append to the spool of ${digest.text}`);
    }
  }

  async function holdRoom(end: number): Promise<void> {
    if (totalBytes === undefined) return growStepwise(end);
    if (end - checkedBytes < STEP_BYTES) return;
    await reservation.confirm();
    checkedBytes = end;
  }

  async function growStepwise(end: number): Promise<void> {
    try {
      await reservation.growTo(Math.ceil(end / STEP_BYTES) * STEP_BYTES);
    } catch {
      // A whole step does not fit any more; what is here may, and if not this throws.
      await reservation.growTo(end);
    }
  }

  async function expect(bytes: number): Promise<void> {
    assertOpen("expect");
    if (length > bytes) await refuse(`expected ${bytes} bytes, ${length} are here`);
    totalBytes = bytes;
    await reservation.growTo(bytes);
  }

  async function verify(): Promise<void> {
    if (isVerified) return;
    assertOpen("verify");
    try {
      await rehashed;
    } catch (cause) {
      state = "failed";
      throw storeErrorOf(cause, `read the spool of ${digest.text}`);
    }
    if (totalBytes !== undefined && length !== totalBytes) await refuse(`expected ${totalBytes} bytes, got ${length}`);
    const found = hasher.digest("hex");
    if (found !== digest.encoded) await refuse(`expected ${digest.text}, got ${digest.algorithm}:${found}`);
    isVerified = true;
  }

  async function commit(): Promise<StoredContent> {
    await verify();
    assertOpen("commit");
    try {
      await handle.settle(length);
      await publish();
    } catch (cause) {
      if (state === "open") state = "failed";
      throw storeErrorOf(cause, `commit ${digest.text}`);
    }
    return { digest: digest.text, bytes: length };
  }

  async function publish(): Promise<void> {
    const folder = dirname(target);
    await mkdir(folder, { recursive: true });
    const present = await fileBytes(target);
    // Another process was faster. A file of another length cannot be whole: ours takes its place.
    if (present === length) await unlink(path);
    else await rename(path, target);
    await end();
    reservation.release();
    if (present === length) return;
    dependencies.committed(digest, length, present);
    await syncDirectory(folder);
  }

  async function refuse(message: string): Promise<never> {
    await discard();
    throw new StoreError("mismatch", `digest or length mismatch: ${message}`);
  }

  async function suspend(): Promise<void> {
    if (state === "ended") return;
    if (length === 0) return discard();
    await end();
    reservation.shrink();
    await dependencies.keep(digest, { path, bytes: length, reservation });
  }

  async function discard(): Promise<void> {
    if (state === "ended") return;
    await end();
    reservation.release();
    await unlessMissing(unlink(path));
  }

  async function end(): Promise<void> {
    state = "ended";
    // A running hash reads through this handle. How it ends is told to those who need it.
    stop.abort();
    await rehashed.catch(() => undefined);
    if (readers === 0) await handle.close();
  }

  function assertOpen(what: string): void {
    if (state !== "open") throw new StoreError("broken", `cannot ${what}: the spool of ${digest.text} has ${state}`);
  }

  function openReader(): ContentReader {
    if (state === "ended") throw new StoreError("broken", `cannot open: the spool of ${digest.text} has ended`);
    readers += 1;
    let isOpen = true;
    return {
      get bytes() {
        return length;
      },
      async read(into, position) {
        return position < length ? handle.read(into.subarray(0, length - position), position) : 0;
      },
      async close() {
        if (!isOpen) return;
        isOpen = false;
        readers -= 1;
        if (readers === 0 && state === "ended") await handle.close();
      },
    };
  }

  return {
    digest,
    get length() {
      return length;
    },
    append,
    expect,
    open: async () => openReader(),
    verify,
    commit,
    suspend,
    discard,
  };
}
