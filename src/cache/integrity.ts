/**
 * Whether a committed file still is its content. What can be seen without reading it is its length, and that is compared
 * each time: a crash of the machine, a full disk or a hand may have left it shorter or longer (protocol R235). Damage that
 * leaves the length as it was is found by hashing. Either way the file is moved aside before a byte of it is served.
 */
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import type { Count } from "./count.ts";
import { setAside } from "./damaged.ts";
import { storeErrorOf, unlessMissing } from "./disk.ts";
import { hashPart } from "./hash-file.ts";
import { hasherFor, type Layout } from "./layout.ts";
import type { ContentReader, StoredContent } from "./store.ts";

export interface KnownSize {
  readonly bytes: number;
  /** The bytes were hashed: their number is a fact. Otherwise somebody told it, who may be wrong. */
  readonly isVerified: boolean;
}

/** Who remembers how long content is, across restarts. */
export interface KnownSizes {
  /** Undefined when nothing is known. */
  size(digest: string): KnownSize | undefined;
  verified(content: StoredContent): void;
}

export interface Integrity {
  /** Whether the file, which has so many bytes, may be served. @throws StoreError `broken` when it had to be read and could not be */
  isWhole(digest: Digest, bytes: number): Promise<boolean>;
  /** As `Store.verify`. */
  verify(digest: Digest, signal: AbortSignal): Promise<"good" | "damaged" | undefined>;
}

export interface IntegrityDependencies {
  readonly sizes: KnownSizes;
  readonly count: Pick<Count, "subtract">;
  readonly log: Pick<Log, "warn">;
  /** Told of each file that was moved aside. */
  readonly damaged: () => void;
  /** A reader of what lies there, whatever its length. */
  readonly openCommitted: (digest: Digest) => Promise<ContentReader | undefined>;
}

export function createIntegrity(layout: Layout, dependencies: IntegrityDependencies): Integrity {
  const { sizes, count, log, damaged, openCommitted } = dependencies;
  // One hashing for all who ask at the same time; bounded by them.
  const hashing = new Map<string, Promise<boolean>>();

  async function isWhole(digest: Digest, bytes: number): Promise<boolean> {
    const known = sizes.size(digest.text);
    if (known === undefined || known.bytes === bytes) return true;
    if (!known.isVerified) return isGood(digest);
    await moveCutAside(digest, bytes, known.bytes);
    return false;
  }

  /** A registry may have told the wrong length, also on purpose: the digest decides, and from then on it is a fact. */
  function isGood(digest: Digest): Promise<boolean> {
    const running =
      hashing.get(digest.text) ??
      verify(digest, new AbortController().signal)
        .then((verdict) => verdict === "good")
        .finally(() => hashing.delete(digest.text));
    hashing.set(digest.text, running);
    return running;
  }

  async function verify(digest: Digest, signal: AbortSignal): Promise<"good" | "damaged" | undefined> {
    const content = await openCommitted(digest);
    if (content === undefined) return undefined;
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
    if (hasher.digest("hex") === digest.encoded) {
      const known = sizes.size(digest.text);
      // Most was known before: a hundred thousand writes of what is there already would hold up the loop.
      if (known?.isVerified !== true || known.bytes !== bytes) sizes.verified({ digest: digest.text, bytes });
      return "good";
    }
    if (!(await moveAside(digest, bytes))) return undefined;
    log.warn({ digest: digest.text, bytes }, "content was damaged on disk and is moved aside");
    return "damaged";
  }

  /** Where it cannot be moved it stays, unseen: what is fetched anew takes its place, or passes the cache by. */
  async function moveCutAside(digest: Digest, bytes: number, expectedBytes: number): Promise<void> {
    const fields = { digest: digest.text, bytes, expectedBytes };
    try {
      if (await moveAside(digest, bytes)) log.warn(fields, "content has another length than it had and is moved aside");
    } catch (cause) {
      log.warn({ err: cause, ...fields }, "content has another length than it had, and cannot be moved aside");
    }
  }

  /** False when it was gone already. */
  async function moveAside(digest: Digest, bytes: number): Promise<boolean> {
    if ((await unlessMissing(setAside(layout, digest).then(() => true))) === undefined) return false;
    count.subtract(digest, bytes);
    damaged();
    return true;
  }

  return { isWhole, verify };
}
