/** One body of one connection, with its idle time watched. */
import { watchIdle } from "./idle.ts";
import type { ContentSource, SourceBody, WantedBytes } from "./source.ts";

export interface Connection {
  /** Where the body begins, which may be before what was asked for. */
  readonly offset: number;
  readonly totalBytes: number | undefined;
  /** Of the source's answer. */
  readonly host: string | undefined;
  /** Leaves out so many of the bytes to come. */
  skip(bytes: number): void;
  /** Undefined at the end; never an empty piece. @throws what ended it */
  read(): Promise<Uint8Array | undefined>;
  /** Everything was read: lets the body end by itself, for a moment, which keeps its connection usable. */
  finish(): void;
  /** Ends it; a pending read rejects with the reason. */
  cancel(reason?: unknown): void;
}

export interface ConnectionOptions {
  readonly source: ContentSource;
  readonly idleTimeoutMs: number;
  readonly wanted: WantedBytes;
  /** Its abort ends the connection. */
  readonly end: AbortSignal;
}

/** How long a body that gave everything may take to say that it ended. */
const END_WAIT_MS = 1000;

/** @throws what the source threw, UpstreamError `timeout` when it took longer than the idle time */
export async function openConnection({ source, idleTimeoutMs, wanted, end }: ConnectionOptions): Promise<Connection> {
  end.throwIfAborted();
  const connection = new AbortController();
  const idle = watchIdle(idleTimeoutMs, connection);
  let cancelBody = async (): Promise<void> => undefined;
  const cancel = (reason: unknown = new Error("the body is not wanted any more")): void => {
    end.removeEventListener("abort", onEnd);
    connection.abort(reason);
    // That a body cannot be cancelled any more, or fails while it is, matters to nobody.
    cancelBody().catch(() => undefined);
  };
  const onEnd = (): void => cancel(end.reason);
  end.addEventListener("abort", onEnd);
  const answer = source(wanted, connection.signal);
  let opened: SourceBody;
  try {
    opened = await idle.watch(answer);
    connection.signal.throwIfAborted();
  } catch (cause) {
    cancel(cause);
    hangUp(answer);
    throw cause;
  }
  const reader = opened.body.getReader();
  cancelBody = () => reader.cancel();
  let left = 0;

  return {
    offset: opened.offset,
    totalBytes: opened.totalBytes,
    host: opened.host,
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
        .then(
          ({ done }) => (done ? undefined : cancel()),
          () => cancel(),
        )
        .finally(() => {
          clearTimeout(timer);
          end.removeEventListener("abort", onEnd);
        });
    },
    cancel,
  };
}

/** On an answer that nobody waits for any more, whenever it comes; that it cannot be cancelled matters to nobody. */
function hangUp(answer: Promise<SourceBody>): void {
  answer.then(({ body }) => body.cancel()).catch(() => undefined);
}
