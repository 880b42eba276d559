/**
 * The small notations of the configuration: sizes, times (ours and nginx's), listen addresses and address ranges.
 * Each parser throws an Error that says what was expected and what came; where it came from is the caller's to add.
 */
import { isIP, isIPv6 } from "node:net";
import ipaddr from "ipaddr.js";
import type { ListenAddress, TcpAddress } from "./settings.ts";

const SIZE_UNITS: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
const TIME_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** nginx: months of 30 days, years of 365. */
const NGINX_UNITS_MS: Readonly<Record<string, number>> = {
  ...TIME_UNITS_MS,
  "": 1000,
  w: 7 * 86_400_000,
  M: 30 * 86_400_000,
  y: 365 * 86_400_000,
};

/** `"32g"` → bytes; units k m g t of 1024, no unit for bytes, upper or lower case. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt]?)$/i.exec(text);
  const bytes = Math.floor(Number(match?.[1]) * (SIZE_UNITS[match?.[2]?.toLowerCase() ?? ""] ?? NaN));
  if (!Number.isSafeInteger(bytes)) throw new Error(`expected a size such as 512m, 32g or 1t, got ${quoted(text)}`);
  return bytes;
}

/** `"10m"`, `"1h30m"`, `"250ms"`, `"0"` → milliseconds; units ms s m h d. A number without a unit is refused: nobody knows which was meant. */
export function parseTime(text: string): number {
  const wrong = `expected a time such as 30s, 10m or 1h30m, got ${quoted(text)}`;
  if (text === "0") return 0;
  if (/^\d+$/.test(text)) throw new Error(`${wrong}; write ${text}s for seconds`);
  return known(sumOfParts(text, { part: /(\d+(?:\.\d+)?)(ms|[smhd])/y, unitsMs: TIME_UNITS_MS }), wrong);
}

/** nginx's notation: `"60"` is seconds, `"1m 30s"`, `"1d12h"`, also w, M and y → milliseconds. */
export function parseNginxTime(text: string): number {
  const wrong = `expected an nginx time such as 60, 30s or 1d12h, got ${quoted(text)}`;
  return known(sumOfParts(text.trim(), { part: /(\d+)(ms|[smhdwMy]|$)\s*/y, unitsMs: NGINX_UNITS_MS }), wrong);
}

/** Milliseconds as our notation, with the largest unit that leaves no rest: `600000` → `"10m"`. */
export function formatTime(ms: number): string {
  if (ms === 0) return "0";
  const [unit, size] = Object.entries(TIME_UNITS_MS).findLast(([, unitMs]) => ms % unitMs === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

interface TimeNotation {
  /** Sticky; first group the number, second the unit. */
  readonly part: RegExp;
  readonly unitsMs: Readonly<Record<string, number>>;
}

function sumOfParts(text: string, { part, unitsMs }: TimeNotation): number {
  let sumMs = 0;
  let end = 0;
  while (end < text.length) {
    part.lastIndex = end;
    const match = part.exec(text);
    if (match === null) return NaN;
    sumMs += Number(match[1]) * (unitsMs[match[2] ?? ""] ?? NaN);
    end = part.lastIndex;
  }
  return end === 0 ? NaN : Math.round(sumMs);
}

function known(ms: number, wrong: string): number {
  if (!Number.isSafeInteger(ms)) throw new Error(wrong);
  return ms;
}

/** `":5000"` (all addresses, dual-stack), `"127.0.0.1:5000"`, `"[::1]:5000"`, `"localhost:0"`, `"unix:/run/layover.sock"`. */
export function parseListen(text: string): ListenAddress {
  if (!text.startsWith("unix:")) return parseTcpAddress(text);
  const path = text.slice("unix:".length);
  // 107 bytes is what the kernel's address structure holds.
  if (path === "" || path.includes("\0") || Buffer.byteLength(path) > 107) {
    throw new Error(`expected unix: and a path of 1 to 107 bytes, got ${quoted(text)}`);
  }
  return { kind: "unix", path };
}

/** As `parseListen`, without unix sockets. */
export function parseTcpAddress(text: string): TcpAddress {
  const wrong = `expected an address such as :5000, 127.0.0.1:5000 or [::1]:5000, got ${quoted(text)}`;
  if (/^\d{1,4}$/.test(text)) throw new Error(`${wrong}; write :${text}`);
  if (isIPv6(text)) throw new Error(`${wrong}; write [${text}]:5000`);
  const match = /^(?:\[([^\]]+)\]|([^:[\]/\s]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new Error(wrong);
  const [, bracketed, plain] = match;
  if (bracketed !== undefined && !isIPv6(bracketed)) throw new Error(wrong);
  if (plain !== undefined && /^[\d.]+$/.test(plain) && isIP(plain) !== 4) throw new Error(wrong);
  const host = bracketed ?? plain;
  return {
    kind: "tcp",
    host: host === undefined || host === "" || host === "*" ? undefined : host.toLowerCase(),
    port,
  };
}

/** `"10.0.0.53"`, `"10.0.0.53:5353"`, `"fd00::53"`, `"[fd00::53]:53"` → address and port, which is 53 unless told. */
export function parseResolver(text: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?$/.exec(text);
  const address = isIPv6(text) ? text : (match?.[1] ?? match?.[2] ?? "");
  const port = Number(isIPv6(text) ? 53 : (match?.[3] ?? 53));
  const isAddress = match?.[1] === undefined || isIPv6(match[1]);
  if (isIP(address) === 0 || !isAddress || address.includes("%") || port < 1 || port > 65_535)
    throw new Error(
      `expected the address of a DNS server such as 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53, got ${quoted(text)}`,
    );
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The notation `parseListen` reads. */
export function formatListen(address: ListenAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  const host = address.host ?? "";
  return `${isIPv6(host) ? `[${host}]` : host}:${address.port}`;
}

/** One range or address → normal form: `"10.0.0.0/8"`, `"192.0.2.7"` → `"192.0.2.7/32"`, `"2001:DB8::/32"` → `"2001:db8::/32"`. */
export function parseCidr(text: string): string {
  const [address = "", length, ...rest] = text.split("/");
  // ipaddr.js also reads octal and two-part addresses, which other programs read differently: only the plain form passes.
  const bits = address.includes("%") ? 0 : { 0: 0, 4: 32, 6: 128 }[isIP(address)];
  const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : NaN;
  if (!bits || prefix === undefined || !(prefix <= bits) || rest.length > 0) {
    throw new Error(`expected an address range such as 10.0.0.0/8 or 2001:db8::/32, got ${quoted(text)}`);
  }
  return `${ipaddr.parse(address).toString()}/${prefix}`;
}

/** As `parseCidr`, or the word `unix` for peers on our unix sockets. */
export function parsePeerRange(text: string): string {
  if (text === "unix") return text;
  try {
    return parseCidr(text);
  } catch (error) {
    // Adds the word that is allowed here and nowhere else.
    throw new Error(`expected an address range such as 10.0.0.0/8, or unix, got ${quoted(text)}`, { cause: error });
  }
}

/** A value inside an error message: in quotes, cut short. */
export function quoted(text: string): string {
  return text === "" ? "nothing" : JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
