/**
 * One content over several connections, where one is slower than the path: long round trips, losses, a limit for each
 * connection. The reader gets one ordered stream all the same, out of a Window of parts. Here is decided which to ask for.
 *
 * It begins with one connection for all of it. When more are worth it (Pace), the first part behind a split is asked for; once it
 * is there, the first connection ends at the split. So no byte is asked for twice, but what was on its way then.
 */
import { type Ahead, createAhead, isAhead } from "./ahead.ts";
import type { Download } from "./download.ts";
import { type Lanes, RESTING_MS } from "./lanes.ts";
import { createPace } from "./pace.ts";
import { createPart, Disagreement, type Part, type PartDependencies, type PartOptions } from "./part.ts";
import { createWindow } from "./window.ts";

export interface ParallelDependencies extends PartDependencies {
  readonly lanes: Lanes;
  /** For one content, the first included. */
  readonly maxConnections: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** Some seconds of a slow connection; smaller ones ask too often, larger ones hold too much memory. */
const PART_BYTES = 4 * 1024 * 1024;
const MIN_PART_BYTES = 1024 * 1024;
/** Where answers are slow to begin a part is so many times as long as its beginning, within bounds. */
const OPENING_SHARE = 4;
const MAX_PART_BYTES = 8 * 1024 * 1024;
/** Parts for each connection until the end, so that the last ones end together. */
const TURNS = 2;
/** A split lies so far ahead that its answer is there before the first connection is: round trips and a redirect. */
const SPLIT_MS = 500;
/** A reader waits when its waits for single pieces add up to this; what is here already is given in some microseconds. */
const WAIT_MS = 50;
/** Of a connection that is one of several nobody waits for long. */
const EXTRA_IDLE_MS = 10_000;

export function createParallelDownload(
  options: Omit<PartOptions, "isExtra">,
  dependencies: ParallelDependencies,
): Download {
  const { lanes, maxConnections, now } = dependencies;
  const pace = createPace(maxConnections);
  let totalBytes = options.totalBytes;
  const window = createWindow(partTo(options.first, options.end), (bytes) => lanes.release(bytes, holder));
  const holder = { restingMs, giveBack };
  let host: string | undefined;
  let position = options.first;
  let waitedMs = 0;
  let waitingSince: number | undefined;
  /** When the reader had waited so much more in all. */
  let waited = { atMs: now(), inAllMs: 0 };
  let splitMs = SPLIT_MS;
  /** From a question to the first bytes of its answer, smoothed. */
  let openingMs = 0;
  /** End of the part whose connection was changed for another one. */
  let reconnectedAt: number | undefined;
  let isEnded = false;
  const over = new AbortController();

  /** Asked for with all patience. */
  function partTo(first: number, partEnd: number | undefined): Part {
    return createPart({ ...options, first, end: partEnd, totalBytes, isExtra: false }, dependencies);
  }

  /** Where the content, or what is wanted of it, ends; exclusive. */
  function limit(): number | undefined {
    if (options.end === undefined || totalBytes === undefined) return options.end ?? totalBytes;
    return Math.min(options.end, totalBytes); // who asks for more than there is gets what there is
  }

  /** What the first answer told. */
  function learn(): void {
    const { current } = window;
    if (isAhead(current)) return;
    totalBytes ??= current.totalBytes;
    host ??= current.host;
  }

  async function next(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (isEnded) return undefined;
      const piece = await read();
      if (piece !== undefined) {
        position += piece.byteLength;
        review();
        return piece;
      }
      if (moveOn()) continue;
      isEnded = true;
      end(new Error("everything was read"));
    }
  }

  async function read(): Promise<Uint8Array | undefined> {
    over.signal.throwIfAborted();
    waitingSince = now();
    try {
      const piece = await window.current.next();
      // What is cancelled may look as if it had come to its end.
      over.signal.throwIfAborted();
      learn();
      return piece;
    } catch (cause) {
      end(cause);
      throw cause;
    } finally {
      const nowMs = now();
      const tookMs = nowMs - (waitingSince ?? nowMs);
      waitingSince = undefined;
      waitedMs += tookMs;
      if (waitedMs - waited.inAllMs >= WAIT_MS) waited = { atMs: nowMs, inAllMs: waitedMs };
    }
  }

  function restingMs(): number {
    return waitingSince === undefined ? now() - waited.atMs : 0;
  }

  /** Goes on with one connection, from where the reader is, once it wants more. Only while it wants nothing. */
  function giveBack(): void {
    const { current } = window;
    window.clear(new Error("its reader rests, and others need the memory"));
    if (isAhead(current)) window.replace(partTo(position, options.end));
    pace.refused(1, now());
  }

  /** To what lies behind the current part; false at the end. */
  function moveOn(): boolean {
    const { current } = window;
    if (isAhead(current) && current.position < current.end) {
      window.replace(partTo(position, current.end)); // what it could not bring
      return true;
    }
    if (window.moveOn()) return true;
    const contentEnd = limit();
    if (contentEnd === undefined || position >= contentEnd) return false;
    window.replace(partTo(position, options.end));
    return true;
  }

