/**
 * A Cursor reads a header value from left to right, one lexical element at a time (RFC 9110 section 5.6). It exists because
 * commas stand in quoted texts and in targets as well as between elements, so that splitting is wrong, and because one
 * large expression for a whole header can be made to run for ever by a hostile server. Each step here is linear and moves on.
 */

export interface Cursor {
  atEnd(): boolean;
  /** The text that matches the sticky expression here, stepped over; undefined, without moving, when nothing matches. */
  take(expression: RegExp): string | undefined;
  /** Steps over blanks and commas: true when there was a comma among them, or nothing came before. */
  skipSeparators(): boolean;
  /** A quoted text without its quotes and escapes, or an unquoted one; undefined when there is none or no closing quote. */
  takeValue(): string | undefined;
  /** Steps over what fits nowhere: a quoted text as a whole, else one character. */
  skipJunk(): void;
}

// All are sticky: each matches only where the cursor stands.
export const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
export const BLANKS = /[ \t]+/y;
const SEPARATORS = /[ \t,]+/y;
const QUOTED = /"(?:[^"\\]|\\[^])*"/y;
const UNTERMINATED = /"[^]*/y;
/** More than a token: registries send URLs without quotes. */
const UNQUOTED = /[^",; \t]+/y;

export function createCursor(text: string): Cursor {
  let position = 0;

  function take(expression: RegExp): string | undefined {
    expression.lastIndex = position;
    const match = expression.exec(text)?.[0];
    position += match?.length ?? 0;
    return match;
  }

  function skipSeparators(): boolean {
    const isFirst = position === 0;
    return (take(SEPARATORS)?.includes(",") ?? false) || isFirst;
  }

  function takeValue(): string | undefined {
    const quoted = take(QUOTED);
    if (quoted !== undefined) return quoted.slice(1, -1).replace(/\\([^])/g, "$1");
    return take(UNTERMINATED) === undefined ? take(UNQUOTED) : undefined;
  }

  function skipJunk(): void {
    if (take(QUOTED) === undefined && take(UNTERMINATED) === undefined) position += 1;
  }

  return { atEnd: () => position >= text.length, take, skipSeparators, takeValue, skipJunk };
}
