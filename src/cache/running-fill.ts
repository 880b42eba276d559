/**
 * One fill from the first question to the commit. Its states, each of which followers see:
 *
 *   opening ─▶ running ─▶ verified ─▶ (committed)
 *      │          ├─▶ failed      the content cannot be had, or is wrong: followers error
 *      └──────────┴─▶ detour      only the store failed: followers read what is there, then ask upstream themselves
 */
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import type { ContentSource, Download, Downloads } from "../download/download.ts";
import { clientErrorOf, isBeyondEnd } from "./fill-failure.ts";
import { createFollower } from "./follow.ts";
import { type FillState, type Followed, type FollowRange, readableBytes } from "./followed.ts";
import { createPrefixHash } from "./prefix-hash.ts";
import { createRecent } from "./recent.ts";
import { createSpare, type Spare } from "./spare.ts";
import { createSpoolWriter } from "./spool-writer.ts";
import { type ContentReader, type Spool, type Store, type StoredContent, StoreError } from "./store.ts";
import { createWaiters } from "./waiters.ts";

export type FillResult =
  | { readonly kind: "committed"; readonly content: StoredContent }
  | { readonly kind: "failed"; readonly error: unknown };

export interface Fill {
  readonly digest: Digest;
  /** Resolves when the upstream's headers came; rejects with what the source threw. It may be left unobserved. */
  readonly head: Promise<{ readonly totalBytes: number | undefined }>;
  /**
   * The bytes of the range, as they arrive, for one reader. The last bytes of the content are held back until its digest is
   * right (protocol R237); errors when the fill fails. When only the store fails it goes on with a request of its own from
   * where it is. May be called at any time, before `head` and after `done`; a stream that is not wanted any more is cancelled.
   * A range that begins beyond the end errors, one that ends beyond it is clipped: compare with `totalBytes` first.
   */
  follow(range: FollowRange): ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Bytes that are written. */
  readonly position: number;
  /** Settles when committed or failed; never rejects. A StoreError here means that followers went on without the store. */
  readonly done: Promise<FillResult>;
}

export interface RunningFill extends Fill {
  followers(): number;
  /** Fails it, keeps its bytes for a later start; resolves when that is done. */
  stop(reason: unknown): Promise<void>;
}

export interface RunningFillOptions {
  readonly digest: Digest;
  readonly source: ContentSource;
  /** When to begin: the fill of the same digest before this one may still be putting its spool away. Never rejects. */
  readonly after: Promise<unknown>;
}

export interface RunningFillDependencies {
  readonly downloads: Downloads;
  readonly store: Store;
  readonly log: Pick<Log, "info" | "warn">;
}

