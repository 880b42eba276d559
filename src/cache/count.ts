/**
 * How much is committed: counted once in the background from what lies in the directory, kept up to date by commits and
 * removals, and counted anew every hour, because other processes may share the directory.
 *
 * A running count and a commit must not count one file twice:
 *   commit adds to the count and notes the name → the walk skips noted names.
 * A removal cannot know whether the walk was there before: the walk then begins again.
 */
import { readdir } from "node:fs/promises";
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import { unlessMissing } from "./disk.ts";
import { ALGORITHMS, committedBytes, digestNamed, type Layout } from "./layout.ts";
import type { StoredContent } from "./store.ts";

export interface Count {
  readonly bytes: number;
  readonly contents: number;
  /** True from the end of the first walk on. */
  readonly isComplete: boolean;
  add(digest: Digest, bytes: number): void;
  subtract(digest: Digest, bytes: number): void;
  /** Ends the running walk, and begins no other. */
  close(): Promise<void>;
}

/** Looks at this many files at once: more would hold up the event loop between two of its turns. */
const BATCH = 16;
/** A directory where content is removed all the time is counted as it is met. */
const MAX_WALKS = 3;
const RECOUNT_MS = 60 * 60 * 1000;

interface Sum {
  bytes: number;
  contents: number;
}

export function startCount(layout: Layout, { log }: { log: Pick<Log, "warn"> }): Count {
  let total: Sum = { bytes: 0, contents: 0 };
  let walk: { readonly sum: Sum; readonly noted: Set<string>; isDisturbed: boolean } | undefined;
  let isComplete = false;
  let isClosed = false;
  let running = recount();
  const timer = setInterval(() => {
    if (walk === undefined) running = recount();
  }, RECOUNT_MS);
  timer.unref();

  async function recount(): Promise<void> {
    try {
      for (let tries = 0; tries < MAX_WALKS && !isClosed; tries++) {
        if (await walkOnce()) return;
      }
    } catch (cause) {
      log.warn({ err: cause, directory: layout.directory }, "could not count the cache; its budget may be passed");
    } finally {
      if (walk !== undefined) finish(walk.sum);
    }
  }

  /** True when nothing was removed meanwhile. */
  async function walkOnce(): Promise<boolean> {
    const own = { sum: { bytes: 0, contents: 0 }, noted: new Set<string>(), isDisturbed: false };
    walk = own;
    for await (const { digest, bytes } of contentsOf(layout)) {
      if (isClosed) return true;
      if (!own.noted.has(digest)) plus(own.sum, bytes);
    }
    if (own.isDisturbed) return false;
    finish(own.sum);
    return true;
  }

  function finish(sum: Sum): void {
    total = sum;
    walk = undefined;
    isComplete = true;
  }

  return {
    // Until the first walk is over, what it has met so far is the best that is known.
    get bytes() {
      return isComplete ? total.bytes : (walk ?? { sum: total }).sum.bytes;
    },
    get contents() {
      return isComplete ? total.contents : (walk ?? { sum: total }).sum.contents;
    },
    get isComplete() {
      return isComplete;
    },
    add(digest, bytes) {
      plus(total, bytes);
      if (walk === undefined || walk.noted.has(digest.text)) return;
      walk.noted.add(digest.text);
      plus(walk.sum, bytes);
    },
    subtract(_digest, bytes) {
      total.bytes = Math.max(0, total.bytes - bytes);
      total.contents = Math.max(0, total.contents - 1);
      if (walk !== undefined) walk.isDisturbed = true;
    },
    async close() {
      isClosed = true;
      clearInterval(timer);
      await running;
    },
  };
}

function plus(sum: Sum, bytes: number): void {
  sum.bytes += bytes;
  sum.contents += 1;
}

/** Every committed content, in no order. Names are read at once by the runtime (about 100 bytes each), sizes in batches. */
export async function* contentsOf(layout: Layout): AsyncGenerator<StoredContent> {
  for (const algorithm of ALGORITHMS) {
    const names = (await unlessMissing(readdir(layout.folderOf(algorithm)))) ?? [];
    for (let start = 0; start < names.length; start += BATCH) {
      const batch = names.slice(start, start + BATCH).map((name) => contentNamed(layout, algorithm, name));
      for (const content of await Promise.all(batch)) if (content !== undefined) yield content;
    }
  }
}

async function contentNamed(layout: Layout, algorithm: string, name: string): Promise<StoredContent | undefined> {
  const digest = digestNamed(algorithm, name);
  if (digest === undefined) return undefined;
  const bytes = await committedBytes(layout, digest);
  return bytes === undefined ? undefined : { digest: digest.text, bytes };
}
