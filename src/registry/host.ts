/**
 * A Host is what may stand in the Host header, in `ns` and in front of a name: a domain name or a bracketed IPv6 address,
 * with an optional port (protocol R17, R256). Everything else is refused here, once, so that no path, query, userinfo or
 * zone can ever be smuggled in behind a host (protocol R109).
 */

export interface Host {
  /** Lower case, brackets kept: `"ghcr.io"`, `"[::1]"`. */
  readonly name: string;
  /** 1 to 65535, or undefined when none was written. */
  readonly port: number | undefined;
  /** `name`, or `name:port`. */
  readonly text: string;
}

/** The longest domain name (RFC 1035, section 2.3.4) is 253 characters as text. */
const MAX_NAME_LENGTH = 253;
/** A longer label is no DNS label. */
const MAX_LABEL_LENGTH = 63;

const LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;
const PORT = /^[0-9]{1,5}$/;
const IPV6_GROUP = /^[0-9a-f]{1,4}$/;
const IPV6_GROUPS = 8;

/**
 * Reads a host, splitting the port at the colon behind the name or the closing bracket.
 * @returns undefined for anything outside the grammar: `a/b`, `a?b`, `u@a`, `[fe80::1%eth0]`, an empty text, port 0, a trailing dot
 */
export function parseHost(text: string): Host | undefined {
  if (text.length > MAX_NAME_LENGTH + ":65535".length) return undefined;
  const nameEnd = text.startsWith("[") ? text.indexOf("]") + 1 : endOfName(text);
  const name = text.slice(0, nameEnd).toLowerCase();
  // Lower-casing can turn a non-ASCII letter (the Kelvin sign) into an ASCII one: what came must be ASCII already.
  if (!isAscii(text) || !(isDomainName(name) || isBracketedIpv6(name))) return undefined;
  if (nameEnd === text.length) return { name, port: undefined, text: name };
  const port = parsePort(text.slice(nameEnd));
  return port === undefined ? undefined : { name, port, text: `${name}:${port}` };
}

/**
 * True when the host is an address rather than a name. Decimal, hexadecimal and shortened IPv4 (`2130706433`, `0x7f.1`)
 * count: a URL parser would turn each into an address, because the last label is a number (WHATWG URL, "ends in a number").
 */
export function isIpLiteral(host: Host): boolean {
  if (host.name.startsWith("[")) return true;
  const last = host.name.slice(host.name.lastIndexOf(".") + 1);
  return /^(?:[0-9]+|0x[0-9a-f]*)$/.test(last);
}

function endOfName(text: string): number {
  const colon = text.indexOf(":");
  return colon === -1 ? text.length : colon;
}

function isAscii(text: string): boolean {
  return /^[\x21-\x7e]*$/.test(text);
}

function isDomainName(name: string): boolean {
  if (name.length > MAX_NAME_LENGTH) return false;
  return name.split(".").every((label) => label.length <= MAX_LABEL_LENGTH && LABEL.test(label));
}

/** `[::1]`, `[2001:db8::7]`: hex groups only, as the grammar has neither zones nor embedded IPv4. */
function isBracketedIpv6(name: string): boolean {
  if (!name.startsWith("[") || !name.endsWith("]")) return false;
  const [head = "", tail, ...more] = name.slice(1, -1).split("::");
  const groups = [...groupsOf(head), ...groupsOf(tail ?? "")];
  if (more.length > 0 || !groups.every((group) => IPV6_GROUP.test(group))) return false;
  return tail === undefined ? groups.length === IPV6_GROUPS : groups.length < IPV6_GROUPS;
}

function groupsOf(text: string): string[] {
  return text === "" ? [] : text.split(":");
}

function parsePort(text: string): number | undefined {
  const digits = text.slice(1);
  if (!text.startsWith(":") || !PORT.test(digits)) return undefined;
  const port = Number(digits);
  return port >= 1 && port <= 65535 ? port : undefined;
}
