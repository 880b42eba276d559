/**
 * The one way out to registries. A request goes through: upstreams in order → access (challenge, token) → redirects →
 * address rules → one HTTP exchange; the caller sees only the last answer.
 *
 * Promises: credentials leave only for their own upstream's origin and its token server; nothing is dialled that the
 * address rules forbid; every wait has a deadline. It does not verify content, cache answers or filter headers for clients.
 */
import type { Registry } from "../registry/registry.ts";
import type { Credential, UpstreamRequest, UpstreamResponse } from "./request.ts";

export type { Credential, Identity, UpstreamRequest, UpstreamResponse } from "./request.ts";

/** Outgoing proxies. Each is a URL of scheme http, https, socks5 or socks5h, with userinfo where the proxy asks for it. */
export interface OutgoingProxies {
  /** `--upstream-proxy`: for everything whose registry names none. */
  readonly general?: string;
  /** The environment's, for http and https targets and for both; asked when `general` is absent. */
  readonly http?: string;
  readonly https?: string;
  readonly all?: string;
  /** NO_PROXY: hosts, `.suffixes`, CIDRs, `host:port`, `*`, separated by commas; holds for `general` too, not for a registry's own. */
  readonly none?: string;
}

export interface UpstreamOptions {
  /** Of this program, for `User-Agent: layover/<version>`. */
  readonly version: string;
  /** Per TCP connection. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** From the start of one exchange to its response headers. Default 15 s. */
  readonly headerTimeoutMs?: number;
  /** Longest silence of a body that is being read. Default 60 s. */
  readonly idleTimeoutMs?: number;
  /** 4 for `DISABLE_IPV6`, 6 for the opposite, 0 for both. Default 0. */
  readonly family?: 0 | 4 | 6;
  readonly proxies?: OutgoingProxies;
}

/** All addresses of a name, best first, as `node:dns` `lookup` with `all` gives them. */
export type Lookup = (host: string, family: 0 | 4 | 6) => Promise<readonly string[]>;

/** Replaceable parts; every one has a default. */
export interface UpstreamDependencies {
  readonly lookup?: Lookup;
  /** 0 ≤ x < 1, for the jitter of retries. */
  readonly random?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Wall clock for token expiry, milliseconds. */
  readonly now?: () => number;
  /** Told about what an operator may want to know: a refused realm, a retry, a next upstream. No secrets. */
  readonly notice?: (event: UpstreamNotice) => void;
}

export interface UpstreamNotice {
  readonly registry: string;
  /** Host of the upstream concerned. */
  readonly upstream: string;
  readonly message: string;
}

export interface VerifyOptions {
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  /** Scopes as the upstream spells them; empty for a plain login. */
  readonly scopes: readonly string[];
}

export interface UpstreamClient {
  /**
   * Asks the registry's upstreams in order and answers the final response: after the token flow, redirects, retries and
   * next upstreams. A credential goes only to its own origin; other upstreams are asked anonymously.
   * @throws UpstreamError when no upstream gave a usable answer
   * @throws DOMException AbortError when `signal` aborted
   */
  send(request: UpstreamRequest): Promise<UpstreamResponse>;
  /**
   * Does the credential's own upstream accept it? By its token server or, for a Basic registry, by `/v2/`.
   * `"unneeded"`: it asks nobody for credentials, so nothing can be said about these.
   * @throws UpstreamError when there was no verdict
   */
  verify(
    registry: Registry,
    credential: Credential,
    options: VerifyOptions,
  ): Promise<"accepted" | "rejected" | "unneeded">;
  /** The registry whose upstream named this realm in a challenge, if any did lately. A look-up only: nothing is fetched (compat C34). */
  knownRealm(realmUrl: string): Registry | undefined;
  /** Ends the SOCKS bridge and waits for nothing; running bodies go on. */
  close(): Promise<void>;
}

/** Creates the client. One per process: token cache, connection pool and known challenges live in it. */
export function createUpstreamClient(
  _options: UpstreamOptions,
  _dependencies: UpstreamDependencies = {},
): UpstreamClient {
  throw new Error("not built yet");
}
