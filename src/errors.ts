/**
 * The one error mechanism. Code throws a RegistryError when it knows what the client must be told, and an
 * UpstreamError when talking to a registry failed; `http` turns both into an answer. Absence is `undefined`, not an error.
 */

/** Error codes of the OCI distribution specification and of distribution itself, with the status each travels with (protocol R33, R34). */
export const STATUS_OF_CODE = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 404,
  BLOB_UPLOAD_UNKNOWN: 404,
  DENIED: 403,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  SIZE_INVALID: 400,
  TAG_INVALID: 400,
  TOOMANYREQUESTS: 429,
  UNAUTHORIZED: 401,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
  UNSUPPORTED: 405,
} as const;

export type ErrorCode = keyof typeof STATUS_OF_CODE;

/** One header line: name and value, in the order they are sent. Repeated names are repeated lines. */
export type HeaderLine = readonly [name: string, value: string];

export interface RegistryErrorOptions {
  /** HTTP status; defaults to the one that belongs to the code. */
  status?: number;
  /** Extra lines for the answer, e.g. `WWW-Authenticate` or `Retry-After`. */
  headers?: HeaderLine[];
  detail?: unknown;
  cause?: unknown;
}

/** What a client must be told. The message is sent to the client: no secret, no upstream URL with a query. */
export class RegistryError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly headers: readonly HeaderLine[];
  readonly detail: unknown;

  constructor(code: ErrorCode, message: string, options: RegistryErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "RegistryError";
    this.code = code;
    this.status = options.status ?? STATUS_OF_CODE[code];
    this.headers = options.headers ?? [];
    this.detail = options.detail;
  }

  /** The JSON body clients parse (protocol R32). */
  toJSON(): { errors: [{ code: ErrorCode; message: string; detail?: unknown }] } {
    const error = { code: this.code, message: this.message };
    return { errors: [this.detail === undefined ? error : { ...error, detail: this.detail }] };
  }
}

/**
 * Why an upstream gave no usable answer.
 * - `connect`: name not resolved, refused, reset before headers, proxy failure
 * - `tls`: certificate or handshake
 * - `timeout`: no connection or no headers within the deadline
 * - `refused-address`: a redirect, realm or name led to an address the rules forbid (protocol R108); nothing was dialled
 * - `bad-answer`: redirect loop, unreadable token, a downgrade to http, a body that broke
 * - `token`: the token server failed (5xx, 429): not a verdict about the repository
 * - `limited`: the registry counts pulls, and this account may not ask again yet; nothing was asked, or 429 answered
 * - `overload`: we fetch too much from this registry already; nothing was dialled, and nothing is said about the registry
 */
export type UpstreamErrorKind =
  "connect" | "tls" | "timeout" | "refused-address" | "bad-answer" | "token" | "limited" | "overload";

/** How far a request came that brought no answer: to no connection at all, or to one that stayed silent for the whole header time-out. */
export type Reach = "unreached" | "silent";

export interface UpstreamErrorOptions {
  /** 429 for `limited`; of the token server, for `token`; of the storage that refused a signed URL, for `bad-answer`. */
  status?: number;
  /** Value of the upstream's Retry-After, as it came; for `limited` and `overload` ours, seconds. */
  retryAfter?: string;
  /** Where it says something about the host. */
  reach?: Reach | undefined;
  cause?: unknown;
}

/**
 * What happened, for an operator: the failure behind what a client was told, or that itself. Errors that are neither kind of ours
 * are named by their code alone, since a runtime's messages may quote URLs with their queries.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof UpstreamError) return error.message;
  if (error instanceof RegistryError) return error.cause instanceof UpstreamError ? error.cause.message : error.message;
  if (!(error instanceof Error)) return "unknown";
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}

/** Talking to an upstream failed. The message names the host, never a query, userinfo or credential. */
export class UpstreamError extends Error {
  readonly kind: UpstreamErrorKind;
  readonly status: number | undefined;
  readonly retryAfter: string | undefined;
  readonly reach: Reach | undefined;

  constructor(kind: UpstreamErrorKind, message: string, options: UpstreamErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "UpstreamError";
    this.kind = kind;
    this.status = options.status;
    this.retryAfter = options.retryAfter;
    this.reach = options.reach;
  }
}
