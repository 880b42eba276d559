/**
 * The replies for a blob whose length is known: whole, a part, or a range that lies outside it.
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import type { Digest } from "../registry/digest.ts";
import { type ByteRange, formatContentRange, parseRange } from "../registry/range.ts";
import type { RegistryRequest } from "./access.ts";
import type { Reply, ReplyBody } from "./exchange.ts";
import { etagOf } from "./headers.ts";

/** What the request asks of so many bytes; HEAD has no ranges. */
export function rangesOf({ exchange }: RegistryRequest, digest: Digest, totalBytes: number) {
  const ifRange = exchange.headers.get("if-range");
  const isWhole = exchange.method === "HEAD" || (ifRange !== null && ifRange.trim() !== etagOf(digest.text));
  return parseRange(isWhole ? null : exchange.headers.get("range"), totalBytes);
}

export function typed(lines: readonly HeaderLine[]): HeaderLine[] {
  return [["Content-Type", "application/octet-stream"], ...lines];
}

export function whole(bytes: number, lines: readonly HeaderLine[], body: ReplyBody): Reply {
  return { status: 200, headers: [...typed(lines), ["Content-Length", String(bytes)]], body };
}

export function part(
  range: ByteRange,
  totalBytes: number,
  { lines, body }: { lines: readonly HeaderLine[]; body: ReplyBody },
): Reply {
  const headers: HeaderLine[] = [
    ...typed(lines),
    ["Content-Range", formatContentRange(range, totalBytes)],
    ["Content-Length", String(range.last - range.first + 1)],
  ];
  return { status: 206, headers, body };
}

/** Says how long the content is. */
export function unsatisfiable(totalBytes: number): RegistryError {
  return new RegistryError("RANGE_INVALID", "the range lies outside the content", {
    headers: [["Content-Range", `bytes */${totalBytes}`]],
  });
}
