/**
 * Every way a registry, its token server and its CDN can misbehave, as plain fields that a test sets at any moment (protocol R283).
 * Faults are grouped by what is asked for: `registry.faults.blob.cutAfterBytes = 1000` cuts blobs and nothing else.
 */
import type { HeaderLine } from "../../src/errors.ts";
import type { WireRequest } from "./wire-server.ts";

/** What is asked for; `cdn` are redirected blobs and manifests on the CDN's own port, `token` the token server. */
export type Kind = "ping" | "manifest" | "blob" | "tags" | "referrers" | "push" | "token" | "cdn";

export interface AnswerFaults {
  /** Only the first so many matching requests feel the faults of this kind; counted down. Default: all. */
  times?: number;
  /** Only requests for which this is true feel them. */
  match?: (request: WireRequest) => boolean;

  /** Answer with this status and an OCI error body. */
  status?: number;
  /** Error code of that body; default one that fits the status. */
  code?: string;
  /** Send this instead of the error JSON, e.g. plain text or HTML (protocol R210). */
  body?: string;
  /** Content-Type instead of the right one; `false` sends none. */
  contentType?: string | false;
  /** Value of Retry-After on an error status. */
  retryAfter?: string;
  /** 200 with an HTML page, as a captive portal answers (protocol R234). */
  html?: boolean;

  /** Send nothing until the test calls `release()`. */
  stallBeforeHeaders?: boolean;
  /** Send so many body bytes, then nothing until `release()`. */
  stallAfterBytes?: number;
  /** Break off after so many body bytes, see `cutWith`. */
  cutAfterBytes?: number;
  /** `reset` (default) breaks the connection, `fin` closes it cleanly, `complete` ends the framing as if that were all. */
  cutWith?: "reset" | "fin" | "complete";
  /** Break the connection instead of answering at all. */
  hangUp?: "reset" | "fin";
  /** Speed of the body. */
  bytesPerSecond?: number;

  /** `length` (default), `chunked`, or `eof`: the end of the connection is the end of the body (protocol R236). */
  framing?: "length" | "chunked" | "eof";
  /** Compress the body and say so, asked for or not (protocol R225). */
  gzip?: boolean;
  /** Flip a byte of the body: right length, wrong digest. */
  corrupt?: boolean;
  /** Docker-Content-Digest: a lie (protocol R218), or `false` for none. */
  digestHeader?: string | false;
  /** Content-Length: a lie in the head, or `false` for none (on HEAD too: protocol R140). */
  contentLength?: number | false;
  /** Answer 200 with the whole body where a range was asked (protocol R272). */
  ignoreRange?: boolean;
  /** Content-Range instead of the right one on 206, or `false` for none. */
  contentRange?: string | false;
  /** Status of HEAD requests only: 401 (protocol R130), 405 (protocol R169), 403. */
  headStatus?: number;
  /** Extra header lines, repeated names as repeated lines; see `noisyHeaders` and `bigHeaders`. */
  headers?: HeaderLine[];
  /** Answer GET (and HEAD unless `methods` says otherwise) with a redirect. */
  redirect?: Redirect;
}

export interface Redirect {
  /** Default 307 to the CDN, 302 when relative. */
  status?: number;
  /**
   * `cdn` (default): absolute to the CDN's port, signed (protocol R129) · `relative`: `/artifacts-downloads/…` on the same host
   * (protocol R134) · `loop`: to itself · anything else: that URL, e.g. `"http://169.254.169.254/"`, or made from the request.
   */
  to?: "cdn" | "relative" | "loop" | (string & {}) | ((request: WireRequest) => string);
  /** Redirects on the way before the one that delivers; default 0. */
  hops?: number;
  /** Methods that are redirected; default GET and HEAD. */
  methods?: string[];
}

export interface AuthFaults {
  /** `Bearer` challenges without a service parameter (nvcr.io, protocol R139). */
  noService?: boolean;
  /** Ping and resources carry `repository:user/image:pull` (ghcr.io, protocol R113). */
  placeholderScope?: boolean;
  /** Realm instead of the token server's, e.g. on another host or with http. */
  realm?: string;
  /** After a bad token the challenge names another realm, which refuses anonymous clients (nvcr.io, protocol R111). */
  realmSwitch?: boolean;
  /** 401 on resources comes without WWW-Authenticate; the ping has it (protocol R116). */
  silentResources?: boolean;
  /** Whole WWW-Authenticate lines sent before the right one. */
  challengesBefore?: string[];
  /** Whole WWW-Authenticate lines sent instead of the right one. */
  challenges?: string[];
  /** Repositories that do not exist answer 401 like private ones (Docker Hub, protocol R27). */
  hideAbsent?: boolean;
}

