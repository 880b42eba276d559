/**
 * What fetch throws, in our words (protocol R280). fetch's own messages are not passed on: they quote the URL it dialled,
 * with the query, and signed queries are secrets (protocol R248). The code says what happened.
 */
import { UpstreamError, type UpstreamErrorKind } from "../errors.ts";

export interface FailureFacts {
  /** Origin and path of what was asked. */
  readonly what: string;
  /** The client's signal: when it aborted, its reason is what is thrown. */
  readonly signal: AbortSignal;
  /** `"body"` when the headers had come: then a lost connection is a broken answer. */
  readonly during: "headers" | "body";
  /** What is known better than the code says it. */
  readonly why?: string | undefined;
}

export function failureOf(cause: unknown, { what, signal, during, why }: FailureFacts): unknown {
  if (signal.aborted) return signal.reason;
  if (cause instanceof UpstreamError) return cause;
  const code = codeOf(cause);
  if (code === undefined) return new UpstreamError("bad-answer", `${what}: failed for an unknown reason`);
  if (during === "body") return new UpstreamError("bad-answer", `${what}: the body broke off: ${code}`);
  const kind = kindOf(code);
  return new UpstreamError(kind, `${what}: ${why ?? inWords(code)}`, {
    reach: kind === "tls" || UNREACHED.has(code) ? "unreached" : undefined,
  });
}

/** `"ECONNREFUSED"`, `"ERR_TLS_CERT_ALTNAME_INVALID"`; undefined where an error has none. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : error.name;
}

/** What an operator can do about a code, where that is known. */
const MENDS: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:UNABLE_TO_(?:VERIFY|GET_ISSUER)|SELF_SIGNED_|DEPTH_ZERO_)/,
    "the authority of its certificate is not known here; name it in tls.caFile",
  ],
  [/^CERT_(?:HAS_EXPIRED|NOT_YET_VALID)/, "its certificate is out of date, or this machine's clock is wrong"],
  [
    /^(?:ERR_TLS_CERT_ALTNAME|HOSTNAME_MISMATCH)/,
    "its certificate is for another name; the URL must name the host as the certificate does",
  ],
  [/^EPROTO$/, "there is no TLS on this port, or it wants a client certificate (tls.certFile, tls.keyFile)"],
  [/^ERR_PROXY_TUNNEL$/, "the proxy refuses, for the user name, the password or a rule of its own"],
];

function inWords(code: string): string {
  const mend = MENDS.find(([pattern]) => pattern.test(code))?.[1];
  return mend === undefined ? code : `${code}: ${mend}`;
}

/** What a host sent that is not HTTP, or not a response to what was asked. */
const BAD_ANSWERS = new Set([
  "InvalidContentLength",
  "InvalidHTTPResponse",
  "Malformed_HTTP_Response",
  "UnrequestedUpgrade",
  "UnsupportedTransferEncoding",
]);

/** No connection came about; a reset may have come from a host that lives. */
const UNREACHED = new Set(["ConnectionRefused", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"]);

/** Certificate verdicts of OpenSSL and the handshake's own failures. */
const TLS_CODE =
  /^(?:ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO$|CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERROR_IN_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)/;

function kindOf(code: string): UpstreamErrorKind {
  if (TLS_CODE.test(code)) return "tls";
  if (BAD_ANSWERS.has(code)) return "bad-answer";
  return code === "ETIMEDOUT" ? "timeout" : "connect";
}
