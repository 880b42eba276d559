/**
 * The two values a request passes through: an Exchange is what arrived, checked once and never re-parsed; a Reply is what
 * goes out, with header lines in the order they are written. `http/adapter` makes the first and writes the second;
 * everything between is a function from one to the other.
 */
import type { HeaderLine } from "../errors.ts";
import type { Host } from "../registry/host.ts";

export interface Exchange {
  /** 16 hex digits, also sent as `X-Request-Id`. */
  readonly id: string;
  /** Upper case, one of the methods the API knows. */
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS";
  /** The raw path: starts with `/`, no `%` but `%3A`, no `.` or `..` component, no `//`. */
  readonly path: string;
  /** The raw query without `?`; `""` when there is none. */
  readonly query: string;
  /** The parsed Host header; undefined for HTTP/1.0 without one. */
  readonly host: Host | undefined;
  /** Request headers, lines of one name joined with `, `. */
  readonly headers: Headers;
  /** Address of the peer as the socket gives it (`"::1"`, `"192.0.2.7"`), `"unix"` on a unix socket. */
  readonly peer: string;
  /** True when TLS was terminated on this connection. */
  readonly secure: boolean;
  /**
   * The name in the client certificate of this connection, while it holds: verified, not expired, and signed by an
   * authority that is still trusted. Absent where clients show none.
   */
  readonly certificateUser?: (() => string | undefined) | undefined;
  /** Aborts when the client left before the answer was complete. */
  readonly signal: AbortSignal;
  /** Moment of arrival on the `performance.now()` clock, milliseconds. */
  readonly receivedAtMs: number;
  /** The request body, or null. Whoever does not read it leaves it to the adapter to discard. */
  readonly body: ReadableStream<Uint8Array> | null;
  /** Facts for the access line, filled in on the way. Never holds a secret. */
  readonly notes: AccessNotes;
}

/** What the cache did for an answer: EXPIRED is a MISS of a tag whose record was too old and led elsewhere. */
export type CacheState = NonNullable<AccessNotes["cache"]> | "EXPIRED";

export interface AccessNotes {
  /** What was asked for; absent where no path said it. */
  endpoint?: "ping" | "manifest" | "blob" | "tags" | "referrers" | "upload" | "catalog" | "token";
  registry?: string;
  repository?: string;
  /** A user of ours. */
  user?: string;
  /** Host of the upstream that answered. */
  upstream?: string;
  upstreamStatus?: number;
  /** Milliseconds until the upstream's headers. */
  upstreamMs?: number;
  cache?: "HIT" | "MISS" | "STALE" | "REVALIDATED" | "BYPASS";
  /** Code of the error that was answered. */
  error?: string;
  /** Why, in words for the operator, where it is not the client's doing. */
  reason?: string;
}

/**
 * Content that is read by position, at the pace of who takes it and into the taker's memory. Whoever has one closes it,
 * once, also unread and after an error.
 */
export interface PositionedBody {
  /** Bytes of the whole body, which are its Content-Length. */
  readonly length: number;
  /**
   * Fills `into` from `position` of this body on; the bytes read, at least one. One read at a time.
   * @throws when there is less than `length`; what was begun may go on, so `into` is not used for anything else then
   */
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** Absent, whole, streamed, or by position; a stream whose length is known has a Content-Length among the headers. */
export type ReplyBody = null | string | Uint8Array | ReadableStream<Uint8Array> | PositionedBody;

export interface Reply {
  readonly status: number;
  readonly headers: readonly HeaderLine[];
  readonly body: ReplyBody;
}