export interface TokenFaults extends AnswerFaults {
  /** `expires_in` as sent: number, string, negative; `undefined` with the key present sends none. Default 300. */
  expiresIn?: unknown;
  /** Names of the fields that carry the token; default both. */
  fields?: ("token" | "access_token")[];
  /** 403 for a scope that an anonymous client may not have, instead of a token that grants nothing (ghcr.io, protocol R102). */
  denies?: boolean;
  /** 403 for anonymous `pull,push` (ghcr.io, protocol R114). */
  refusesPushScope?: boolean;
  /** `issued_at` as sent. Default: none. */
  issuedAt?: string;
  /** Pad tokens to so many characters (protocol R104). */
  tokenLength?: number;
}

export interface CdnFaults extends AnswerFaults {
  /** URLs work only for the method they were made for: 403 otherwise (protocol R137). */
  methodBound?: boolean;
  /** Answer 400 to several ranges in one request (protocol R141). */
  refusesMultiRange?: boolean;
}

export interface PushFaults extends AnswerFaults {
  /** How the place of an upload is told; default `relative`. `elsewhere`: at the CDN's port, signed, without Authorization. */
  location?: "relative" | "absolute" | "stateful" | "elsewhere";
  /** `OCI-Chunk-Min-Length` of an upload that begins. */
  chunkMinLength?: number;
  /** What happens after so many bytes of a body: the connection breaks, or the answer comes early. */
  interrupt?: Interruption;
}

export interface Interruption {
  readonly afterBytes: number;
  readonly how: "reset" | "answer" | "stall";
}

export interface Faults {
  auth: AuthFaults;
  ping: AnswerFaults;
  manifest: AnswerFaults;
  blob: AnswerFaults;
  tags: TagFaults;
  /** `status: 404` with `code`, 405 or 406 for registries without the API (protocol R56, R62). */
  referrers: AnswerFaults;
  push: PushFaults;
  token: TokenFaults;
  cdn: CdnFaults;
}

export interface TagFaults extends AnswerFaults {
  /** How the Link to the next page is written; default `relative`. */
  link?: "relative" | "absolute";
}

export function noFaults(): Faults {
  return { auth: {}, ping: {}, manifest: {}, blob: {}, tags: {}, referrers: {}, push: {}, token: {}, cdn: {} };
}

/** The faults this request feels: none when it does not match or the count is used up. */
export function faultsFor<T extends AnswerFaults>(faults: T, request: WireRequest): T | Record<string, never> {
  if (faults.match && !faults.match(request)) return {};
  if (faults.times === undefined) return faults;
  if (faults.times <= 0) return {};
  faults.times--;
  return faults;
}

/** What Docker Hub, CDNs and cloud front ends add, none of which may reach a client (protocol R219, R220). */
export const NOISY_HEADERS: readonly HeaderLine[] = [
  ["Set-Cookie", "session=1; Path=/"],
  ["Set-Cookie", "tracker=2"],
  ["Server", "fake/1.0"],
  ["Alt-Svc", 'h3=":443"; ma=86400'],
  ["Strict-Transport-Security", "max-age=63072000"],
  ["ratelimit-limit", "100;w=21600"],
  ["ratelimit-remaining", "99;w=21600"],
  ["docker-ratelimit-source", "192.0.2.1"],
  ["x-amz-request-id", "FAKE"],
  ["CF-Ray", "fake"],
  ["X-Foo", "1"],
  ["Connection", "close, X-Foo"],
  ["Keep-Alive", "timeout=5"],
  ["Warning", '299 - "first, with a comma"'],
  ["Warning", '299 - "second"'],
];

/** Header lines of so many bytes together (protocol R135). */
export function bigHeaders(bytes: number): HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (let left = bytes; left > 0; left -= 4096)
    lines.push([`X-Big-${lines.length}`, "b".repeat(Math.min(left, 4000))]);
  return lines;
}
