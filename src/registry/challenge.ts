/**
 * WWW-Authenticate, read and written (RFC 9110 section 11; protocol R92, R281).
 *
 *     challenges = [ challenge *( OWS "," OWS challenge ) ]
 *     challenge  = auth-scheme [ 1*SP ( token68 / auth-param *( OWS "," OWS auth-param ) ) ]
 *     auth-param = token BWS "=" BWS ( token / quoted-string )
 *
 * One comma separates parameters as well as challenges, and quoted scopes hold commas of their own
 * (`scope="repository:a/b:pull,push"`), so the value is read character by character and never split.
 */
import { BLANKS, type Cursor, createCursor, TOKEN } from "./cursor.ts";

export interface Challenge {
  /** Lower case: `"bearer"`, `"basic"`. */
  readonly scheme: string;
  /** Names in lower case; where a name is repeated, its first value. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The opaque text of schemes such as Negotiate. */
  readonly token68?: string;
}

export interface BearerChallenge {
  /** Absolute URL of the token service. */
  readonly realm: string;
  readonly service: string;
  /** One or more resource scopes, separated by spaces. */
  readonly scope?: string | undefined;
  readonly error?: "invalid_token" | "insufficient_scope" | undefined;
}

/** A longer header is hostile; it is not read at all, because the piece at the cut could be taken for a whole value. */
const MAX_HEADER_LENGTH = 64 * 1024;
/** Registries send one or two, proxies before them as many again. */
const MAX_CHALLENGES = 32;

/**
 * Reads the challenges of one header value, or of several lines joined by `, ` (protocol R38). Never throws: what does not
 * fit the grammar is skipped, a quoted value without its closing quote is dropped.
 * @returns the challenges in their order; none when the value is longer than 64 KiB
 */
export function parseChallenges(headerValue: string): Challenge[] {
  const challenges: OpenChallenge[] = [];
  if (headerValue.length > MAX_HEADER_LENGTH) return challenges;
  const cursor = createCursor(headerValue);
  while (!cursor.atEnd() && challenges.length < MAX_CHALLENGES) {
    const startsElement = cursor.skipSeparators();
    readElement(cursor, challenges, startsElement);
  }
  return challenges;
}

/** One `Bearer` line with every value quoted, since some clients read only quoted values (protocol R90, R121). */
export function formatBearerChallenge(challenge: BearerChallenge): string {
  const parameters = [`realm=${quote(challenge.realm)}`, `service=${quote(challenge.service)}`];
  if (challenge.scope !== undefined) parameters.push(`scope=${quote(challenge.scope)}`);
  if (challenge.error !== undefined) parameters.push(`error=${quote(challenge.error)}`);
  return `Bearer ${parameters.join(",")}`;
}

/** One `Basic` line: `Basic realm="…"`. */
export function formatBasicChallenge(realm: string): string {
  return `Basic realm=${quote(realm)}`;
}

interface OpenChallenge {
  readonly scheme: string;
  readonly parameters: Map<string, string>;
  token68?: string;
}

/** Reads one parameter or the beginning of one challenge, or steps over what is neither. */
function readElement(cursor: Cursor, challenges: OpenChallenge[], startsElement: boolean): void {
  const word = cursor.take(TOKEN);
  if (word === undefined) return cursor.skipJunk();
  cursor.take(BLANKS);
  if (cursor.take(EQUALS) !== undefined) return addParameter(challenges.at(-1), word.toLowerCase(), cursor.takeValue());
  // A scheme stands at the beginning or behind a comma; a word elsewhere is the rest of something malformed.
  if (!startsElement) return;
  const challenge: OpenChallenge = { scheme: word.toLowerCase(), parameters: new Map() };
  const token68 = cursor.take(TOKEN68);
  if (token68 !== undefined) challenge.token68 = token68;
  challenges.push(challenge);
}

function addParameter(challenge: OpenChallenge | undefined, name: string, value: string | undefined): void {
  if (challenge === undefined || value === undefined || challenge.parameters.has(name)) return;
  challenge.parameters.set(name, value);
}

const EQUALS = /=[ \t]*/y;
/** Only where nothing but a comma or the end follows: `abc==` is a token68, `realm="x"` is not. */
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;

/** Control characters cannot stand in a header (RFC 9110 section 5.5) and mean nothing in these values. */
function quote(value: string): string {
  return `"${value.replace(/\p{Cc}/gu, "").replace(/["\\]/g, "\\$&")}"`;
}
