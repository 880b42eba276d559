/**
 * How many connections one content is worth. It is found out, not guessed: as long as its reader waits for the network, twice as
 * many are tried, and kept only when so much more came. A path that is full, a fast one and a slow reader stay with one.
 *
 *     measure ──▶ worth trying? ──▶ twice as many ──▶ all bring bytes ──▶ measure ──▶ a quarter more? again
 *        ▲                                                                  └──▶ not: as before, rest a while ──┐
 *        └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
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
  /** Connections that have brought bytes. */
  readonly flowing: number;
}

export interface Pace {
  /** How many connections there should be; the first call begins the first measurement. */
  connections(progress: Progress): number;
  /** What came in the last measurement, bytes a second; 0 before the first. */
  readonly rate: number;
  /** More than these could not be had: no others are tried for a while. */
  refused(connections: number, nowMs: number): void;
}

interface Trial {
  readonly before: number;
  readonly rate: number;
  readonly settledByMs: number;
  isSettled: boolean;
}

/** A measurement lasts until bursts even out: so long, and so many bytes, but not for ever. */
const MIN_WINDOW_MS = 1000;
const MIN_WINDOW_BYTES = 2 * 1024 * 1024;
const MAX_WINDOW_MS = 4000;
/** New connections are waited for so long; on a path with losses a handshake takes seconds. */
const MAX_SETTLE_MS = 3000;
/** Twice the connections bring twice the bytes where each is limited by itself. Less than this is no reason for more, */
const WORTH_MORE = 1.25;
/** and less than this none for these. */
const WORTH_KEEPING = 1.1;
/** One connection that brings so much is limited by nothing that others would help; bytes a second. */
const FAST_ENOUGH = 48 * 1024 * 1024;
/** The rest must be worth another connection: this much, and some seconds of work. */
const MIN_REMAINING_BYTES = 8 * 1024 * 1024;
const MIN_REMAINING_MS = 2000;
/** Paths change, and a measurement may mislead: it is tried again, less and less often. */
const FIRST_REST_MS = 5000;
const MAX_REST_MS = 60_000;
/** A reader that waits for less than this share of the time is the slow one itself. */
const WAITING = 0.5;

export function createPace(maxConnections: number): Pace {
  let wanted = 1;
  let since: Progress | undefined;
  /** While more connections are tried: how many there were before, and what they brought, in bytes a second. */
  let trial: Trial | undefined;
  let restMs = FIRST_REST_MS;
  let restUntilMs = 0;
  let rate = 0;

  function isSettling(now: Progress): boolean {
    if (trial === undefined || trial.isSettled) return false;
    trial.isSettled = now.flowing >= wanted || now.nowMs >= trial.settledByMs;
    return true;
  }

  function isLongEnough(from: Progress, now: Progress): boolean {
    const ms = now.nowMs - from.nowMs;
    const bytes = now.receivedBytes - from.receivedBytes;
    return ms >= MAX_WINDOW_MS || (ms >= MIN_WINDOW_MS && bytes >= MIN_WINDOW_BYTES);
  }

  function judge(from: Progress, now: Progress): void {
    const ms = now.nowMs - from.nowMs;
    // What was given back is less than nothing.
    rate = (Math.max(0, now.receivedBytes - from.receivedBytes) / ms) * 1000;
    if (now.waitedMs - from.waitedMs < WAITING * ms) return; // says something about the reader only
    const gain = trial === undefined ? Infinity : rate / trial.rate;
    if (gain < WORTH_MORE) rest(gain < WORTH_KEEPING ? (trial?.before ?? wanted) : wanted, now.nowMs);
    trial = undefined;
    if (now.nowMs >= restUntilMs && isWorthTrying(now)) tryMore(now);
  }

  function isWorthTrying({ remainingBytes }: Progress): boolean {
    const leastBytes = Math.max(MIN_REMAINING_BYTES, (rate * MIN_REMAINING_MS) / 1000);
    return wanted < maxConnections && rate < wanted * FAST_ENOUGH && remainingBytes >= leastBytes;
  }

  function tryMore({ nowMs }: Progress): void {
    trial = { before: wanted, rate, settledByMs: nowMs + MAX_SETTLE_MS, isSettled: false };
    wanted = Math.min(maxConnections, wanted * 2);
  }

  function rest(connections: number, nowMs: number): void {
    trial = undefined;
    wanted = connections;
    restUntilMs = nowMs + restMs;
    restMs = Math.min(MAX_REST_MS, restMs * 2);
  }

  return {
    connections(now) {
      if (since === undefined || isSettling(now)) since = now;
      else if (isLongEnough(since, now)) {
        const from = since;
        since = now;
        judge(from, now);
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
