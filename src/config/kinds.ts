/**
 * The kinds of values an option can have: how one is written, how its text is read, and what an editor may check.
 * Text is the one form between flag, environment, file and default, so that all four mean the same.
 */
import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { type RequestRate, parseRequestRate } from "../registry/request-rate.ts";
import { MAX_RESOLVERS } from "../upstream/resolver.ts";
import type { ListenAddress, MapLocation, TcpAddress } from "./settings.ts";
import {
  formatTime,
  parseListen,
  parsePeerRange,
  parseResolver,
  parseSize,
  parseTcpAddress,
  parseTime,
  quoted,
} from "./units.ts";

export interface Kind<T> {
  /** Stands for the value in help: `"TIME"`. Empty for a switch. */
  readonly placeholder: string;
  /** True when several values may be given: repeated flags, an array in the file, or separated by commas or spaces. */
  readonly isList: boolean;
  /** JSON schema of the value in a configuration file. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** @throws Error that says what was expected and what came, without userinfo of URLs */
  parse(text: string): T;
}

/** Timers of the runtime hold 31 bits of milliseconds; a longer one would fire at once. */
export const MAX_TIMER_MS = 24 * 86_400_000;
/** For ages, which no timer waits for. */
export const MAX_AGE_MS = 100 * 365 * 86_400_000;
const YES = ["true", "yes", "on", "1"];
const NO = ["false", "no", "off", "0"];
const PROXY_SCHEMES = ["http:", "https:", "socks5:", "socks5h:"];

export const SWITCH: Kind<boolean> = {
  placeholder: "",
  isList: false,
  schema: { type: "boolean" },
  parse: parseSwitch,
};
export const LISTEN: Kind<readonly [ListenAddress, ...ListenAddress[]]> = list("ADDRESS", parseListen);
export const PEER_RANGES: Kind<readonly [string, ...string[]]> = list("CIDR", parsePeerRange);
export const RESOLVERS: Kind<readonly [string, ...string[]]> = atMost(MAX_RESOLVERS, list("ADDRESS", parseResolver));
export const ADDRESS: Kind<TcpAddress> = text("ADDRESS", parseTcpAddress);
export const ONE_LISTEN: Kind<ListenAddress> = text("ADDRESS", parseListen);
export const FILE: Kind<string> = text("FILE", parsePath);
export const FOLDER: Kind<string> = text("FOLDER", parsePath);
export const DOMAIN: Kind<string> = text("DOMAIN", parseDomain);
export const ORIGIN: Kind<string> = text("URL", parseOrigin);
export const PROXY: Kind<string> = text("URL", parseProxyUrl);
export const MAP_LOCATION: Kind<MapLocation> = text("FILE|URL", parseMapLocation);
export const REGISTRY_NAME: Kind<string> = text("KEY|URL", parseRegistryName);

export const SIZE: Kind<number> = text("SIZE", parseSize);
export const RATE: Kind<RequestRate> = text("RATE", parseRate);
export const COUNT: Kind<number> = count(1);
export const COUNT_OR_ZERO: Kind<number> = count(0);

/** A time between two limits, in milliseconds. */
export function time(minMs: number, maxMs: number = MAX_TIMER_MS): Kind<number> {
  return text("TIME", (written) => {
    const ms = parseTime(written);
    if (ms >= minMs && ms <= maxMs) return ms;
    throw new Error(`expected a time from ${formatTime(minMs)} to ${formatTime(maxMs)}, got ${quoted(written)}`);
  });
}

function parseRate(written: string): RequestRate {
  const rate = parseRequestRate(written);
  if (rate === undefined) throw new Error(`expected requests over time such as 100/s or 600/m, got ${quoted(written)}`);
  return rate;
}

function count(min: number): Kind<number> {
  return text("COUNT", (written) => {
    if (/^(?:0|[1-9]\d{0,8})$/.test(written) && Number(written) >= min) return Number(written);
    throw new Error(`expected a number from ${min}, got ${quoted(written)}`);
  });
}

/** One of a few words, in any case. */
export function oneOf<const T extends string>(words: readonly T[]): Kind<T> {
  return {
    placeholder: words.join("|"),
    isList: false,
    schema: { enum: words },
    parse(written) {
      const word = words.find((candidate) => candidate === written.toLowerCase());
      if (word === undefined) throw new Error(`expected ${listed(words)}, got ${quoted(written)}`);
      return word;
    },
  };
}

