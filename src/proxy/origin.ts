/**
 * Where the client believes it is: scheme, host and its own address, seen through the reverse proxies we are told to
 * trust. Every absolute URL we emit is built from this and from nothing else, so that a forged header from a stranger
 * changes nothing (protocol R119, R229, R231).
 */
import ipaddr from "ipaddr.js";
import { type Host, parseHost } from "../registry/host.ts";
import type { Exchange } from "./exchange.ts";
import { createPeerRanges } from "./peer-ranges.ts";

export interface OriginOptions {
  /** Scheme, port and, unless the request's host is under the suffix, host of every URL we emit. */
  readonly publicUrl: string | undefined;
  readonly domainSuffix: string | undefined;
  /** CIDRs, and the word `unix` for unix sockets. */
  readonly trustedProxies: readonly string[];
  /** Emit http URLs in any case: the debug mode of an older tool. */
  readonly forceHttp: boolean;
}

export interface Origin {
  readonly secure: boolean;
  /** The host the client asked for; routing goes by it. */
  readonly host: Host | undefined;
  /** `"https://reg.example:8443"`, no slash at the end. */
  readonly base: string;
  /** The client's address, for the log and for limits. */
  readonly client: string;
}

export type OriginReader = (exchange: Exchange) => Origin;

export function createOriginReader(options: OriginOptions): OriginReader {
  const isTrusted = createPeerRanges(options.trustedProxies);
  const publicUrl = options.publicUrl === undefined ? undefined : new URL(options.publicUrl);

  return function originOf(exchange) {
    const seen = isTrusted(exchange.peer) ? forwarded(exchange.headers, isTrusted) : {};
    const host = seen.host ?? exchange.host;
    const secure = seen.secure ?? exchange.secure;
    const client = seen.client ?? exchange.peer;
    return { secure, host, client, base: baseUrl(host, secure, publicUrl, options) };
  };
}

interface Forwarded {
  client?: string;
  secure?: boolean;
  host?: Host;
}

/** RFC 7239 `Forwarded` when present, else the `X-Forwarded-*` family. */
function forwarded(headers: Headers, isTrusted: (address: string) => boolean): Forwarded {
  const standard = headers.get("forwarded");
  if (standard !== null) return fromForwarded(standard, isTrusted);
  return fromXForwarded(headers, isTrusted);
}

/** Walks from the nearest proxy outwards: the rightmost element that is not one of ours is the client. */
function fromForwarded(value: string, isTrusted: (address: string) => boolean): Forwarded {
  const elements = value.split(",").map(parseForwardedElement);
  let chosen: Map<string, string> | undefined;
  for (const element of elements.reverse()) {
    chosen = element;
    if (!isTrusted(bareAddress(element.get("for") ?? ""))) break;
  }
  if (chosen === undefined) return {};
  return facts(bareAddress(chosen.get("for") ?? ""), chosen.get("proto"), chosen.get("host"));
}

function parseForwardedElement(text: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const part of text.split(";")) {
    const at = part.indexOf("=");
    if (at < 0) continue;
    const raw = part.slice(at + 1).trim();
    pairs.set(part.slice(0, at).trim().toLowerCase(), raw.startsWith('"') ? raw.slice(1, -1) : raw);
  }
  return pairs;
}

/** Each proxy appends to the lists, so the entry our outermost proxy wrote stands as far from the right as there are hops. */
function fromXForwarded(headers: Headers, isTrusted: (address: string) => boolean): Forwarded {
  const addresses = list(headers.get("x-forwarded-for")).map(bareAddress);
  let hops = 1;
  while (hops < addresses.length && isTrusted(addresses[addresses.length - hops] ?? "")) hops += 1;
  const entry = (values: string[]) => values[Math.max(0, values.length - hops)];
  return facts(
    entry(addresses),
    entry(list(headers.get("x-forwarded-proto"))),
    entry(list(headers.get("x-forwarded-host"))),
  );
}

function facts(client: string | undefined, proto: string | undefined, host: string | undefined): Forwarded {
  const result: Forwarded = {};
  if (client !== undefined && ipaddr.isValid(client)) result.client = client;
  if (proto === "https" || proto === "http") result.secure = proto === "https";
  const parsed = host === undefined ? undefined : parseHost(host);
  if (parsed !== undefined) result.host = parsed;
  return result;
}

function list(value: string | null): string[] {
  return value === null ? [] : value.split(",").map((entry) => entry.trim());
}

/** `"[2001:db8::1]:4711"` → `"2001:db8::1"`, `"192.0.2.1:80"` → `"192.0.2.1"`. */
function bareAddress(text: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(text);
  if (bracketed?.[1] !== undefined) return bracketed[1];
  return text.split(":").length === 2 ? text.slice(0, text.indexOf(":")) : text;
}

function baseUrl(host: Host | undefined, secure: boolean, publicUrl: URL | undefined, options: OriginOptions): string {
  if (publicUrl === undefined) {
    return `${secure && !options.forceHttp ? "https" : "http"}://${host?.text ?? "localhost"}`;
  }
  const isOwn = host !== undefined && options.domainSuffix !== undefined && isUnder(host.name, options.domainSuffix);
  const name = isOwn ? host.name : publicUrl.hostname;
  return `${publicUrl.protocol}//${name}${publicUrl.port === "" ? "" : `:${publicUrl.port}`}`;
}

function isUnder(name: string, suffix: string): boolean {
  return name === suffix || name.endsWith(`.${suffix}`);
}
