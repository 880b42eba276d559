/**
 * A path to an upstream in virtual time: connections with a rate of their own, a rate that they share, a wait for headers, and
 * breaks. Time goes on only when everything waits, so a minute's download takes milliseconds and always the same course.
 */
import type { ContentSource, SourceBody, WantedBytes } from "../../src/download/download.ts";

export interface VirtualClock {
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Lets time go on until the promise has settled. */
  until<T>(promise: Promise<T>): Promise<T>;
}

export function createVirtualClock(): VirtualClock {
  let nowMs = 0;
  let timers: { atMs: number; wake: () => void }[] = [];
  return {
    now: () => nowMs,
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        const timer = { atMs: nowMs + ms, wake: resolve };
        timers.push(timer);
        signal?.addEventListener("abort", () => {
          timers = timers.filter((other) => other !== timer);
          reject(signal.reason);
        });
      });
    },
    async until(promise) {
      const end = { isReached: false };
      const settled = (): void => void (end.isReached = true);
      promise.then(settled, settled);
      while (!end.isReached) {
        await new Promise((resolve) => setImmediate(resolve)); // whoever can go on does
        if (end.isReached) break;
        const next = timers.toSorted((a, b) => a.atMs - b.atMs)[0];
        if (next === undefined) throw new Error("everything waits, and for nothing");
        timers = timers.filter((timer) => timer !== next);
        nowMs = next.atMs;
        next.wake();
      }
      return promise;
    },
  };
}

/** What is wrong with one answer; nothing where a field is absent. */
export interface PathFault {
  /** After so many of its bytes it breaks. */
  readonly after?: number;
  /** After so many of its bytes it ends as if that were all. */
  readonly endsAfter?: number;
  /** So many bytes more than were asked for. */
  readonly longerBy?: number;
  /** It begins so far from where it was asked to, and says so. */
  readonly offsetBy?: number;
  /** The content's length that it tells is so much off. */
  readonly totalBy?: number;
}

export interface PathOptions {
  readonly bytes: Uint8Array;
  /** Of one connection; default unlimited. */
  readonly connectionRate?: number;
  /** Of all together, bytes a second; default unlimited. */
  readonly pathRate?: number;
  /** From a question to its answer. Default 100 ms. */
  readonly headerMs?: number;
  /** Per answer: what is wrong with it; `refuse`: there is none, `whole`: everything, whatever was asked for. */
  readonly fault?: (answer: number, wanted: WantedBytes) => PathFault | "refuse" | "whole" | undefined;
  readonly host?: string | undefined;
}

export interface VirtualPath {
  readonly source: ContentSource;
  readonly asked: readonly WantedBytes[];
  readonly sentBytes: number;
  readonly openBodies: number;
  readonly mostBodies: number;
}

const PIECE_BYTES = 64 * 1024;

export function createVirtualPath(clock: VirtualClock, options: PathOptions): VirtualPath {
  const { bytes, connectionRate = Infinity, pathRate = Infinity, headerMs = 100, fault = () => undefined } = options;
  const asked: WantedBytes[] = [];
  let sentBytes = 0;
  let openBodies = 0;
  let mostBodies = 0;
  let pathFreeAtMs = 0;

  async function source(wanted: WantedBytes, signal: AbortSignal): Promise<SourceBody> {
    const what = fault(asked.push(wanted) - 1, wanted);
    await clock.sleep(headerMs, signal);
    if (what === "refuse") throw new Error("refused by the virtual path");
    const wrong = typeof what === "object" ? what : {};
    const first = what === "whole" ? 0 : Math.max(0, wanted.first + (wrong.offsetBy ?? 0));
    const askedEnd = (what === "whole" ? undefined : wanted.last) ?? bytes.byteLength - 1;
    const end = Math.min(askedEnd + 1 + (wrong.longerBy ?? 0), first + (wrong.endsAfter ?? Infinity));
    const body = bodyOf({ first, end, breaksAt: first + (wrong.after ?? Infinity) }, signal);
    const host = "host" in options ? options.host : "a.test";
    return { body, offset: first, totalBytes: bytes.byteLength + (wrong.totalBy ?? 0), host };
  }

  /** Behind the end there is something as well, for answers that are too long. */
  function pieceOf(from: number, to: number): Uint8Array {
    const piece = new Uint8Array(Math.max(0, to - from));
    piece.set(bytes.subarray(from, to));
    return piece;
  }

  function bodyOf(range: { first: number; end: number; breaksAt: number }, signal: AbortSignal) {
    let position = range.first;
    let isOpen = true;
    openBodies += 1;
    mostBodies = Math.max(mostBodies, openBodies);
    const close = (): void => {
      if (isOpen) openBodies -= 1;
      isOpen = false;
    };
    signal.addEventListener("abort", close);
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          if (position >= range.end) {
            close();
            return controller.close();
          }
          const piece = pieceOf(position, Math.min(range.end, range.breaksAt, position + PIECE_BYTES));
          pathFreeAtMs = Math.max(pathFreeAtMs, clock.now()) + (piece.byteLength / pathRate) * 1000;
          const atMs = Math.max(pathFreeAtMs, clock.now() + (piece.byteLength / connectionRate) * 1000);
          if (atMs > clock.now()) await clock.sleep(atMs - clock.now(), signal);
          if (piece.byteLength === 0) {
            close();
            return controller.error(new Error("broken by the virtual path"));
          }
          position += piece.byteLength;
          sentBytes += piece.byteLength;
          controller.enqueue(piece);
        },
        cancel: close,
      },
      { highWaterMark: 0 },
    );
  }

  return {
    source,
    asked,
    get sentBytes() {
      return sentBytes;
    },
    get openBodies() {
      return openBodies;
    },
    get mostBodies() {
      return mostBodies;
    },
  };
}
