/**
 * A part of one content as it comes from an upstream, in order and whatever happens on the way: when a body breaks, ends
 * short or goes silent, the source is asked again from where it stopped (protocol R262, R272). Every byte is given once.
 *
 * What is not done here: hashing and keeping. A clean end is no promise that the content is whole (protocol R236).
 */
import { RegistryError, UpstreamError } from "../errors.ts";
import { type Connection, openConnection } from "./connection.ts";
import type { ContentSource } from "./source.ts";

export interface Part {
  /** Where the next byte lies in the content. */
  readonly position: number;
  /** Exclusive; undefined: to the end of the content, wherever that is. */
  readonly end: number | undefined;
  /** Length of the whole content, as far as it is known. */
  readonly totalBytes: number | undefined;
  /** Who gives it, once it is open; undefined for who does not take ranges. */
  readonly host: string | undefined;
  /** Waits for the upstream's headers. Once. @throws what the source threw: it has done its own retries before headers */
  open(): Promise<void>;
  /** The next bytes, or undefined at the end. One at a time. @throws when the content cannot be had */
  next(): Promise<Uint8Array | undefined>;
  /** Ends the part earlier, at a position that is not behind it. */
  shorten(end: number): void;
  /** The connection is given up for another one, if one is open: a pending `next` goes on with it. */
  reconnect(): void;
  /** Ends everything; a pending `next` rejects. */
  cancel(reason: unknown): void;
}

export interface PartOptions {
  readonly source: ContentSource;
  readonly first: number;
  /** Exclusive; undefined: to the end of the content. */
  readonly end: number | undefined;
  /** When known already; another length is an error. */
  readonly totalBytes: number | undefined;
  readonly idleTimeoutMs: number;
  /** False: a silence is the end, nobody waits for this. Breaks are mended all the same. */
  readonly isWanted: () => boolean;
  /** Somebody was told that it comes: what cannot be opened is tried again like what broke. */
  readonly isPromised: () => boolean;
  /** One of several connections for one content: what it is refused, and a body that begins elsewhere, ends it. */
  readonly isExtra: boolean;
}

export interface PartDependencies {
  /** Waits between tries; rejects when the signal is aborted. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Told when content that had begun is asked for anew from where it broke. Default: nobody. */
  readonly resumed?: () => void;
  /** 0 ≤ x < 1 */
  readonly random: () => number;
}

/** The upstream contradicts itself: asking again would mix two contents. */
export class Disagreement extends UpstreamError {}

/** Breaks in a row before it is given up; with the waits between them about ten seconds. */
const MAX_TRIES = 5;
/** So much between two breaks is progress, and the tries count anew; what a reset destroys on its way is about as much. */
const PROGRESS_BYTES = 256 * 1024;
const FIRST_WAIT_MS = 200;
const MAX_WAIT_MS = 5000;
/** Who wants to be left alone for longer than a restart takes ends the download; clients come back by themselves. */
const MAX_ASKED_MS = 10_000;

