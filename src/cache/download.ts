/**
 * One content as it comes from an upstream, from an offset on, whatever happens on the way: when a body breaks, ends short
 * or goes silent, the source is asked again from where it stopped (protocol R262, R272). Every byte is given once.
 *
 * What is not done here: hashing and keeping. A clean end is no promise that the content is whole (protocol R236).
 */
import { RegistryError, UpstreamError } from "../errors.ts";

/** What an upstream gave. */
export interface SourceBody {
  readonly body: ReadableStream<Uint8Array>;
  /** Where the body begins: the offset that was asked for, or less (0) from an upstream that cannot begin there (protocol R272). */
  readonly offset: number;
  /** Length of the whole content as the upstream says it, undefined if it does not. */
  readonly totalBytes: number | undefined;
  readonly refuse?: ((fault: "digest") => void) | undefined; // for whoever finds the whole wrong
}

/**
 * Opens the upstream at a byte offset. Called again to go on after a break, and by followers of a fill whose store failed;
 * so it may run several times at once, and later than the request that brought it. The signal is aborted when the body is
 * not wanted any more.
 * @throws whatever the client shall be told; RegistryErrors below 500 but 429 are final, other errors are tried again in mid-content
 */
export type FillSource = (offset: number, signal: AbortSignal) => Promise<SourceBody>;

export interface Download {
  /** Bytes given so far, counted from the beginning of the content. */
  readonly position: number;
  readonly totalBytes: number | undefined;
  /** Waits for the upstream's headers. Once. @throws what the source threw: it has done its own retries before headers */
  open(): Promise<void>;
  /** The next bytes, or undefined at the end. One at a time. @throws when the content cannot be had */
  next(): Promise<Uint8Array | undefined>;
  /** Ends everything; a pending `next` rejects. */
  cancel(reason: unknown): void;
}

export interface DownloadOptions {
  readonly source: FillSource;
  readonly offset: number;
  /** When known already; another length is an error. */
  readonly totalBytes: number | undefined;
  readonly idleTimeoutMs: number;
  /** False: a silence is the end, nobody waits for this. Breaks are mended all the same. */
  readonly isWanted: () => boolean;
}

export interface DownloadDependencies {
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly random: () => number;
}

/** Breaks in a row before it is given up; with the waits between them about ten seconds. */
const MAX_TRIES = 5;
/** So much between two breaks is progress, and the tries count anew: an upstream is asked once per MiB at most. */
const PROGRESS_BYTES = 1024 * 1024;
const FIRST_WAIT_MS = 200;
const MAX_WAIT_MS = 5000;
/** How long a body that gave everything may take to say that it ended, which keeps its connection usable. */
const END_WAIT_MS = 1000;

export function createDownload(options: DownloadOptions, { sleep, random }: DownloadDependencies): Download {
  const end = new AbortController();
  let totalBytes = options.totalBytes;
  let position = options.offset;
  let body: Body | undefined;
  let isEnded = false;
  let tries = 0;
  let triedAt = position;

  async function connect(): Promise<void> {
    // A range that begins at the end is refused (protocol R266). Where the end is is unknown, the last byte is asked for again.
    const offset = totalBytes === undefined ? Math.max(0, position - 1) : position;
    const opened = await openBody(options, { offset, end: end.signal });
    const problem = disagreement(opened, offset);
    if (problem !== undefined) {
      opened.cancel();
      throw new Disagreement("bad-answer", problem);
    }
    totalBytes = opened.totalBytes ?? totalBytes;
    opened.skip(position - opened.offset);
    body = opened;
  }

  function disagreement(opened: Body, offset: number): string | undefined {
    if (opened.offset > offset || opened.offset < 0) return `expected a body from byte ${offset}, got ${opened.offset}`;
    if (totalBytes !== undefined && opened.totalBytes !== undefined && opened.totalBytes !== totalBytes)
      return `expected content of ${totalBytes} bytes, now it has ${opened.totalBytes}`;
    return undefined;
  }

  async function next(): Promise<Uint8Array | undefined> {
    for (;;) {
      end.signal.throwIfAborted();
      try {
        if (isEnded || position === totalBytes) return finish();
        if (body === undefined) await connect();
        const piece = await body?.read();
        if (piece === undefined && totalBytes === undefined) return finish();
        if (piece === undefined) throw new UpstreamError("bad-answer", `expected ${totalBytes} bytes, got ${position}`);
        return count(piece);
      } catch (cause) {
        await beforeNextTry(cause);
      }
    }
  }

  function finish(): undefined {
    isEnded = true;
    body?.finish();
    body = undefined;
    return undefined;
  }

  function count(piece: Uint8Array): Uint8Array {
    position += piece.byteLength;
    if (totalBytes !== undefined && position > totalBytes)
      throw new Disagreement("bad-answer", `expected ${totalBytes} bytes, got more`);
    if (position - triedAt >= PROGRESS_BYTES) tries = 0;
    return piece;
  }

  /** @throws the cause when there is no next try */
  async function beforeNextTry(cause: unknown): Promise<void> {
    body?.cancel();
    body = undefined;
    end.signal.throwIfAborted();
    if (isFinal(cause) || (cause instanceof Silence && !options.isWanted())) throw cause;
    tries += 1;
    if (tries > MAX_TRIES) throw cause;
    triedAt = position;
    const mostMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (tries - 1));
    await sleep(mostMs * (0.5 + random() / 2), end.signal);
  }

  return {
    get position() {
      return position;
    },
    get totalBytes() {
      return totalBytes;
    },
    open: connect,
    next,
    cancel(reason) {
      end.abort(reason);
      body?.cancel();
      body = undefined;
    },
  };
}

