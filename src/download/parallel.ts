/**
 * One content over several connections, where one is slower than the path: long round trips, losses, a limit for each
 * connection. The reader gets one ordered stream all the same.
 *
 *     current ──▶ reader          queue: parts behind it, in order, each read ahead into memory by a connection of its own
 *     [····■■■■][■■■■■■··][■■■·····]                                     ▲ the next part begins here
 *
 * It begins with one connection for all of it. When more are worth it (Pace), the first part behind a split is asked for; once it
 * is there, the first connection ends at the split. So no byte is asked for twice, but what was on its way then.
 */
import { type Ahead, createAhead, isAhead, isRunning, missingBytes } from "./ahead.ts";
import type { Download } from "./download.ts";
import type { Lanes } from "./lanes.ts";
import { createPace } from "./pace.ts";
import { createPart, Disagreement, type Part, type PartDependencies, type PartOptions } from "./part.ts";

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
/** Of a connection that is one of several nobody waits for long. */
const EXTRA_IDLE_MS = 10_000;

export function createParallelDownload(
  options: Omit<PartOptions, "isExtra">,
  dependencies: ParallelDependencies,
): Download {
  const { lanes, maxConnections, now } = dependencies;
  const pace = createPace(maxConnections);
  const queue: Ahead[] = [];
  /** Those that hold memory. */
  const held = new Set<Ahead>();
  /** The part behind a split, until it is known to come. */
  let trial: Ahead | undefined;
  let totalBytes = options.totalBytes;
  let current: Part | Ahead = wholeFrom(options.first);
  let host: string | undefined;
  let position = options.first;
  let waitedMs = 0;
  let waitingSince: number | undefined;
  let splitMs = SPLIT_MS;
  /** From a question to the first bytes of its answer, smoothed. */
  let openingMs = 0;
  /** End of the part whose connection was changed for another one. */
  let reconnectedAt: number | undefined;
  let isEnded = false;
  const over = new AbortController();

  function wholeFrom(first: number): Part {
    return createPart({ ...options, first, totalBytes, isExtra: false }, dependencies);
  }

  /** Where the content, or what is wanted of it, ends; exclusive. */
  function limit(): number | undefined {
    if (options.end === undefined || totalBytes === undefined) return options.end ?? totalBytes;
    return Math.min(options.end, totalBytes); // who asks for more than there is gets what there is
  }

  /** What the first answer told. */
  function learn(): void {
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
      const piece = await current.next();
      // What is cancelled may look as if it had come to its end.
      over.signal.throwIfAborted();
      learn();
      return piece;
    } catch (cause) {
      end(cause);
      throw cause;
    } finally {
      waitedMs += now() - (waitingSince ?? now());
      waitingSince = undefined;
    }
  }

  /** To what lies behind the current part; false at the end. */
  function moveOn(): boolean {
    const contentEnd = limit();
    if (isAhead(current)) {
      release(current);
      // What it could not bring is asked for with all patience.
      if (current.position < current.end) {
        current = createPart(
          { ...options, first: position, end: current.end, totalBytes, isExtra: false },
          dependencies,
        );
        return true;
      }
    }
    const following = queue.shift();
    if (following === undefined && (contentEnd === undefined || position >= contentEnd)) return false;
    current = following ?? wholeFrom(position);
    return true;
  }

  function received(): number {
    const ahead = [...queue, ...(trial === undefined ? [] : [trial])];
    const unread = isAhead(current) ? current.first + current.receivedBytes - current.position : 0;
    return position + unread + ahead.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  }

  function running(): number {
    return parts().filter(isRunning).length;
  }

  /** Those whose end is further away than the beginning of another part takes: the next one is asked for before that. */
  function busy(): number {
    const soonBytes = bytesPerOpening();
    return parts().filter((part) => isRunning(part) && missingBytes(part) > soonBytes).length;
  }

  function parts(): (Part | Ahead)[] {
    return [current, ...queue, ...(trial === undefined ? [] : [trial])];
  }

  /** What one connection brings in that time. */
  function bytesPerOpening(): number {
    return ((pace.rate / flowing()) * openingMs) / 1000;
  }

  /** The current one, and those that have begun: what is complete has flowed, and its connection has another part by now. */
  function flowing(): number {
    return 1 + queue.filter(({ receivedBytes }) => receivedBytes > 0).length;
  }

  /** Looks whether more connections are worth it, and opens them. */
  function review(): void {
    const contentEnd = limit();
    if (over.signal.aborted || contentEnd === undefined || host === undefined || !lanes.takesRanges(host)) return;
    const nowMs = now();
    const waiting = waitingSince === undefined ? 0 : nowMs - waitingSince;
    const remainingBytes = contentEnd - (queue.at(-1)?.end ?? position);
    const wanted = pace.connections({
      nowMs,
      receivedBytes: received(),
      waitedMs: waitedMs + waiting,
      remainingBytes,
      flowing: flowing(),
    });
    const mayOpen = () => busy() < wanted && running() < maxConnections && queue.length < wanted * TURNS;
    while (wanted > 1 && mayOpen() && openNext(contentEnd, wanted));
  }

  /** False when there is nothing to open now. */
  function openNext(contentEnd: number, wanted: number): boolean {
    const behind = queue.at(-1)?.end ?? current.end ?? contentEnd;
    const isWhole = behind === contentEnd;
    if (isWhole && (queue.length > 0 || trial !== undefined || isAhead(current))) return false;
    const splitBytes = Math.max(PART_BYTES, Math.floor((pace.rate * splitMs) / 1000));
    const first = isWhole ? current.position + splitBytes : behind;
    const share = Math.floor((contentEnd - first) / (wanted * TURNS));
    const most = clamp(bytesPerOpening() * OPENING_SHARE, PART_BYTES, MAX_PART_BYTES);
    const partEnd = Math.min(contentEnd, first + Math.floor(clamp(share, MIN_PART_BYTES, most)));
    if (first >= contentEnd || !lanes.reserve(partEnd - first)) return false;
    const ahead = startAhead(first, partEnd);
    if (isWhole) trial = ahead;
    else queue.push(ahead);
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
        if (ahead === trial) split(ahead);
        review();
      },
      ended(failure) {
        if (over.signal.aborted) return;
        if (failure !== undefined) giveUp(ahead, failure);
        else hurry();
        review();
      },
    });
    held.add(ahead);
    return ahead;
  }

  function release(ahead: Ahead): void {
    if (held.delete(ahead)) lanes.release(ahead.end - ahead.first);
  }

  /** The part behind the split comes: the first connection ends there, unless it is past it already. */
  function split(ahead: Ahead): void {
    trial = undefined;
    if (!isAhead(current) && current.position <= ahead.first) {
      current.shorten(ahead.first);
      queue.push(ahead);
      return;
    }
    splitMs *= 2;
    release(ahead);
    ahead.cancel(new Error("its turn came before it did"));
    pace.refused(running(), now());
  }

  /** Not to be had this way; with bytes of it or parts behind it there, it waits for its turn, when the rest is asked for anew. */
  function giveUp(ahead: Ahead, failure: unknown): void {
    if (failure instanceof Disagreement && host !== undefined) lanes.answersBadly(host);
    if (ahead === trial) trial = undefined;
    else if (ahead === queue.at(-1) && ahead.receivedBytes === 0) queue.pop();
    else return;
    release(ahead);
    pace.refused(running(), now());
  }

  function end(reason: unknown): void {
    if (over.signal.aborted) return;
    over.abort(reason);
    for (const ahead of held) {
      release(ahead);
      ahead.cancel(reason);
    }
    // What came to its end may keep its connection.
    if (!isEnded && !isAhead(current)) current.cancel(reason);
    queue.length = 0;
    trial = undefined;
  }

  /** All others are done and wait for the current part: it is on a bad connection, and may have another one, once. */
  function hurry(): void {
    const isHeldUp = queue.length >= TURNS && queue.every(({ state }) => state === "complete");
    if (!isHeldUp || running() !== 1 || reconnectedAt === current.end) return;
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
      if (isAhead(current)) return;
      await current.open();
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