/** @param onSettled called once no further reader may join, before `done` settles */
export function startFill(
  options: RunningFillOptions,
  dependencies: RunningFillDependencies,
  onSettled: () => void,
): RunningFill {
  const { digest, source } = options;
  const { store, log, downloads } = dependencies;
  const waiters = createWaiters();
  const recent = createRecent(() => followers === 1);
  const head = Promise.withResolvers<{ totalBytes: number | undefined }>();
  let state: FillState = { kind: "opening" };
  let spool: Spool | undefined;
  let download: Download | undefined;
  let spare: Spare | undefined;
  let refusal: unknown;
  let followers = 0;
  let stopped: { readonly reason: unknown } | undefined;
  // Often nobody looks: the first client may have left.
  head.promise.catch(() => undefined);
  const done = run();
  // Readers may stay for hours, each as slow as it likes.
  void done.then(recent.clear);

  async function run(): Promise<FillResult> {
    await options.after;
    try {
      return await fill();
    } catch (error) {
      return await giveUp(error);
    }
  }

  async function fill(): Promise<FillResult> {
    await openSpool();
    download = await openDownload();
    head.resolve({ totalBytes: download.totalBytes });
    if (spool === undefined) return takeDetour(refusal, []);
    const noRoom = await reserveRoom();
    if (noRoom !== undefined) return takeDetour(noRoom, []);
    enter({ kind: "running" });
    const failure = await pump(spool, download);
    return failure ?? commit(spool);
  }

  /** No spool, and why, when the store cannot. */
  async function openSpool(): Promise<void> {
    spool = undefined;
    try {
      spool = await store.spool(digest, undefined);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      refusal = error;
    }
    throwIfStopped();
  }

  async function openDownload(): Promise<Download> {
    try {
      return await downloadFrom(spool?.length ?? 0);
    } catch (error) {
      if (!isBeyondEnd(error) || spool === undefined || spool.length === 0) throw error;
      // What was left is longer than the content: an upstream was wrong before.
      await spool.discard();
      await openSpool();
      return await downloadFrom(spool?.length ?? 0);
    }
  }

  async function downloadFrom(offset: number): Promise<Download> {
    const isFollowed = (): boolean => followers > 0;
    // Who follows before there is a head was told that the content comes.
    const opening = downloads.start({ source, first: offset, isWanted: isFollowed, isPromised: isFollowed });
    download = opening;
    throwIfStopped();
    await opening.open();
    return opening;
  }

  /** The reason when there is none. */
  async function reserveRoom(): Promise<unknown> {
    const totalBytes = download?.totalBytes;
    if (totalBytes === undefined || spool === undefined) return undefined;
    try {
      await spool.expect(totalBytes);
      return undefined;
    } catch (error) {
      if (!(error instanceof StoreError) || error.kind !== "mismatch") return error;
    }
    // What was left is longer than the content, and gone now; nobody has read of it while the state is "opening".
    download?.cancel(new Error("begun anew"));
    await openSpool();
    download = await downloadFrom(spool?.length ?? 0);
    return spool === undefined ? refusal : reserveRoom();
  }

  /** The result when it did not come to its end. */
  async function pump(into: Spool, from: Download): Promise<FillResult | undefined> {
    const writer = createSpoolWriter(into, (bytes) => {
      recent.add(bytes, into.length - bytes.byteLength);
      waiters.wake();
    });
    try {
      for (;;) {
        const piece = await from.next();
        if (piece === undefined) break;
        await writer.push(piece);
      }
      await writer.end();
      return undefined;
    } catch (error) {
      if (error instanceof StoreError && error.kind !== "mismatch") return takeDetour(error, writer.unwritten());
      await writer.end().catch(() => undefined);
      throw error;
    }
  }

  async function commit(whole: Spool): Promise<FillResult> {
    try {
      await whole.verify();
    } catch (error) {
      if (error instanceof StoreError && error.kind !== "mismatch") return takeDetour(error, []);
      throw error;
    }
    enter({ kind: "verified" });
    try {
      const content = await whole.commit();
      onSettled();
      return { kind: "committed", content };
    } catch (error) {
      // Followers have every byte already, or read it through handles that outlive the spool.
      log.warn({ err: error, digest: digest.text }, "could not keep content");
      return await putAway(whole, error);
    }
  }

  async function putAway(failed: Spool, error: unknown): Promise<FillResult> {
    onSettled();
    await failed
      .discard()
      .catch((cause: unknown) => log.warn({ err: cause, digest: digest.text }, "could not remove a spool"));
    return { kind: "failed", error };
  }

  /** The store failed: gives what came and is not in the spool, and the body, to the first follower that gets to it. */
  async function takeDetour(error: unknown, unwritten: readonly Uint8Array[]): Promise<FillResult> {
    log.warn({ err: error, digest: digest.text }, "the cache cannot keep this content; pulls go on without it");
    const written = await spool?.open().catch(() => undefined); // then who needs it asks for the content anew
    if (download !== undefined) spare = createSpare({ download, unwritten, written });
    else await written?.close();
    if (followers === 0) spare?.unfollowed();
    enter({ kind: "detour", error });
    if (spool !== undefined) return putAway(spool, error);
    onSettled();
    return { kind: "failed", error };
  }

  /** The content cannot be had. What is there is kept for a later start, unless it is wrong: then the spool removed it itself. */
  async function giveUp(cause: unknown): Promise<FillResult> {
    const error = stopped?.reason ?? clientErrorOf(cause);
    head.reject(error);
    enter({ kind: "failed", error });
    onSettled();
    download?.cancel(error);
    log.info({ err: error, digest: digest.text, position: spool?.length ?? 0 }, "a download failed");
    await spool
      ?.suspend()
      .catch((failure: unknown) => log.warn({ err: failure, digest: digest.text }, "could not keep a half download"));
    return { kind: "failed", error };
  }

  function throwIfStopped(): void {
    if (stopped !== undefined) throw stopped.reason;
  }

  function enter(next: FillState): void {
    state = next;
    waiters.wake();
  }

  async function isRight(): Promise<boolean> {
    while (state.kind === "opening" || state.kind === "running")
      await new Promise<void>((resolve) => waiters.add(resolve));
    return state.kind === "verified";
  }

  async function openReader(): Promise<ContentReader | undefined> {
    if (state.kind === "detour") return spare?.reader();
    try {
      if (spool !== undefined) return await spool.open();
    } catch {
      // It has ended: committed, and then it is found in the store; or thrown away, and why is known in a moment.
      if (state.kind === "running") await new Promise<void>((resolve) => waiters.add(resolve));
    }
    if (state.kind === "failed") throw state.error;
    return state.kind === "verified" ? store.open(digest) : undefined;
  }

  const followed: Followed = {
    digest,
    state: () => state,
    limit: () => readableBytes(state, spool?.length ?? 0, download?.totalBytes),
    totalBytes: () => (state.kind === "verified" ? (download?.totalBytes ?? spool?.length) : download?.totalBytes),
    onChange: waiters.add,
    recent,
    openReader,
    takeSpare: (position) => spare?.take(position),
    hashOfFirst: createPrefixHash(digest).of,
    isRight,
    startOwn: (offset) => downloads.start({ source, first: offset, totalBytes: download?.totalBytes }),
  };

  return {
    digest,
    head: head.promise,
    done,
    get position() {
      return spool?.length ?? 0;
    },
    follow(range) {
      followers += 1;
      return createFollower(followed, range, () => {
        followers -= 1;
        if (followers === 0) spare?.unfollowed();
      });
    },
    followers: () => followers,
    async stop(reason) {
      stopped ??= { reason };
      download?.cancel(reason);
      await done;
    },
  };
}
