/**
 * How many connections one content is worth. It is found out, not guessed: as long as its reader waits for the network, twice as
 * many are tried, and kept only when so much more came. A path that is full, a fast one and a slow reader stay with one.
 */

/** What came so far, at one moment. */
export interface Progress {
  /** Monotonic. */
  readonly nowMs: number;
  /** Bytes that arrived, read or not. */
  readonly receivedBytes: number;
  /** Time in all that the reader has waited for bytes. */
  readonly waitedMs: number;
  /** Bytes that were not asked for yet. */
  readonly remainingBytes: number;
}

export interface Pace {
  /** How many connections there should be; the first call begins the first measurement. */
  connections(progress: Progress): number;
  /** What came in the last measurement, bytes a second; 0 before the first. */
  readonly rate: number;
  /** More than these could not be had: no others are tried for a while. */
  refused(connections: number, nowMs: number): void;
}

/** Long enough that round trips of a tenth of a second and bursts even out. */
const WINDOW_MS = 1000;
/** New connections need some round trips before they count. */
const SETTLE_MS = 500;
/** Twice the connections bring twice the bytes where each is limited by itself; less than this is chance. */
const WORTH = 1.25;
/** One connection that brings so much is limited by nothing that others would help; bytes a second. */
const FAST_ENOUGH = 48 * 1024 * 1024;
/** The rest must be worth another connection: this much, and some seconds of work. */
const MIN_REMAINING_BYTES = 8 * 1024 * 1024;
const MIN_REMAINING_MS = 2000;
/** Paths change; once in a while it is tried again. */
const TRY_AGAIN_MS = 30_000;
/** A reader that waits for less than this share of the time is the slow one itself. */
const WAITING = 0.5;

export function createPace(maxConnections: number): Pace {
  let wanted = 1;
  let since: Progress | undefined;
  /** While more connections are tried: how many there were before, and what they brought, in bytes a second. */
  let trial: { readonly before: number; readonly rate: number } | undefined;
  let restUntilMs = 0;
  let rate = 0;

  function measure(from: Progress, now: Progress): void {
    const ms = now.nowMs - from.nowMs;
    rate = ((now.receivedBytes - from.receivedBytes) / ms) * 1000;
    const isWaiting = now.waitedMs - from.waitedMs >= WAITING * ms;
    if (trial !== undefined && isWaiting && rate < trial.rate * WORTH) return rest(trial.before, now.nowMs);
    trial = undefined;
    if (isWaiting && now.nowMs >= restUntilMs && isWorthIt(now)) tryMore(now);
  }

  function isWorthIt({ remainingBytes }: Progress): boolean {
    const leastBytes = Math.max(MIN_REMAINING_BYTES, (rate * MIN_REMAINING_MS) / 1000);
    return wanted < maxConnections && rate < wanted * FAST_ENOUGH && remainingBytes >= leastBytes;
  }

  function tryMore(now: Progress): void {
    trial = { before: wanted, rate };
    wanted = Math.min(maxConnections, wanted * 2);
    since = { ...now, nowMs: now.nowMs + SETTLE_MS };
  }

  function rest(connections: number, nowMs: number): void {
    trial = undefined;
    wanted = connections;
    restUntilMs = nowMs + TRY_AGAIN_MS;
  }

  return {
    connections(now) {
      if (since === undefined) since = now;
      if (now.nowMs < since.nowMs) {
        since = { ...now, nowMs: since.nowMs }; // what came while new connections settle does not count
        return wanted;
      }
      if (now.nowMs - since.nowMs >= WINDOW_MS) {
        const from = since;
        since = now;
        measure(from, now);
      }
      return wanted;
    },
    get rate() {
      return rate;
    },
    refused(connections, nowMs) {
      if (connections < wanted) rest(Math.max(1, connections), nowMs);
    },
  };
}