/** `true`, `yes`, `on`, `1` and their opposites. */
export function parseSwitch(written: string): boolean {
  const isYes = YES.includes(written.toLowerCase());
  if (!isYes && !NO.includes(written.toLowerCase())) throw new Error(`expected true or false, got ${quoted(written)}`);
  return isYes;
}

/** `"Example.COM."` → `"example.com"`; a leading dot or `*.` is dropped, other scripts become their ASCII form. */
export function parseDomain(written: string): string {
  const bare = written.replace(/^\*?\./, "").replace(/\.$/, "");
  const domain = /^[^\s/:@?#\\[\]%]+$/.test(bare) ? domainToASCII(bare) : "";
  const isDomain = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/.test(
    domain,
  );
  if (!isDomain || isIP(domain) !== 0) {
    throw new Error(`expected a domain such as registry.example.com, without scheme or port, got ${quoted(written)}`);
  }
  return domain;
}

/** A URL of scheme, host and port only → its origin. */
export function parseOrigin(written: string): string {
  const url = URL.parse(written);
  const isBare = url !== null && url.href === `${url.origin}/` && !/[?#]/.test(written);
  if (!isBare || !/^https?:$/.test(url.protocol)) {
    throw new Error(`expected a URL such as https://registry.example.com, without a path, got ${shownUrl(written)}`);
  }
  return url.origin;
}

/** `"socks5://user:secret@proxy:1080"`, or `"proxy:3128"` for an http proxy → a URL without a path. */
export function parseProxyUrl(written: string): string {
  const url = URL.parse(written.includes("://") ? written : `http://${written}`);
  const isProxy = url !== null && PROXY_SCHEMES.includes(url.protocol) && url.hostname !== "";
  if (!isProxy || !/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    throw new Error(`expected a proxy such as http://proxy:3128 or socks5://proxy:1080, got ${shownUrl(written)}`);
  }
  return url.href.replace(/\/$/, "");
}

/** A URL inside an error message: in quotes, cut short, without userinfo and query. */
export function shownUrl(written: string): string {
  return quoted(written.replace(/^([a-z][a-z0-9+.-]*:\/\/)?[^/?#]*@/i, "$1***@").replace(/\?.*$/s, "?***"));
}

function parsePath(written: string): string {
  if (written.includes("\0") || written.trim() === "") throw new Error(`expected a path, got ${quoted(written)}`);
  return written;
}

function parseMapLocation(written: string): MapLocation {
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(written)) return { kind: "file", path: parsePath(written) };
  const url = URL.parse(written);
  if (url?.protocol !== "https:" || url.username !== "" || url.password !== "" || url.hash !== "") {
    throw new Error(`expected a file or an https URL without credentials, got ${shownUrl(written)}`);
  }
  return { kind: "url", url: url.href };
}

/** The shape only: whether the key exists is known once the map is read. */
function parseRegistryName(written: string): string {
  if (/^https?:\/\/[^\s]+$/i.test(written) || /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(written)) return written;
  throw new Error(`expected a key of the registry map or an http(s) URL, got ${shownUrl(written)}`);
}

function text<T>(placeholder: string, parse: (written: string) => T): Kind<T> {
  return { placeholder, isList: false, schema: { type: "string" }, parse };
}

function list<T>(placeholder: string, parseOne: (written: string) => T): Kind<readonly [T, ...T[]]> {
  const one = { type: "string" };
  return {
    placeholder,
    isList: true,
    schema: { anyOf: [one, { type: "array", items: one, minItems: 1 }] },
    parse(written) {
      const [first, ...others] = written.split(/[\s,]+/).filter((part) => part !== "");
      if (first === undefined) throw new Error(`expected at least one value, got ${quoted(written)}`);
      return [parseOne(first), ...others.map(parseOne)];
    },
  };
}

function atMost<T>(max: number, kind: Kind<readonly [T, ...T[]]>): Kind<readonly [T, ...T[]]> {
  return {
    ...kind,
    parse(written) {
      const values = kind.parse(written);
      if (values.length > max) throw new Error(`expected at most ${max} values, got ${values.length}`);
      return values;
    },
  };
}

function listed(words: readonly string[]): string {
  return `${words.slice(0, -1).join(", ")} or ${words.at(-1) ?? ""}`;
}
