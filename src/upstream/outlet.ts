/**
 * How connections to a host are made: through which proxy, with which certificates, from which pool. Each pair of registry
 * and host has a session of fetch of its own, so that no connection is ever shared between two names that live on one
 * address, nor between two registries with other TLS settings.
 */
import tls from "node:tls";
import { LRUCache } from "lru-cache";
import { UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { addressLiteral } from "./address.ts";
import { chooseProxy, nameOfProxy, type OutgoingProxies, type ProxyChoice } from "./proxy.ts";
import { openSocksBridge, type SocksBridge } from "./socks-bridge.ts";

export interface OutletOptions {
  readonly proxies: OutgoingProxies;
  readonly connectTimeoutMs: number;
}

export interface Outlet {
  /** `"direct"`: the URL must hold the address to dial; `"proxied"`: the name. */
  readonly kind: "direct" | "proxied";
  /** `""`, or `" through http://proxy:3128"`, for errors: without userinfo. */
  readonly through: string;
  /** What a SOCKS proxy said to a connection since then (`performance.now()`): fetch only sees that it broke. */
  refusalSince(ms: number): string | undefined;
  fetch(url: string, init: OutgoingInit): Promise<Response>;
}

/** What a request is besides its URL; the outlet adds how it leaves. */
export interface OutgoingInit {
  readonly method: string;
  readonly headers: [string, string][];
  readonly signal: AbortSignal;
  readonly body?: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  /** False: on a connection of its own. */
  readonly keepalive?: boolean;
}

export interface Outlets {
  /** @throws UpstreamError `connect` for an outgoing proxy that cannot be used */
  outletFor(url: URL, registry: Registry): Promise<Outlet>;
  /** Closes idle connections and the bridges. */
  close(): Promise<void>;
}

/** Registries times their hosts (upstreams, token servers, CDNs). A session that falls out only loses idle connections. */
const MAX_SESSIONS = 1000;
/** Load balancers drop idle connections after 60 s and more; a dropped one is found out only by trying (protocol R257). */
const KEEP_IDLE_SECONDS = 30;
/** SOCKS proxies in use: the general one and a few registries' own. */
const MAX_BRIDGES = 100;

export function createOutlets(options: OutletOptions): Outlets {
  // A reloaded map has new Registry objects: they begin with their own settings, and the old sessions fall out in time.
  const numbers = new WeakMap<Registry, number>();
  let registries = 0;
  const sessions = new LRUCache<string, Bun.FetchSession>({ max: MAX_SESSIONS, dispose: (session) => session.close() });
  const bridges = new LRUCache<string, Promise<SocksBridge>>({ max: MAX_BRIDGES, dispose: closeBridge });

  function sessionFor(url: URL, registry: Registry, kind: Outlet["kind"]): Bun.FetchSession {
    const number = numbers.get(registry) ?? registries++;
    numbers.set(registry, number);
    const key = `${number} ${kind} ${url.origin}`;
    const session = sessions.get(key) ?? openSession(tlsFor(url, registry, kind));
    sessions.set(key, session);
    return session;
  }

  async function bridgeFor(choice: ProxyChoice): Promise<SocksBridge | undefined> {
    if (choice.kind !== "socks") return undefined;
    const bridge = bridges.get(choice.url) ?? openSocksBridge(choice.url, options.connectTimeoutMs);
    bridges.set(choice.url, bridge);
    try {
      return await bridge;
    } catch (cause) {
      // The next request tries anew.
      bridges.delete(choice.url);
      throw new UpstreamError("connect", "the bridge to the SOCKS proxy could not be opened", { cause });
    }
  }

  return {
    async outletFor(url, registry) {
      const choice = chooseProxy(url, registry, options.proxies);
      const bridge = await bridgeFor(choice);
      const proxy = bridge?.url ?? (choice.kind === "http" ? choice.url : undefined);
      const kind = proxy === undefined ? "direct" : "proxied";
      const session = sessionFor(url, registry, kind);
      return {
        kind,
        through: choice.kind === "direct" ? "" : ` through ${nameOfProxy(choice)}`,
        refusalSince: (ms) => bridge?.refusalSince(ms),
        fetch: (target, init) =>
          session.fetch(target, {
            ...init,
            ...PLAIN_FETCH,
            proxy: proxy === undefined ? false : { url: proxy, respectNoProxy: false },
          }),
      };
    },
    async close() {
      sessions.clear();
      bridges.clear();
    },
  };
}

/** Bytes as they came, redirects for us to judge, time limits of our own (protocol R224, R279). */
const PLAIN_FETCH = { decompress: false, redirect: "manual", timeout: false } as const;

function openSession(tlsOptions: Bun.TLSOptions): Bun.FetchSession {
  return new Bun.FetchSession({ tls: tlsOptions, keepAlive: { idleTimeout: KEEP_IDLE_SECONDS } });
}

/**
 * Certificates are checked against the name, though an address is dialled. A registry's CA is trusted besides the usual ones,
 * because its redirects may lead to a public CDN; its client certificate is shown to its own hosts only, on any port of theirs:
 * a token server is often beside its registry.
 */
function tlsFor(url: URL, registry: Registry, kind: Outlet["kind"]): Bun.TLSOptions {
  const { ca, cert, key, insecureSkipVerify } = registry.tls;
  const isOwn = registry.upstreams.some(({ origin }) => new URL(origin).hostname === url.hostname);
  return {
    ...(kind === "direct" && addressLiteral(url.hostname) === undefined && { serverName: url.hostname }),
    ...(ca !== undefined && { ca: [...tls.getCACertificates("default"), ca] }),
    ...(isOwn && cert !== undefined && { cert }),
    ...(isOwn && key !== undefined && { key }),
    rejectUnauthorized: !insecureSkipVerify,
  };
}

function closeBridge(bridge: Promise<SocksBridge>): void {
  // One that never opened has nothing to close; who waited for it was told.
  bridge.then((open) => open.close()).catch(() => undefined);
}