export function createPart(options: PartOptions, { sleep, random, resumed }: PartDependencies): Part {
  const stop = new AbortController();
  const { isExtra } = options;
  let { end, totalBytes } = options;
  let position = options.first;
  let connection: Connection | undefined;
  /** Where the connection's body ends, exclusive; undefined: with the content. */
  let bodyEnd: number | undefined;
  let isEnded = false;
  let tries = 0;
  let triedAt = position;
  let breaks = 0;

  async function connect(): Promise<void> {
    // A range that begins at the end is refused (protocol R266). Where the end is is unknown, the last byte is asked for again.
    const isEndKnown = totalBytes !== undefined || end !== undefined;
    const first = isEndKnown ? position : Math.max(0, position - 1);
    bodyEnd = end === totalBytes ? undefined : end;
    const last = bodyEnd === undefined ? undefined : bodyEnd - 1;
    const wanted = { first, last, isExtra, breaks };
    const opened = await openConnection({ ...options, wanted, end: stop.signal });
    const problem = disagreement(opened, first);
    if (problem !== undefined) {
      opened.cancel();
      throw new Disagreement("bad-answer", problem);
    }
    totalBytes = opened.totalBytes ?? totalBytes;
    opened.skip(position - opened.offset);
    connection = opened;
  }

  function disagreement(opened: Connection, first: number): string | undefined {
    if (opened.offset > first || opened.offset < 0) return `expected a body from byte ${first}, got ${opened.offset}`;
    // Everything before it would come once more.
    if (isExtra && opened.offset !== first) return `expected a part from byte ${first}, got one from ${opened.offset}`;
    if (totalBytes !== undefined && opened.totalBytes !== undefined && opened.totalBytes !== totalBytes)
      return `expected content of ${totalBytes} bytes, now it has ${opened.totalBytes}`;
    return undefined;
  }

  async function open(): Promise<void> {
    for (;;) {
      try {
        return await connect();
      } catch (cause) {
        if (!options.isPromised()) throw cause;
        await beforeNextTry(cause);
      }
    }
  }

  async function next(): Promise<Uint8Array | undefined> {
    for (;;) {
      stop.signal.throwIfAborted();
      try {
        if (isEnded || position === totalBytes || position === end) return finish();
        if (connection === undefined) await connect();
        const piece = await connection?.read();
        if (piece === undefined && totalBytes === undefined && end === undefined) return finish();
        if (piece === undefined)
          throw new UpstreamError("bad-answer", `expected bytes up to ${end ?? totalBytes}, got ${position}`);
        const wanted = count(piece);
        if (wanted.byteLength > 0) return wanted; // none when it was shortened meanwhile
      } catch (cause) {
        await beforeNextTry(cause);
      }
    }
  }

  function finish(): undefined {
    isEnded = true;
    if (bodyEnd === end || position === totalBytes) connection?.finish();
    else connection?.cancel();
    connection = undefined;
    return undefined;
  }

  function count(piece: Uint8Array): Uint8Array {
    if (totalBytes !== undefined && position + piece.byteLength > totalBytes)
      throw new Disagreement("bad-answer", `expected ${totalBytes} bytes, got more`);
    const wanted = end === undefined ? piece : piece.subarray(0, end - position);
    position += wanted.byteLength;
    if (position - triedAt >= PROGRESS_BYTES) tries = 0;
    return wanted;
  }

  /** @throws the cause when there is no next try */
  async function beforeNextTry(cause: unknown): Promise<void> {
    connection?.cancel();
    connection = undefined;
    stop.signal.throwIfAborted();
    if (cause instanceof Reconnected) return;
    if (isFinal(cause) || (isSilence(cause) && !options.isWanted())) throw cause;
    if (isExtra && position === options.first) throw cause;
    tries += 1;
    const askedMs = askedPauseMs(cause);
    if (tries > MAX_TRIES || askedMs > MAX_ASKED_MS) throw cause;
    breaks = position - triedAt >= PROGRESS_BYTES ? 0 : breaks + 1;
    triedAt = position;
    if (position > options.first) resumed?.();
    const mostMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (tries - 1));
    await sleep(Math.max(askedMs, mostMs * (0.5 + random() / 2)), stop.signal);
  }

  return {
    get position() {
      return position;
    },
    get end() {
      return end;
    },
    get totalBytes() {
      return totalBytes;
    },
    get host() {
      return connection?.host;
    },
    open,
    next,
    shorten(earlier) {
      if (earlier < position || earlier > (end ?? totalBytes ?? Infinity))
        throw new RangeError(`expected an end between ${position} and ${end ?? totalBytes}, got ${earlier}`);
      end = earlier;
    },
    reconnect: () => connection?.cancel(new Reconnected("timeout", "slower than the others")),
    cancel(reason) {
      stop.abort(reason);
      connection?.cancel();
      connection = undefined;
    },
  };
}

class Reconnected extends UpstreamError {}

/** How long a registry that is known dead, or overloaded, wants to be left alone (protocol R211); 0 where it does not say. */
function askedPauseMs(cause: unknown): number {
  if (!(cause instanceof RegistryError) || cause.status !== 503) return 0;
  const seconds = cause.headers.find(([name]) => name === "Retry-After")?.[1] ?? "";
  return /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1000 : 0;
}

/** Ours, or the upstream's own, which is as long and often looks at the clock first. */
function isSilence(cause: unknown): boolean {
  return cause instanceof UpstreamError && cause.kind === "timeout";
}

/** A definite answer about the content, not about the moment. */
function isFinal(cause: unknown): boolean {
  if (cause instanceof Disagreement) return true;
  return cause instanceof RegistryError && cause.status < 500 && cause.status !== 429;
}
