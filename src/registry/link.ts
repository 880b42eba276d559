/**
 * The Link header with which registries page their lists: `</v2/a/tags/list?last=b&n=2>; rel="next"` (RFC 8288 section 3,
 * protocol R51). The target is handed over as it was written, relative or absolute; resolving it and mapping it back to
 * our own address is left to the caller.
 */
import { BLANKS, type Cursor, createCursor, TOKEN } from "./cursor.ts";

/** Lists come with one link; a longer header is not read. */
const MAX_HEADER_LENGTH = 64 * 1024;

const TARGET = /<[^<>]*>/y;
const SEMICOLON = /[ \t]*;[ \t]*/y;
const EQUALS = /=[ \t]*/y;

/**
 * The target of the first link whose relation is `next`, from one header value or several lines joined by `, `. Never throws.
 * @returns undefined when there is none
 */
export function parseNextLink(headerValue: string | null | undefined): string | undefined {
  if (headerValue === null || headerValue === undefined || headerValue.length > MAX_HEADER_LENGTH) return undefined;
  const cursor = createCursor(headerValue);
  while (!cursor.atEnd()) {
    cursor.skipSeparators();
    const target = cursor.take(TARGET);
    if (target === undefined) cursor.skipJunk();
    else if (isNext(readRelation(cursor))) return target.slice(1, -1);
  }
  return undefined;
}

/** The value of a Link header that leads to the next page. What would end the target early is percent-encoded. */
export function formatNextLink(target: string): string {
  return `<${target.replace(/[\p{Cc} "<>\\]/gu, encodeURIComponent)}>; rel="next"`;
}

/** The value of the first `rel` behind a target: a second one does not count (RFC 8288 section 3.3). */
function readRelation(cursor: Cursor): string | undefined {
  let relation: string | undefined;
  while (cursor.take(SEMICOLON) !== undefined) {
    const name = cursor.take(TOKEN)?.toLowerCase();
    cursor.take(BLANKS);
    const value = cursor.take(EQUALS) === undefined ? undefined : cursor.takeValue();
    if (name === "rel") relation ??= value;
  }
  return relation;
}

/** A `rel` may hold several relations. */
function isNext(relation: string | undefined): boolean {
  return (relation ?? "")
    .toLowerCase()
    .split(/[ \t]+/)
    .includes("next");
}
