/**
 * Content-Encoding, undone. We never ask for an encoding (protocol R224), but some front ends compress JSON anyway, and a
 * digest is over what is inside (protocol R225). Layers' own gzip is a media type, not an encoding, and stays (protocol R226).
 */
import { UpstreamError } from "../errors.ts";

type Decoder = "gzip" | "deflate" | "brotli" | "zstd";

/** `aws-chunked` is a mark that S3 uploads leave behind: the bytes are plain. */
const PLAIN = new Set(["", "identity", "aws-chunked"]);

const DECODERS = new Map<string, Decoder>([
  ["gzip", "gzip"],
  ["x-gzip", "gzip"],
  ["deflate", "deflate"],
  ["br", "brotli"],
  ["zstd", "zstd"],
]);

/** Nobody compresses three times in good faith. */
const MAX_ENCODINGS = 2;

/**
 * What must be undone, outermost first; empty for plain content.
 * @throws UpstreamError `bad-answer` for an encoding we cannot undo
 */
export function parseEncodings(header: string | null, what: string): Decoder[] {
  const names = (header ?? "")
    .toLowerCase()
    .split(",")
    .map((name) => name.trim());
  const encodings = names.filter((name) => !PLAIN.has(name));
  const decoders = encodings.map((name) => DECODERS.get(name)).filter((decoder) => decoder !== undefined);
  if (decoders.length === encodings.length && decoders.length <= MAX_ENCODINGS) return decoders.reverse();
  throw new UpstreamError(
    "bad-answer",
    `${what}: expected plain content, got content-encoding ${encodings.join(", ").slice(0, 100)}`,
  );
}

/** The decoded bytes. An error of the source comes through as it is; content that cannot be decoded is a `bad-answer`. */
export function decodeBody(
  body: ReadableStream<Uint8Array>,
  decoders: readonly Decoder[],
  what: string,
): ReadableStream<Uint8Array> {
  let decoded = body;
  // DOM and Node declare the same stream with different element types.
  for (const decoder of decoders)
    decoded = decoded.pipeThrough(new DecompressionStream(decoder) as ReadableWritablePair<Uint8Array, Uint8Array>);
  const reader = decoded.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (cause) {
          const error =
            cause instanceof TypeError ? new UpstreamError("bad-answer", `${what}: content cannot be decoded`) : cause;
          controller.error(error);
        }
      },
      // What was read ahead may be no such encoding: that matters to nobody any more.
      cancel: (reason) => reader.cancel(reason).catch(() => undefined),
    },
    { highWaterMark: 0 },
  );
}