/** The upstream contradicts itself: asking again would mix two contents. */
class Disagreement extends UpstreamError {}

class Silence extends UpstreamError {}

/** A definite answer about the content, not about the moment. */
function isFinal(cause: unknown): boolean {
  if (cause instanceof Disagreement) return true;
  return cause instanceof RegistryError && cause.status < 500 && cause.status !== 429;
}

/** One body of one connection, with its idle time watched. */
interface Body {
  readonly offset: number;
  readonly totalBytes: number | undefined;
  /** Leaves out so many of the bytes to come. */
  skip(bytes: number): void;
  /** Undefined at the end; never an empty piece. */
  read(): Promise<Uint8Array | undefined>;
  /** Everything was read: lets the body end by itself, for a moment. */
  finish(): void;
  cancel(): void;
}

async function openBody(
  { source, idleTimeoutMs }: DownloadOptions,
  { offset, end }: { offset: number; end: AbortSignal },
): Promise<Body> {
  const connection = new AbortController();
  const idle = watchIdle(idleTimeoutMs, connection);
  const onEnd = (): void => connection.abort(end.reason);
  end.addEventListener("abort", onEnd);
  const close = (reason: unknown): void => {
    end.removeEventListener("abort", onEnd);
    connection.abort(reason);
  };
  let opened: SourceBody;
  try {
    opened = await idle.watch(unlessLate(source(offset, connection.signal), connection.signal));
  } catch (cause) {
    close(cause);
    throw cause;
  }
  const reader = opened.body.getReader();
  let left = 0;

  // That a body cannot be cancelled any more, or fails while it is, matters to nobody.
  const cancel = (): void => {
    close(new Error("the body is not wanted any more"));
    reader.cancel().catch(() => undefined);
  };

  return {
    offset: opened.offset,
    totalBytes: opened.totalBytes,
    skip(bytes) {
      left = bytes;
    },
    async read() {
      for (;;) {
        const { done, value } = await idle.watch(reader.read());
        // After a cancel a pending read says "done", which is not the end of the content.
        connection.signal.throwIfAborted();
        if (done) return undefined;
        const piece = value.subarray(Math.min(left, value.byteLength));
        left -= value.byteLength - piece.byteLength;
        if (piece.byteLength > 0) return piece;
      }
    },
    finish() {
      const timer = setTimeout(cancel, END_WAIT_MS);
      reader
        .read()
        .then(({ done }) => (done ? undefined : cancel()), cancel)
        .finally(() => {
          clearTimeout(timer);
          end.removeEventListener("abort", onEnd);
        });
    },
    cancel,
  };
}

/** An answer that comes after nobody waits for it any more is hung up on. */
async function unlessLate(answer: Promise<SourceBody>, signal: AbortSignal): Promise<SourceBody> {
  const opened = await answer;
  if (signal.aborted) opened.body.cancel(signal.reason).catch(() => undefined);
  return opened;
}

interface IdleWatch {
  /** The same, but rejects when it takes longer than the idle time, or the connection is aborted. */
  watch<T>(waited: Promise<T>): Promise<T>;
}

/** One timer at a time, set anew only when it fires: bodies come in thousands of pieces a second. */
function watchIdle(idleTimeoutMs: number, connection: AbortController): IdleWatch {
  let waitingSince: number | undefined;
  let fail: ((cause: unknown) => void) | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  connection.signal.addEventListener("abort", () => {
    clearTimeout(timer);
    fail?.(connection.signal.reason);
  });

  function check(): void {
    timer = undefined;
    if (waitingSince === undefined) return;
    const leftMs = idleTimeoutMs - (performance.now() - waitingSince);
    if (leftMs > 0) setTimer(leftMs);
    else connection.abort(new Silence("timeout", `no byte within ${idleTimeoutMs} ms`));
  }

  function setTimer(ms: number): void {
    timer = setTimeout(check, ms);
    // It outlives the last read for a while, which must not hold up the end of the program.
    timer.unref();
  }

  return {
    watch: (waited) =>
      new Promise((resolve, reject) => {
        connection.signal.throwIfAborted();
        waitingSince = performance.now();
        if (timer === undefined) setTimer(idleTimeoutMs);
        const settled = (): void => {
          waitingSince = undefined;
          fail = undefined;
        };
        fail = (cause) => {
          settled();
          reject(cause);
        };
        waited.then(
          (value) => {
            settled();
            resolve(value);
          },
          (cause) => {
            settled();
            reject(cause);
          },
        );
      }),
  };
}
