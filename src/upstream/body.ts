/**
 * An upstream body as the rest of the program reads it: the bytes of the representation, in the chunks the network gave,
 * uncopied; it errors when the network breaks it, when it is not as long as declared (protocol R235), and when it brings
 * nothing for the idle time while somebody is reading. It is the hot path: one promise per chunk and no timer per chunk.
 *
 * A body whose end is the end of the connection cannot be told from a cut one (protocol R236): whoever keeps it checks its digest.
 */
import { UpstreamError } from "../errors.ts";
import { remainingMs } from "./wait.ts";

export interface BodyOptions {
  /** Declared length in bytes as it travels, or undefined. */
  readonly length: number | undefined;
  readonly idleTimeoutMs: number;
  /** Named in errors: origin and path. */
  readonly what: string;
  /** Turns what reading threw into what the reader shall see. */
  readonly translate: (cause: unknown) => unknown;
  /** Told when the reader wants a chunk; must not throw. */
  readonly wanted?: () => void;
  /** Told of each chunk; must not throw. */
  readonly received?: (bytes: number) => void;
  /** Called once, when nothing more will be read; `"broken"` when the connection must go. */
  readonly ended: (how: "complete" | "broken") => void;
}

/** Wraps a body. It reads ahead nothing: a chunk is taken when one is asked for. */
export function watchBody(source: ReadableStream<Uint8Array>, options: BodyOptions): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  let received = 0;
  let waitingSince: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failIdle: ((error: UpstreamError) => void) | undefined;

  function end(how: "complete" | "broken"): void {
    clearTimeout(timer);
    timer = undefined;
    options.ended(how);
  }

  /** One timer runs at a time and is set anew only when it fires: it looks how long the present read has waited. */
  function checkIdle(): void {
    timer = undefined;
    if (waitingSince === undefined) return;
    const leftMs = options.idleTimeoutMs - (performance.now() - waitingSince);
    if (leftMs > 0) timer = setTimeout(checkIdle, leftMs);
    else failIdle?.(new UpstreamError("timeout", `${options.what}: no byte within ${options.idleTimeoutMs} ms`));
  }

  function fail(controller: ReadableStreamDefaultController<Uint8Array>, error: unknown): void {
    if (waitingSince === undefined) return;
    waitingSince = undefined;
    controller.error(error);
    end("broken");
  }

  function take(controller: ReadableStreamDefaultController<Uint8Array>, value: Uint8Array | undefined): void {
    // Undefined: the idle timer was first, or the reader left.
    if (waitingSince === undefined) return;
    const bytes = value?.byteLength ?? 0;
    received += bytes;
    options.received?.(bytes);
    const { length } = options;
    const isOff = length !== undefined && (value === undefined ? received !== length : received > length);
    if (isOff)
      return fail(
        controller,
        new UpstreamError("bad-answer", `${options.what}: expected ${length} bytes, got ${received}`),
      );
    waitingSince = undefined;
    if (value !== undefined) return controller.enqueue(value);
    controller.close();
    end("complete");
  }

  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        waitingSince = performance.now();
        options.wanted?.();
        failIdle = (error) => fail(controller, error);
        timer ??= setTimeout(checkIdle, options.idleTimeoutMs);
        return reader.read().then(
          ({ value }) => take(controller, value),
          (cause) => fail(controller, options.translate(cause)),
        );
      },
      async cancel(reason) {
        waitingSince = undefined;
        // First the reader, then the connection: what was cut already cannot be cancelled in peace. It may have failed by
        // itself meanwhile, which matters to nobody any more.
        await reader.cancel(reason).catch(() => undefined);
        end("broken");
      },
    },
    { highWaterMark: 0 },
  );
}

/** A body that is not wanted: read to its end when that is near, so that the connection stays usable, else cancelled. */
export async function discardBody(body: ReadableStream<Uint8Array> | null): Promise<void> {
  if (body === null) return;
  try {
    await readBody(body, { maxBytes: MAX_DISCARDED_BYTES, deadlineMs: performance.now() + MAX_DISCARD_MS });
  } catch {
    // Nobody wanted it: too long, too slow or broken, the connection is gone and that is all.
  }
}

/** Error pages and redirect notes are a few hundred bytes; more costs longer than a new connection, and so does waiting. */
const MAX_DISCARDED_BYTES = 64 * 1024;
const MAX_DISCARD_MS = 200;

/** The body is what it is: asking for it again would bring the same. */
export class TooLong extends UpstreamError {}

export interface ReadLimits {
  readonly maxBytes: number;
  /** Moment on the `performance.now()` clock. */
  readonly deadlineMs: number;
}

/**
 * Reads a whole body.
 * @throws TooLong when it is longer than `maxBytes`; UpstreamError `bad-answer` when it broke, `timeout` at the deadline. It was cancelled then
 */
export async function readBody(
  body: ReadableStream<Uint8Array>,
  { maxBytes, deadlineMs }: ReadLimits,
): Promise<Uint8Array> {
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  let failure: UpstreamError | undefined;
  const giveUp = (error: UpstreamError) => {
    failure = error;
    // A pending read then says "done". That cancelling failed as well changes nothing.
    reader.cancel(error).catch(() => undefined);
  };
  const timer = setTimeout(
    () => giveUp(new UpstreamError("timeout", "the body did not end in time")),
    remainingMs(deadlineMs),
  );
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (failure !== undefined) throw failure;
      if (done) return Buffer.concat(chunks, length);
      length += value.byteLength;
      chunks.push(value);
      if (length > maxBytes) giveUp(new TooLong("bad-answer", `expected at most ${maxBytes} bytes, got more`));
    }
  } finally {
    clearTimeout(timer);
  }
}
