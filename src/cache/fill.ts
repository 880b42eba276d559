/**
 * Fills: running downloads that are written to a spool of the Store and followed by any number of readers.
 *
 *   upstream ─▶ Download ─▶ Spool (hash, file) ─▶ commit
 *                             │  readers by position, each at its own speed
 *                             ├─▶ follower ─▶ client
 *                             └─▶ follower ─▶ client
 *
 * One download per digest (protocol R238); a client that leaves stops nothing (R239); no reader holds the download (R260).
 */
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import type { ContentSource, Downloads } from "../download/download.ts";
import { type Fill, type RunningFill, startFill } from "./running-fill.ts";
import type { Store } from "./store.ts";

export type { FollowRange } from "./followed.ts";
export type { Fill, FillResult } from "./running-fill.ts";

export interface Fills {
  /**
   * Joins the running download of this digest, or starts one; `start` is called for the first only.
   * @returns undefined when `maxFills` others run, or after `close`: pass the request through without the store
   */
  join(digest: Digest, start: ContentSource): Fill | undefined;
  running(digest: Digest): Fill | undefined;
  readonly count: number;
  /** Readers of the fills that run. */
  readonly followers: number;
  /** Stops every fill; its followers error, its spool is suspended for a later start. */
  close(): Promise<void>;
}

export interface FillsOptions {
  /** Fills at once. Each holds a connection, a file handle and up to 4 MiB. */
  readonly maxFills: number;
}

export interface FillsDependencies {
  readonly store: Store;
  readonly log: Pick<Log, "info" | "warn">;
  readonly downloads: Downloads;
}

/** A part of what a client waits for its header block. */
const PUT_AWAY_MS = 2000;

export function createFills(options: FillsOptions, dependencies: FillsDependencies): Fills {
  const running = new Map<string, RunningFill>();
  /** Fills that nobody may join any more, until their spools are put away. */
  const ending = new Map<string, Promise<unknown>>();
  let isClosed = false;

  function start(digest: Digest, source: ContentSource): RunningFill {
    const fill = startFill({ digest, source, after: settled(ending.get(digest.text)) }, dependencies, () =>
      settle(digest),
    );
    running.set(digest.text, fill);
    return fill;
  }

  function settle({ text }: Digest): void {
    const fill = running.get(text);
    if (fill === undefined) return;
    running.delete(text);
    const ended = fill.done.then(() => {
      if (ending.get(text) === ended) ending.delete(text);
    });
    ending.set(text, ended);
  }

  return {
    join(digest, source) {
      const joined = running.get(digest.text);
      if (joined !== undefined) return joined;
      if (isClosed || running.size >= options.maxFills) return undefined;
      return start(digest, source);
    },
    running: (digest) => running.get(digest.text),
    get count() {
      return running.size;
    },
    get followers() {
      return running.values().reduce((sum, fill) => sum + fill.followers(), 0);
    },
    async close() {
      isClosed = true;
      const reason = new Error("the server is stopping");
      await Promise.all([...running.values()].map((fill) => fill.stop(reason)));
      await Promise.all(ending.values());
    },
  };
}

/** Waits for a spool to be put away, but not for a disk that hangs: then there is nothing to go on with. */
async function settled(earlier: Promise<unknown> | undefined): Promise<void> {
  if (earlier === undefined) return;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<void>((resolve) => (timer = setTimeout(resolve, PUT_AWAY_MS)));
  await Promise.race([earlier, deadline]);
  clearTimeout(timer);
}
