/**
 * What is asked of an upstream and what comes back. These values cross the level: `proxy/*` makes the request, the client
 * answers it. Nothing here does anything.
 */
import type { HeaderLine } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import type { ContentFault } from "./meter.ts";

/**
 * A credential of one upstream origin. It is sent to that origin, to its own token server (protocol R105) and nowhere else.
 */
export interface Credential {
  /** `"https://registry-1.docker.io"`, equal to an `Upstream.origin`. */
  readonly origin: string;
  /** A keyed hash or another opaque name: the key of token caches and logs (protocol R110). Never derived readably from the secret. */
  readonly id: string;
  /** `"<token>"`: the password is an identity token, shown to token servers only (protocol R99). */
  readonly username: string;
  readonly password: string;
  /** What metrics and logs may call it: the user name of a configured credential. A client's own has none. */
  readonly account?: string;
}

/** In whose name the upstream is asked. */
export type Identity =
  { readonly kind: "anonymous" } | { readonly kind: "credential"; readonly credential: Credential };

export interface UpstreamRequest {
  readonly registry: Registry;
  /** `"library/nginx"`: the name at the upstream, without its `namePrefix`, no slash at either end. */
  readonly repository: string;
  readonly method: "GET" | "HEAD";
  /** What follows the name: `"manifests/latest"`, `"blobs/sha256:…"`, `"tags/list"`, `"referrers/sha256:…"`. */
  readonly path: string;
  /** The raw query without `?`: `""` or `"n=5&last=x"`. */
  readonly query: string;
  /** The only client headers that leave, chosen by the caller (Accept, Range, If-None-Match); hop-by-hop names are dropped. */
  readonly headers: readonly HeaderLine[];
  readonly identity: Identity;
  /** Asked in its place, in this order, where it is limited or refused: for what everybody may read alone. Default: none. */
  readonly instead?: readonly Identity[] | undefined;
  /** `"https://ghcr.io"`: only upstreams of this origin are asked, since the name may be private. Default: all in their order. */
  readonly onlyOrigin?: string | undefined;
  /** `"https://ghcr.io"`: upstreams of this origin are asked behind the others, since they broke off. */
  readonly askLast?: string | undefined;
  /**
   * What a GET of a blob does where its registry's transfers all run: `wait` for its turn, or, `if-free`, fail at once with
   * UpstreamError `overload`, for what only speeds up what runs anyway. Default `wait`.
   */
  readonly transfer?: "wait" | "if-free" | undefined;
  /** Aborts the request, and the body as long as it is read. */
  readonly signal: AbortSignal;
  /** Moment on the `performance.now()` clock by which the final headers must be there, over token, redirects and retries. */
  readonly deadlineMs: number;
  /** Value of the `Via` header to add (`"1.1 layover-8f3a…"`), received Via lines first (protocol R147). */
  readonly via?: string;
}

export interface UpstreamResponse {
  /**
   * The final status. 401 and 403 mean that this identity may not read this (also when the token server said so);
   * 404, 405, 406, 416, 429 and 5xx are the registry's own. Never a redirect.
   */
  readonly status: number;
  /**
   * The upstream's headers without hop-by-hop ones; lines of one name are joined with `, ` (only Set-Cookie is not).
   * Content-Encoding never appears: what came encoded was decoded, and then there is no Content-Length either (protocol R225).
   */
  readonly headers: Headers;
  /**
   * The body, or null (HEAD, 204, 304). Whoever takes it reads it to the end or cancels it. It errors with an UpstreamError
   * when it breaks, is shorter than its Content-Length, or brings no byte for the idle time while it is being read.
   */
  readonly body: ReadableStream<Uint8Array> | null;
  /** The upstream that answered. */
  readonly upstream: Upstream;
  /** In whose name it was asked. */
  readonly identity: Identity;
  /** Milliseconds to the final headers, without the wait for a transfer's turn. */
  readonly elapsedMs: number;
  /** To be called by whoever finds that the content is not what it should be: it is counted. */
  readonly refuse?: (fault: ContentFault) => void;
}
