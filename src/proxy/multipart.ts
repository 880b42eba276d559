/**
 * Several ranges in one answer, `multipart/byteranges` (RFC 9110 section 14.6): lazy pullers read images so. The length is
 * exact, as for every body whose length is known.
 */
import { randomBytes } from "node:crypto";
import type { HeaderLine } from "../errors.ts";
import { type ByteRange, formatContentRange } from "../registry/range.ts";
import type { Reply } from "./exchange.ts";

export interface MultipartParts {
  readonly lines: readonly HeaderLine[];
  /** A stream of the range; undefined when the content is gone. */
  open(range: ByteRange): Promise<ReadableStream<Uint8Array> | undefined>;
}

/** The 206 with all ranges, in the order asked. */
export function multipart(ranges: readonly ByteRange[], totalBytes: number, { lines, open }: MultipartParts): Reply {
  const boundary = randomBytes(16).toString("hex"); // podman's reader takes letters, digits, - and : (protocol R269)
  const encoder = new TextEncoder();
  const heads = ranges.map((range) =>
    encoder.encode(
      `\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: ${formatContentRange(range, totalBytes)}\r\n\r\n`,
    ),
  );
  const tail = encoder.encode(`\r\n--${boundary}--\r\n`);
  const length =
    ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0) +
    heads.reduce((sum, head) => sum + head.byteLength, 0);
  const headers: HeaderLine[] = [
    ["Content-Type", `multipart/byteranges; boundary=${boundary}`],
    ["Content-Length", String(length + tail.byteLength)],
    ...lines,
  ];
  return { status: 206, headers, body: joined(ranges, { heads, tail, open }) };
}

interface Pieces {
  readonly heads: readonly Uint8Array[];
  readonly tail: Uint8Array;
  open(range: ByteRange): Promise<ReadableStream<Uint8Array> | undefined>;
}

/** One range open at a time. */
function joined(ranges: readonly ByteRange[], { heads, tail, open }: Pieces): ReadableStream<Uint8Array> {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (const [index, range] of ranges.entries()) {
      const head = heads[index];
      if (head !== undefined) yield head;
      const stream = await open(range);
      if (stream === undefined) throw new Error("cached content is gone");
      for await (const piece of stream) yield piece;
    }
    yield tail;
  }
  const source = pieces();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void (await source.return(undefined)),
    },
    { highWaterMark: 0 },
  );
}
