/**
 * The Store in memory, for tests of what stands on top of one. It keeps the contract of `cache/store` and can be told to
 * fail; `test/contract/store.test.ts` holds it and the one on the file system to the same suite.
 */
import { createHash } from "node:crypto";
import { type Digest, isVerifiable } from "../../src/registry/digest.ts";
import {
  type ContentReader,
  type Spool,
  type Store,
  StoreError,
  type StoreErrorKind,
  type StoredContent,
} from "../../src/cache/store.ts";

export interface MemoryStoreOptions {
  readonly maxBytes?: number;
  /** Awaited before a spool is put away. */
  readonly beforeSuspend?: () => Promise<void>;
  /** Asked before each step; a kind that is given back is thrown. Mismatch happens by itself. */
  readonly fault?: (step: Step) => Exclude<StoreErrorKind, "mismatch"> | undefined;
}

export interface Step {
  readonly kind: "spool" | "expect" | "append" | "verify" | "commit" | "read";
  /** Bytes in the spool before the step. */
  readonly length: number;
}

export interface MemoryStore extends Store {
  /** Bytes of committed content, undefined when there is none. */
  bytesOf(digest: Digest): Uint8Array | undefined;
  /** Puts bytes under a digest without looking at them: content that a disk has damaged. */
  plant(digest: Digest, bytes: Uint8Array): void;
  /** Leaves bytes of a download for the next spool, as a process that was killed does. */
  leave(digest: Digest, bytes: Uint8Array): void;
  readonly openReaders: number;
  /** Readers that were closed under a running read, which on a disk reads another's file. */
  readonly unsafeCloses: number;
  readonly openSpools: number;
}