  /** What one connection brings in that time. */
  function bytesPerOpening(): number {
    return ((pace.rate / window.flowing()) * openingMs) / 1000;
  }

  /** Looks whether more connections are worth it, and opens them. */
  function review(): void {
    const contentEnd = limit();
    if (over.signal.aborted || contentEnd === undefined || host === undefined || !lanes.takesRanges(host)) return;
    const nowMs = now();
    const waiting = waitingSince === undefined ? 0 : nowMs - waitingSince;
    const askedTo = window.length > 0 ? window.end : undefined;
    const wanted = pace.connections({
      nowMs,
      receivedBytes: window.receivedBytes(),
      waitedMs: waitedMs + waiting,
      remainingBytes: contentEnd - (askedTo ?? position),
      flowing: window.flowing(),
    });
    while (wanted > 1 && mayOpen(wanted) && openNext(contentEnd, wanted));
  }

  function mayOpen(wanted: number): boolean {
    // Those that end before another part could begin do not count: the next one is asked for before that.
    const isTooFew = window.busy(bytesPerOpening()) < wanted;
    if (restingMs() >= RESTING_MS) return false;
    return isTooFew && window.running() < maxConnections && window.length < wanted * TURNS;
  }

  /** False when there is nothing to open now. */
  function openNext(contentEnd: number, wanted: number): boolean {
    const { current, trial } = window;
    const behind = window.end ?? contentEnd;
    const isWhole = behind === contentEnd;
    if (isWhole && (window.length > 0 || trial !== undefined || isAhead(current))) return false;
    const splitBytes = Math.max(PART_BYTES, Math.floor((pace.rate * splitMs) / 1000));
    const first = isWhole ? current.position + splitBytes : behind;
    const share = Math.floor((contentEnd - first) / (wanted * TURNS));
    const most = clamp(bytesPerOpening() * OPENING_SHARE, PART_BYTES, MAX_PART_BYTES);
    const partEnd = Math.min(contentEnd, first + Math.floor(clamp(share, MIN_PART_BYTES, most)));
    if (first >= contentEnd || !lanes.reserve(partEnd - first, holder)) return false;
    const ahead = startAhead(first, partEnd);
    if (isWhole) window.tryOut(ahead);
    else window.push(ahead);
    return !isWhole;
  }

  function startAhead(first: number, partEnd: number): Ahead {
    const idleTimeoutMs = Math.min(options.idleTimeoutMs, EXTRA_IDLE_MS);
    const part = createPart(
      { ...options, first, end: partEnd, totalBytes, idleTimeoutMs, isExtra: true },
      dependencies,
    );
    const askedAtMs = now();
    const ahead: Ahead = createAhead(part, partEnd, {
      begun() {
        openingMs += (now() - askedAtMs - openingMs) / (openingMs === 0 ? 1 : 4);
      },
      progressed() {
        if (ahead === window.trial) split(ahead);
        review();
      },
      ended(failure) {
        if (over.signal.aborted) return;
        if (failure !== undefined) giveUp(ahead, failure);
        else hurry();
        review();
      },
    });
    return ahead;
  }

  /** The part behind the split comes: the first connection ends there, unless it is past it already. */
  function split(ahead: Ahead): void {
    const { current } = window;
    window.tryOut(undefined);
    if (!isAhead(current) && current.position <= ahead.first) {
      current.shorten(ahead.first);
      window.push(ahead);
      return;
    }
    splitMs *= 2;
    window.drop(ahead, new Error("its turn came before it did"));
    pace.refused(window.running(), now());
  }

  /** Not to be had this way; with bytes of it or parts behind it there, it waits for its turn, when the rest is asked for anew. */
  function giveUp(ahead: Ahead, failure: unknown): void {
    if (failure instanceof Disagreement && host !== undefined) lanes.answersBadly(host);
    const isTrial = ahead === window.trial;
    if (isTrial) {
      window.tryOut(undefined);
      window.drop(ahead, failure);
    }
    if (isTrial || window.dropFailed()) pace.refused(window.running(), now());
  }

  function end(reason: unknown): void {
    if (over.signal.aborted) return;
    over.abort(reason);
    window.clear(reason);
    // What came to its end may keep its connection.
    if (!isEnded && !isAhead(window.current)) window.current.cancel(reason);
  }

  /** All others are done and wait for the current part: it is on a bad connection, and may have another one, once. */
  function hurry(): void {
    const { current } = window;
    const isHeldUp = window.length >= TURNS && window.isQueueComplete() && window.running() === 1;
    // Who reads slowly is held up by nothing.
    if (!isHeldUp || waitingSince === undefined || reconnectedAt === current.end) return;
    reconnectedAt = current.end;
    current.reconnect();
  }

  return {
    get position() {
      return position;
    },
    get totalBytes() {
      return totalBytes;
    },
    async open() {
      if (isAhead(window.current)) return;
      await window.current.open();
      learn();
      review();
    },
    next,
    cancel: end,
  };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
