/**
 * How many blobs come from one registry at once. A transfer begins when a GET of a blob is about to be sent and ends when its
 * body was read to the end, broke or was cancelled. Manifests, tokens, lists and HEADs never wait: blobs cannot starve them.
 *
 *     a blob is wanted ──▶ is a place free? ──yes──▶ runs ──▶ its body ends: the place is free
 *                               └─no─▶ row of its repository, ◀── the rows are served in turn,
 *                                      first come first served      one transfer each
 *
 * A row for each repository: the two hundred layers of one image hold up another image by one turn, not by two hundred.
 * Waiting is no fault of the registry: who waited in vain gets UpstreamError `overload`, and nothing was dialled.
 */
import { UpstreamError } from "../errors.ts";
import type { BodyFlow } from "./flow.ts";
import { remainingMs } from "./wait.ts";

export interface TransfersOptions {
  /** Per registry; 0: no bound. Default 300: a hundred nodes with the three layers that docker and containerd fetch at once. */
  readonly maxTransfers?: number | undefined;
}

/** The part of an UpstreamRequest that decides about its place. */
export interface TransferWish {
  readonly registry: { readonly key: string };
  readonly repository: string;
  readonly method: string;
  readonly path: string;
  /** Default `wait`; `if-free` fails at once where a place is not free right now. */
  readonly transfer?: "wait" | "if-free" | undefined;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
}

/** What a transfer is told of its answer. */
export interface TransferAnswer {
  readonly response: { readonly status: number; readonly flow?: BodyFlow | undefined };
}

export interface TransferReading {
  /** Key of the map. */
  readonly registry: string;
  readonly running: number;
  readonly waiting: number;
  /** Since the start: those that found no place in time. */
  readonly refused: number;
}

export interface Transfers {
  /**
   * Asks when there is a place for it, at once for what is no blob, and holds the place until the body has ended.
   * @throws UpstreamError `overload` when there was no place in time, or the row is full
   * @throws the signal's reason when the client left; what `ask` throws
   */
  carry<T extends TransferAnswer>(wish: TransferWish, ask: () => Promise<T>): Promise<T>;
  /** One for each registry that was asked for a blob. */
  readings(): TransferReading[];
}

const DEFAULT_MAX_TRANSFERS = 300;
/**
 * Who stands behind eight others for one place would need each of them done within three seconds to get a turn in the
 * 25 seconds that clients wait: it is told to come back at once.
 */
const WAITING_PER_PLACE = 8;
/** Of the time until the deadline, what stays for the registry's answer, which must not look late because of our row. */
const KEPT_FOR_ANSWER_MS = 5_000;
/** A reader that took nothing for this long holds its transfer up, not the registry: then it takes nobody's place. */
const RESTING_MS = 5_000;
/** How often those who wait look whether a transfer began to rest. */
const LOOK_EVERY_MS = 1_000;
/** Told to clients, seconds. */
const RETRY_AFTER = "10";

interface Lane {
  readonly running: Set<Running>;
  /** By repository, in the order of their turns. No row is empty. */
  readonly rows: Map<string, Set<Waiter>>;
  waiting: number;
  refused: number;
  timer: ReturnType<typeof setInterval> | undefined;
}

interface Running {
  flow: BodyFlow | undefined;
}

interface Waiter {
  readonly repository: string;
  /** Its turn came; the place is taken in its name already. */
  readonly admit: (place: Running) => void;
}

