/**
 * Makes room in the Store: by last use, oldest first. Pinned content stays, and so does whatever a used or pinned image
 * names, through its index and manifest down to the layers; so whole images go, the index first, and no manifest outlives
 * its layers. A layer stays as long as one image needs it. What decides this is `Records.condemn`; here it is carried out.
 *
 * Only committed content is taken, never what a running download has written or reserved. Content that is being read is
 * read to its end (Store). One run at a time: whoever needs room while one is under way shares what it frees.
 */
import type { Log } from "../log.ts";
import { parseDigest } from "../registry/digest.ts";
import { learnContent } from "./evict-learn.ts";
import type { EvictionCandidate, Records } from "./records.ts";
import type { Store } from "./store.ts";

export interface EvictionOptions {
  /** Budget of the store: committed content and running downloads together. */
  readonly maxBytes: number;
  /** Free space of the disk that is never used up. */
  readonly minFreeBytes: number;
  /** Content nobody asked for in this long goes. */
  readonly maxIdleMs: number;
}

export interface EvictionDependencies {
  readonly store: Pick<Store, "list" | "remove" | "usage">;
  readonly records: Pick<Records, "evictionCandidates" | "condemn" | "adopt" | "settled">;
  readonly log: Log;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Free on the store's disk. */
  readonly freeBytes: () => Promise<number>;
}

export interface Eviction {
  /**
   * Frees so many bytes; false when they cannot be had. Callers at the same time share one run and what it frees: each
   * names what is missing in all, as the Store does, which asks again what is missing afterwards.
   */
  makeRoom(bytes: number): Promise<boolean>;
  /**
   * Removes what is idle, and returns to budget and free space. Looks for content that the records do not know at the
   * first sweep and once a day. Ends early when the signal aborts; never rejects. A second call joins the first.
   */
  sweep(signal: AbortSignal): Promise<void>;
}

/** Candidates looked at before other work gets its turn: about a millisecond. */
const TURN = 8;
/** Content without records comes from a kill between the two removals, or from deleted records. */
const LEARN_EVERY_MS = 24 * 60 * 60_000;

/** Someone who needs room. As many as there are downloads. */
interface Waiter {
  missing: number;
  settle(hasRoom: boolean): void;
}

interface Sweep {
  readonly signal: AbortSignal;
  readonly idleBeforeMs: number;
  missing: number;
}

export function createEviction(options: EvictionOptions, dependencies: EvictionDependencies): Eviction {
  const { store, records, log, now } = dependencies;
  let waiters: readonly Waiter[] = [];
  let sweepGoal: Sweep | undefined;
  let running: Promise<void> | undefined;
  let sweeping: Promise<void> | undefined;
  let learntMs: number | undefined;

  /** Joins the run under way or starts one. */
  function run(): Promise<void> {
    running ??= evict().finally(() => {
      running = undefined;
      // Came between the run's last look and its end.
      if (waiters.length > 0) void run();
    });
    return running;
  }

  async function evict(): Promise<void> {
    // Those who ask in the same moment share it from its beginning.
    await Promise.resolve();
    const startedMs = now();
    try {
      for (;;) {
        const outcome = await evictOlderThan(startedMs);
        if (waiters.length === 0 || outcome === "stuck") return;
        if (outcome === "satisfied") continue; // someone came meanwhile
        if (learntMs !== undefined) return;
        // Everything known was needed lately; but there may be content that the records do not know.
        await learn(startedMs - 1, new AbortController().signal);
      }
    } catch (error) {
      log.error({ err: error }, "eviction ended early");
    } finally {
      const refused = waiters;
      waiters = [];
      for (const waiter of refused) waiter.settle(false);
    }
  }

  /** Until nobody wants more, nothing is left that was not needed since, or the records cannot be written. */
  async function evictOlderThan(startedMs: number): Promise<"satisfied" | "exhausted" | "stuck"> {
    for (let looked = 1; ; looked += 1) {
      // One at a time: what moved on as needed may come right behind this one, and go before a younger image.
      const [candidate] = records.evictionCandidates(1);
      if (candidate === undefined || candidate.neededMs >= startedMs) return "exhausted";
      if (!isWanted(candidate)) return "satisfied";
      const doomed = records.condemn(candidate);
      if (doomed === undefined) return "stuck";
      for (const digest of doomed) {
        // Who comes during the removal may have measured what is missing after it.
        const sharing = waiters;
        freed(await remove(digest), sharing);
      }
      if (looked % TURN !== 0) continue;
      await turnOfOthers();
      await records.settled();
    }
  }

  function isWanted({ neededMs }: EvictionCandidate): boolean {
    if (waiters.length > 0) return true;
    if (sweepGoal === undefined || sweepGoal.signal.aborted) return false;
    return sweepGoal.missing > 0 || neededMs < sweepGoal.idleBeforeMs;
  }

  async function remove(digest: string): Promise<number> {
    const parsed = parseDigest(digest);
    if (parsed === undefined) return 0;
    try {
      return await store.remove(parsed);
    } catch (error) {
      // Its records are gone; the next look for unknown content finds it again.
      log.warn({ digest, err: error }, "content could not be evicted");
      return 0;
    }
  }

  function freed(bytes: number, sharing: readonly Waiter[]): void {
    if (sweepGoal !== undefined) sweepGoal.missing -= bytes;
    for (const waiter of sharing) waiter.missing -= bytes;
    const served = waiters.filter(({ missing }) => missing <= 0);
    waiters = waiters.filter(({ missing }) => missing > 0);
    for (const waiter of served) waiter.settle(true);
  }

  async function learn(usedMs: number, signal: AbortSignal): Promise<void> {
    await learnContent({ store, records, usedMs }, signal);
    if (!signal.aborted) learntMs = now();
  }

  async function sweepOnce(signal: AbortSignal): Promise<void> {
    try {
      if (learntMs === undefined || now() - learntMs >= LEARN_EVERY_MS) await learn(now() - 1, signal);
    } catch (error) {
      log.error({ err: error }, "the cache could not be looked through");
    }
    try {
      sweepGoal = { signal, idleBeforeMs: now() - options.maxIdleMs, missing: await shortage() };
      // A run that is about to end may not have seen the goal.
      await running;
      await run();
    } catch (error) {
      log.error({ err: error }, "the cache could not be swept");
    } finally {
      sweepGoal = undefined;
      sweeping = undefined;
    }
  }

  /** Bytes that must go to be within budget and free space. */
  async function shortage(): Promise<number> {
    const { bytes, spooledBytes } = store.usage();
    const overBudget = bytes + spooledBytes - options.maxBytes;
    return Math.max(0, overBudget, options.minFreeBytes - (await dependencies.freeBytes()));
  }

  return {
    async makeRoom(bytes) {
      if (bytes <= 0) return true;
      const usage = store.usage();
      // More than there is: nothing needs to go for an answer.
      if (usage.isComplete && bytes > usage.bytes) return false;
      return new Promise((settle) => {
        waiters = [...waiters, { missing: bytes, settle }];
        void run();
      });
    },
    sweep(signal) {
      sweeping ??= sweepOnce(signal);
      return sweeping;
    },
  };
}

/** Lets sockets and timers have their turn: awaiting what is done already does not. */
function turnOfOthers(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
