/**
 * Which outgoing proxy a request takes: the registry's own, else the general one, else the environment's. `fetch` would read
 * the environment by itself; here the choice is always explicit, so that a proxy is neither taken nor ignored silently.
 */
import ipaddr from "ipaddr.js";
import { UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { addressLiteral, isInRange } from "./address.ts";

/** Outgoing proxies. Each is a URL of scheme http, https, socks5 or socks5h, with userinfo where the proxy asks for it. */
export interface OutgoingProxies {
  /** `--upstream-proxy`: for everything whose registry names none. */
  readonly general?: string | undefined;
  /** The environment's, by scheme of the target; asked when `general` is absent. */
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  readonly all?: string | undefined;
  /** NO_PROXY: hosts, `.suffixes`, CIDRs, `host:port`, `*`, separated by commas. Holds for all but a registry's own proxy. */
  readonly none?: string | undefined;
}

export type ProxyChoice =
  | { readonly kind: "direct" }
  /** Spoken natively by fetch. */
  | { readonly kind: "http"; readonly url: string }
  /** Names are resolved by the proxy, for `socks5` as for `socks5h`: local DNS is often why there is a proxy. */
  | { readonly kind: "socks"; readonly url: string };

/**
 * The way to a target.
 * @throws UpstreamError `connect` for a proxy that is no URL or has another scheme; its text is not in the message, as it may hold a password
 */
export function chooseProxy(
  target: URL,
  registry: Pick<Registry, "key" | "proxy">,
  proxies: OutgoingProxies,
): ProxyChoice {
  if (registry.proxy === false) return { kind: "direct" };
  if (registry.proxy !== undefined) return parseProxy(registry.proxy);
  const byScheme = target.protocol === "https:" ? proxies.https : proxies.http;
  const proxy = proxies.general ?? byScheme ?? proxies.all;
  if (proxy === undefined || proxy === "" || isExempt(target, proxies.none ?? "")) return { kind: "direct" };
  return parseProxy(proxy);
}

/** `"socks5://proxy:1080"`, as it may be shown: without userinfo. */
export function nameOfProxy({ url }: Exclude<ProxyChoice, { kind: "direct" }>): string {
  const { protocol, host } = new URL(url); // its `origin` is null for SOCKS
  return `${protocol}//${host}`;
}

/** Does NO_PROXY name this target? Names match themselves and what is below them, with or without a leading dot, as in curl. */
export function isExempt(target: URL, none: string): boolean {
  const host = target.hostname.toLowerCase();
  const port = target.port || (target.protocol === "https:" ? "443" : "80");
  return none
    .split(/[\s,]+/)
    .filter((entry) => entry !== "")
    .some((entry) => matchesEntry(entry.toLowerCase(), host, port));
}

function parseProxy(text: string): ProxyChoice {
  // A bare "host:port" is how http_proxy is often written.
  const url = URL.canParse(text) && text.includes("://") ? new URL(text) : parseBare(text);
  switch (url?.protocol) {
    case "http:":
    case "https:":
      return { kind: "http", url: url.href };
    case "socks5:":
    case "socks5h:":
      return { kind: "socks", url: url.href };
    default:
      throw new UpstreamError(
        "connect",
        `outgoing proxy: expected an http, https, socks5 or socks5h URL, got ${url?.protocol ?? "no URL"}`,
      );
  }
}

function parseBare(text: string): URL | undefined {
  return text.includes("://") || !URL.canParse(`http://${text}`) ? undefined : new URL(`http://${text}`);
}

function matchesEntry(entry: string, host: string, port: string): boolean {
  if (entry === "*") return true;
  const literal = addressLiteral(host);
  if (entry.includes("/")) return literal !== undefined && isInRange(literal, entry);
  const { name, port: wanted } = splitPort(entry);
  if (wanted !== undefined && wanted !== port) return false;
  if (literal !== undefined) return sameAddress(literal, name);
  const suffix = name.replace(/^\*?\.?/, "");
  return host === suffix || host.endsWith(`.${suffix}`);
}

/** `"[::1]:80"`, `"::1"`, `"host:80"`: a lone colon splits, several belong to an address. */
function splitPort(entry: string): { name: string; port: string | undefined } {
  const match = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(entry);
  return match?.[1] === undefined ? { name: entry, port: undefined } : { name: match[1], port: match[2] };
}

function sameAddress(literal: string, name: string): boolean {
  const other = addressLiteral(name);
  return other !== undefined && ipaddr.process(literal).toString() === ipaddr.process(other).toString();
}