export function createTransfers({ maxTransfers = DEFAULT_MAX_TRANSFERS }: TransfersOptions): Transfers {
  const max = maxTransfers === 0 ? Infinity : maxTransfers;
  // One for each registry that ever was in the map.
  const lanes = new Map<string, Lane>();

  function laneOf(key: string): Lane {
    const lane = lanes.get(key) ?? { running: new Set(), rows: new Map(), waiting: 0, refused: 0, timer: undefined };
    lanes.set(key, lane);
    return lane;
  }

  /** Transfers at rest hold a connection of their client's, not a place: a slow client cannot starve others. */
  function hasPlace({ running }: Lane): boolean {
    if (running.size < max) return true;
    let moving = 0;
    for (const { flow } of running) if (flow === undefined || flow.restingMs() < RESTING_MS) moving++;
    return moving < max;
  }

  function enter(lane: Lane): Running {
    const place: Running = { flow: undefined };
    lane.running.add(place);
    return place;
  }

  function leave(lane: Lane, place: Running): void {
    if (lane.running.delete(place)) admitWaiting(lane);
  }

  function admitWaiting(lane: Lane): void {
    while (lane.waiting > 0 && hasPlace(lane)) {
      const waiter = takeNext(lane);
      if (waiter === undefined) return;
      waiter.admit(enter(lane));
    }
  }

  function placeFor(lane: Lane, wish: TransferWish): Running | Promise<Running> {
    wish.signal.throwIfAborted();
    if (lane.waiting === 0 && hasPlace(lane)) return enter(lane);
    if (wish.transfer === "if-free") throw overload(wish, "no transfer is free");
    if (lane.waiting >= max * WAITING_PER_PLACE) {
      lane.refused++;
      throw overload(wish, `${lane.running.size} transfers run and ${lane.waiting} wait`);
    }
    return waitForTurn(lane, wish);
  }

  async function waitForTurn(lane: Lane, wish: TransferWish): Promise<Running> {
    const { promise, resolve, reject } = Promise.withResolvers<Running>();
    const waiter: Waiter = { repository: wish.repository, admit: resolve };
    const leftMs = remainingMs(wish.deadlineMs);
    // Out of its row at once: a place that came a moment later would be nobody's.
    const goAway = (reason: unknown) => {
      takeOut(lane, waiter);
      reject(reason);
    };
    const giveUp = () => {
      lane.refused++;
      goAway(overload(wish, `waited in vain for one of ${lane.running.size} transfers to end`));
    };
    const onAbort = () => goAway(wish.signal.reason);
    const timer = setTimeout(giveUp, leftMs - Math.min(KEPT_FOR_ANSWER_MS, leftMs / 2));
    wish.signal.addEventListener("abort", onAbort, { once: true });
    lineUp(lane, waiter);
    lane.timer ??= setInterval(() => admitWaiting(lane), LOOK_EVERY_MS);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      wish.signal.removeEventListener("abort", onAbort);
      if (lane.waiting === 0) stopLooking(lane);
    }
  }

  return {
    async carry(wish, ask) {
      if (wish.method !== "GET" || !wish.path.startsWith("blobs/")) return ask();
      const lane = laneOf(wish.registry.key);
      const place = await placeFor(lane, wish);
      try {
        const answer = await ask();
        const { status, flow } = answer.response;
        // Errors are small, and nothing that a registry's places are for.
        if (flow === undefined || status >= 300) leave(lane, place);
        else void flow.ended.then(() => leave(lane, place));
        place.flow = flow;
        return answer;
      } catch (error) {
        leave(lane, place);
        throw error;
      }
    },
    readings: () =>
      [...lanes].map(([registry, { running, waiting, refused }]) => ({
        registry,
        running: running.size,
        waiting,
        refused,
      })),
  };
}

function lineUp(lane: Lane, waiter: Waiter): void {
  const row = lane.rows.get(waiter.repository) ?? new Set();
  lane.rows.set(waiter.repository, row.add(waiter));
  lane.waiting++;
}

/** The first of the row whose turn it is; the row goes to the end. */
function takeNext(lane: Lane): Waiter | undefined {
  const [turn] = lane.rows;
  if (turn === undefined) return undefined;
  const [repository, row] = turn;
  const [waiter] = row;
  if (waiter !== undefined) takeOut(lane, waiter);
  lane.rows.delete(repository);
  if (row.size > 0) lane.rows.set(repository, row);
  return waiter;
}

/** Does nothing when its turn came already. */
function takeOut(lane: Lane, waiter: Waiter): void {
  const row = lane.rows.get(waiter.repository);
  if (row?.delete(waiter) !== true) return;
  lane.waiting--;
  if (row.size === 0) lane.rows.delete(waiter.repository);
}

function stopLooking(lane: Lane): void {
  clearInterval(lane.timer);
  lane.timer = undefined;
}

function overload({ registry }: TransferWish, why: string): UpstreamError {
  return new UpstreamError("overload", `${registry.key}: too many blobs at once: ${why}`, { retryAfter: RETRY_AFTER });
}