export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  const { maxBytes = Infinity, fault, beforeSuspend } = options;
  const contents = new Map<string, Uint8Array>();
  const left = new Map<string, Uint8Array>();
  const spools = new Set<{ reserved: number }>();
  let openReaders = 0;
  let unsafeCloses = 0;

  function step(kind: Step["kind"], length: number): void {
    const failure = fault?.({ kind, length });
    if (failure !== undefined) throw new StoreError(failure, `told to fail at ${kind}`);
  }

  function committedBytes(): number {
    return [...contents.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  function spooledBytes(): number {
    const suspended = [...left.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    return [...spools].reduce((sum, { reserved }) => sum + reserved, suspended);
  }

  function reader(bytes: () => Uint8Array): ContentReader {
    openReaders += 1;
    let isOpen = true;
    let isReading = false;
    return {
      get bytes() {
        return bytes().byteLength;
      },
      async read(into, position) {
        if (!isOpen) throw new Error("read after close");
        step("read", position);
        const part = bytes().subarray(position, position + into.byteLength);
        isReading = true;
        await Promise.resolve();
        isReading = false;
        into.set(part);
        return part.byteLength;
      },
      async close() {
        if (isReading) unsafeCloses += 1;
        if (isOpen) openReaders -= 1;
        isOpen = false;
      },
    };
  }

  async function spool(digest: Digest, expectedBytes: number | undefined): Promise<Spool> {
    if (!isVerifiable(digest)) throw new StoreError("broken", "cannot be verified");
    step("spool", 0);
    const found = left.get(digest.text);
    left.delete(digest.text);
    const isUseful = found !== undefined && found.byteLength <= (expectedBytes ?? Infinity);
    const opened = openSpool(digest, isUseful ? found : new Uint8Array(0));
    if (expectedBytes !== undefined) await opened.expect(expectedBytes);
    return opened;
  }

  function openSpool(digest: Digest, found: Uint8Array): Spool {
    let buffer = found.slice();
    let length = found.byteLength;
    let totalBytes: number | undefined;
    let state: "open" | "failed" | "ended" = "open";
    const reservation = { reserved: length };
    spools.add(reservation);
    const bytes = (): Uint8Array => buffer.subarray(0, length);

    function end(): void {
      state = "ended";
      spools.delete(reservation);
    }

    function fail(kind: StoreErrorKind, message: string): never {
      if (kind === "mismatch") end();
      else if (state === "open") state = "failed";
      throw new StoreError(kind, message);
    }

    function trying(kind: Step["kind"]): void {
      if (state !== "open") throw new StoreError("broken", `the spool has ${state}`);
      try {
        step(kind, length);
      } catch (cause) {
        state = "failed";
        throw cause;
      }
    }

    function reserve(wanted: number): void {
      const before = reservation.reserved;
      reservation.reserved = Math.max(before, wanted);
      if (committedBytes() + spooledBytes() <= maxBytes) return;
      reservation.reserved = before;
      fail("full", "the budget is used up");
    }

    function verify(): void {
      trying("verify");
      if (totalBytes !== undefined && totalBytes !== length) fail("mismatch", `expected ${totalBytes}, got ${length}`);
      const hash = createHash(digest.algorithm).update(bytes()).digest("hex");
      if (hash !== digest.encoded) fail("mismatch", `expected ${digest.text}, got ${hash}`);
    }

    return {
      digest,
      get length() {
        return length;
      },
      async append(more) {
        trying("append");
        const next = length + more.byteLength;
        if (totalBytes !== undefined && next > totalBytes) fail("mismatch", `expected ${totalBytes}, got more`);
        reserve(next);
        if (next > buffer.byteLength) {
          const larger = new Uint8Array(Math.max(next, buffer.byteLength * 2));
          larger.set(bytes());
          buffer = larger;
        }
        buffer.set(more, length);
        // A disk answers later, and the length says only what is written.
        await Promise.resolve();
        length = next;
      },
      async expect(total) {
        trying("expect");
        if (length > total) fail("mismatch", `expected ${total}, ${length} are here`);
        totalBytes = total;
        reserve(total);
      },
      async open() {
        if (state === "ended") throw new StoreError("broken", "the spool has ended");
        return reader(bytes);
      },
      verify: async () => verify(),
      async commit(): Promise<StoredContent> {
        verify();
        trying("commit");
        end();
        contents.set(digest.text, bytes());
        return { digest: digest.text, bytes: length };
      },
      async suspend() {
        if (state === "ended") return;
        await beforeSuspend?.();
        end();
        const other = left.get(digest.text);
        if (length > 0 && (other === undefined || other.byteLength < length)) left.set(digest.text, bytes());
      },
      async discard() {
        if (state !== "ended") end();
      },
    };
  }

  async function* list(): AsyncGenerator<StoredContent> {
    for (const [digest, { byteLength }] of contents) yield { digest, bytes: byteLength };
  }

  return {
    async find(digest) {
      const bytes = contents.get(digest.text);
      return bytes === undefined ? undefined : { digest: digest.text, bytes: bytes.byteLength };
    },
    async open(digest) {
      const bytes = contents.get(digest.text);
      return bytes === undefined ? undefined : reader(() => bytes);
    },
    spool,
    async remove(digest) {
      const bytes = contents.get(digest.text)?.byteLength ?? 0;
      contents.delete(digest.text);
      return bytes;
    },
    list,
    async verify(digest, signal) {
      signal.throwIfAborted();
      const bytes = contents.get(digest.text);
      if (bytes === undefined) return undefined;
      if (createHash(digest.algorithm).update(bytes).digest("hex") === digest.encoded) return "good";
      contents.delete(digest.text);
      return "damaged";
    },
    usage: () => ({
      bytes: committedBytes(),
      count: contents.size,
      spooledBytes: spooledBytes(),
      isComplete: true,
    }),
    close: async () => undefined,
    bytesOf: (digest) => contents.get(digest.text),
    plant: (digest, bytes) => void contents.set(digest.text, bytes),
    leave: (digest, bytes) => void left.set(digest.text, bytes),
    get openReaders() {
      return openReaders;
    },
    get unsafeCloses() {
      return unsafeCloses;
    },
    get openSpools() {
      return spools.size;
    },
  };
}
