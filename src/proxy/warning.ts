/**
 * Upstream warnings, `299 - "text"` (protocol R37). Several header lines arrive joined by commas and must leave as lines
 * of their own, because containerd reads one warning per line.
 */

/** Clients may stop reading after this many bytes of warnings in one answer (protocol R37). */
const MAX_BYTES = 4096;

const WARNING = /299 - "(?:[^"\\]|\\.)*"/y;

/** Each warning in the joined header value, in the form clients parse; anything else in it is dropped. */
export function parseWarnings(joined: string): string[] {
  const warnings: string[] = [];
  let bytes = 0;
  let at = 0;
  while (at < joined.length) {
    WARNING.lastIndex = at;
    const found = WARNING.exec(joined)?.[0];
    if (found === undefined) {
      at += 1;
      continue;
    }
    at += found.length;
    bytes += found.length;
    if (bytes > MAX_BYTES) return warnings;
    warnings.push(found);
  }
  return warnings;
}
