/**
 * Headers that belong to one connection and never pass on, in either direction (RFC 9110 section 7.6.1, protocol R219).
 */
import type { HeaderLine } from "../errors.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** The lines that may be passed on: neither hop-by-hop by name nor named by a Connection line. */
export function endToEndLines(lines: readonly HeaderLine[]): HeaderLine[] {
  const connection = lines.filter(([name]) => name.toLowerCase() === "connection").map(([, value]) => value);
  const named = namesIn(connection.join(","));
  return lines.filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()) && !named.has(name.toLowerCase()));
}

/** A copy without hop-by-hop headers. Content-Length goes too where Transfer-Encoding overruled it (RFC 9112 section 6.3). */
export function endToEndHeaders(headers: Headers): Headers {
  const kept = new Headers(headers);
  if (headers.has("transfer-encoding")) kept.delete("content-length");
  for (const name of [...HOP_BY_HOP, ...namesIn(headers.get("connection") ?? "")]) kept.delete(name);
  return kept;
}

function namesIn(connection: string): Set<string> {
  const names = connection
    .toLowerCase()
    .split(",")
    .map((name) => name.trim());
  return new Set(names.filter((name) => /^[!#$%&'*+.^_`|~\da-z-]+$/.test(name)));
}
