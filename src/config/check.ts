/**
 * What options must be to each other: a key to its certificate, a redirect to somewhere it leads, and no proxy that is
 * this program itself.
 */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import type { OutgoingProxies } from "../upstream/proxy.ts";
import { OPTIONS, type OptionName } from "./options.ts";
import type { Problem } from "./problem.ts";
import type { ListenAddress, Settings } from "./settings.ts";
import { formatListen } from "./units.ts";

export interface Surroundings {
  /** IP addresses of this machine. */
  readonly localAddresses: readonly string[];
  /** Where an option's text came from; undefined when it was not given. */
  fromOf(name: OptionName): string | undefined;
}

/** Everything that is wrong between options that are each right alone. */
export function findConflicts(settings: Settings, surroundings: Surroundings): Problem[] {
  return [
    ...findLonely(surroundings),
    ...findSuffixProblems(settings, surroundings),
    ...findListenerProblems(settings, surroundings),
    ...findProxyProblems(settings, surroundings),
  ];
}

/** The environment's proxies without those that are our own listeners; each that was dropped is one warning. */
export function findOwnProxies(settings: Settings, { localAddresses }: Surroundings) {
  const warnings: string[] = [];
  const keep = (url: string | undefined, variable: string) => {
    if (url === undefined || !isOurs(url, settings.listen, localAddresses)) return url;
    warnings.push(`${variable} is ignored: it leads to our own listener, which would ask itself for ever`);
    return undefined;
  };
  const { http, https, all, ...others } = settings.upstream.proxies;
  const proxies: OutgoingProxies = {
    ...others,
    http: keep(http, "http_proxy"),
    https: keep(https, "https_proxy"),
    all: keep(all, "all_proxy"),
  };
  return { proxies, warnings };
}

/** Options that mean nothing without another one. */
function findLonely({ fromOf }: Surroundings): Problem[] {
  const pairs: readonly (readonly [OptionName, OptionName])[] = [
    ["tlsCert", "tlsKey"],
    ["tlsKey", "tlsCert"],
    ["tlsKeyPassphraseFile", "tlsKey"],
    ["tlsClientCa", "tlsCert"],
    ["acmeWebroot", "httpRedirect"],
  ];
  return pairs.flatMap(([name, needed]) => {
    const from = fromOf(name);
    if (from === undefined || fromOf(needed) !== undefined) return [];
    return [{ from, what: `--${OPTIONS[name].flag} needs --${OPTIONS[needed].flag}` }];
  });
}

function findSuffixProblems({ hosts }: Settings, { fromOf }: Surroundings): Problem[] {
  const from = fromOf("strictHosts");
  if (from === undefined || !hosts.strict || fromOf("domainSuffix") !== undefined) return [];
  return [{ from, what: "--strict-hosts needs --domain-suffix: without it every host would be refused" }];
}

function findListenerProblems(settings: Settings, { fromOf }: Surroundings): Problem[] {
  const problems: Problem[] = [];
  const from = fromOf("listen") ?? "default";
  for (const [i, one] of settings.listen.entries()) {
    const other = settings.listen.slice(0, i).find((earlier) => isSameAddress(one, earlier));
    if (other !== undefined)
      problems.push({ from, what: `${formatListen(one)} and ${formatListen(other)} are one address` });
  }
  const redirect = settings.httpRedirect;
  const redirectFrom = fromOf("httpRedirect");
  if (redirect === undefined || redirectFrom === undefined) return problems;
  if (settings.listen.some((address) => isSameAddress(address, redirect))) {
    problems.push({ from: redirectFrom, what: `${formatListen(redirect)} is a listener already (--listen)` });
  }
  if (fromOf("tlsCert") === undefined && settings.hosts.publicUrl?.startsWith("https:") !== true) {
    problems.push({
      from: redirectFrom,
      what: "--http-redirect needs --tls-cert, or a --public-url with https, to lead to",
    });
  }
  return problems;
}

function findProxyProblems({ upstream, listen }: Settings, { fromOf, localAddresses }: Surroundings): Problem[] {
  const url = upstream.proxies.general;
  if (url === undefined || !isOurs(url, listen, localAddresses)) return [];
  const what = "expected another program's address, got our own listener, which would ask itself for ever";
  return [{ from: fromOf("upstreamProxy") ?? "default", what }];
}

function isSameAddress(one: ListenAddress, other: ListenAddress): boolean {
  if (one.kind === "unix" || other.kind === "unix") {
    return one.kind === "unix" && other.kind === "unix" && one.path === other.path;
  }
  if (one.port !== other.port || one.port === 0) return false;
  return one.host === other.host || isEverywhere(one.host) || isEverywhere(other.host);
}

function isEverywhere(host: string | undefined): boolean {
  return host === undefined || host === "::" || host === "0.0.0.0";
}

/** Whether a proxy's URL leads to one of our listeners. */
function isOurs(proxy: string, listen: readonly ListenAddress[], localAddresses: readonly string[]): boolean {
  const url = new URL(proxy);
  const port = Number(url.port || (url.protocol === "https:" ? 443 : url.protocol === "http:" ? 80 : 1080));
  const host = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  return listen.some((address) => {
    if (address.kind === "unix" || address.port !== port) return false;
    if (isEverywhere(address.host)) return isThisMachine(host, localAddresses);
    return address.host === host || (isLoopback(address.host ?? "") && isLoopback(host));
  });
}

function isThisMachine(host: string, localAddresses: readonly string[]): boolean {
  return isLoopback(host) || isEverywhere(host) || localAddresses.includes(host);
}

function isLoopback(host: string): boolean {
  if (host === "localhost" || host.endsWith(".localhost")) return true;
  return isIP(host) !== 0 && ipaddr.process(host).range() === "loopback";
}
