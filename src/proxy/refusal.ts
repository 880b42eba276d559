/**
 * What an upstream's "no" or silence becomes for the client: section 9 of the protocol notes as code. Mirrors' clients go
 * to the next registry on any error, so the status must be true: absent is 404, unreachable is never 404.
 */
import { type ErrorCode, type HeaderLine, RegistryError, STATUS_OF_CODE, type UpstreamError } from "../errors.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { parseContentRange } from "../registry/range.ts";
import { readBody } from "../upstream/body.ts";
import { readableRetryAfter } from "./headers.ts";
import type { UpstreamResponse } from "../upstream/client.ts";

/** Error documents are small; more is not read. */
const MAX_ERROR_BYTES = 64 * 1024;
/** An error document comes with its head or soon after it. */
const MAX_ERROR_WAIT_MS = 1_000;
/** Told to clients when an upstream that is overloaded does not say how long, seconds (protocol R39). */
const DEFAULT_RETRY_AFTER = "30";

/** The error for an answer that is not a success. Consumes the body, as far as it comes in time. */
export async function errorOfAnswer(
  response: UpstreamResponse,
  { endpoint, deadlineMs }: { readonly endpoint: Endpoint; readonly deadlineMs: number },
): Promise<RegistryError> {
  const code = codeIn(await bodyText(response, deadlineMs));
  switch (response.status) {
    case 404:
      return new RegistryError(
        code === undefined || STATUS_OF_CODE[code] !== 404 ? absentCode(endpoint) : code,
        absentMessage(endpoint),
      );
    case 400:
      return new RegistryError(
        code !== undefined && STATUS_OF_CODE[code] === 400 ? code : "NAME_INVALID",
        "the registry refuses this name or digest",
        {
          status: 400,
        },
      );
    case 405:
    case 406:
      // Registries without this API say so in several ways; clients understand "not found" (protocol R144).
      return new RegistryError(absentCode(endpoint), absentMessage(endpoint), { status: 404 });
    case 416:
      return new RegistryError("RANGE_INVALID", "the range lies outside the content", {
        headers: totalLine(response.headers),
      });
    case 429:
      return limitError("the registry limits its requests", response.headers.get("retry-after"));
    default:
      return new RegistryError("UNAVAILABLE", `the registry answered with status ${response.status}`, {
        status: response.status === 503 ? 503 : 502,
        headers: retryAfter(response.headers.get("retry-after")),
      });
  }
}

/** The error for a request that brought no answer. */
export function errorOfFailure(error: UpstreamError): RegistryError {
  const cause = { cause: error };
  switch (error.kind) {
    case "timeout":
      return new RegistryError("UNAVAILABLE", "the registry did not answer in time", {
        status: 503,
        headers: retryAfter(error.retryAfter ?? null),
        ...cause,
      });
    case "limited":
      return limitError("the registry limits its pulls", error.retryAfter, error);
    case "token":
      if (error.status === 429)
        return limitError("the registry's token server limits its requests", error.retryAfter, error);
      return new RegistryError("UNAVAILABLE", "the registry's token server gave no token", {
        status: 503,
        headers: retryAfter(error.retryAfter ?? null),
        ...cause,
      });
    case "overload":
      return new RegistryError("UNAVAILABLE", "too many blobs of this registry are under way here: try again soon", {
        headers: retryAfter(error.retryAfter ?? null),
        ...cause,
      });
    case "connect":
    case "tls":
    case "refused-address":
    case "bad-answer":
      return new RegistryError(
        "UNAVAILABLE",
        error.retryAfter === undefined ? FAILURES[error.kind] : AWAY[error.kind],
        {
          // With a moment for the next try it was not asked: clients may come back, which 502 does not tell them.
          status: error.retryAfter === undefined ? 502 : 503,
          headers: retryAfter(error.retryAfter ?? null),
          ...cause,
        },
      );
  }
}

const FAILURES = {
  connect: "the registry cannot be reached",
  tls: "no trusted TLS connection to the registry",
  "refused-address": "the registry leads to an address that must not be asked",
  "bad-answer": "the registry gave an answer that cannot be used",
} as const;

/** While it is left alone. Its own last answer is told of in the log. */
const AWAY = {
  ...FAILURES,
  "bad-answer": "the registry fails and is left alone for a moment: try again later",
} as const;

/** docker shows its user the message and not the header: so the moment stands in both. */
function limitError(what: string, told: string | null | undefined, cause?: UpstreamError): RegistryError {
  const retryAfter = readableRetryAfter(told) ?? DEFAULT_RETRY_AFTER;
  const seconds = Number(retryAfter); // NaN for a date
  const minutes = Math.ceil(seconds / 60);
  const when = seconds < 120 ? `in ${seconds} s` : minutes > 0 ? `in ${minutes} minutes` : "later";
  return new RegistryError("TOOMANYREQUESTS", `${what}: try again ${when}`, {
    headers: [["Retry-After", retryAfter]],
    ...(cause !== undefined && { cause }),
  });
}

function absentCode(endpoint: Endpoint): ErrorCode {
  switch (endpoint.kind) {
    case "blob":
      return "BLOB_UNKNOWN";
    case "tags":
      return "NAME_UNKNOWN";
    case "upload":
      return "BLOB_UPLOAD_UNKNOWN";
    default:
      return "MANIFEST_UNKNOWN";
  }
}

function absentMessage(endpoint: Endpoint): string {
  switch (endpoint.kind) {
    case "blob":
      return "blob unknown to the registry";
    case "tags":
      return "repository unknown to the registry";
    case "referrers":
      return "the registry keeps no referrers for this";
    default:
      return "manifest unknown to the registry";
  }
}

/** The client waits for its header block meanwhile: what does not come soon is not waited for (protocol R174). */
async function bodyText({ body }: UpstreamResponse, deadlineMs: number): Promise<string> {
  if (body === null) return "";
  const limits = { maxBytes: MAX_ERROR_BYTES, deadlineMs: Math.min(deadlineMs, performance.now() + MAX_ERROR_WAIT_MS) };
  const bytes = await readBody(body, limits).catch(() => undefined); // the status says enough
  return bytes === undefined ? "" : new TextDecoder().decode(bytes);
}

/** The first error's code, if the body is a registry's JSON and the code is one we know. */
function codeIn(text: string): ErrorCode | undefined {
  const found = /"code"\s*:\s*"([A-Z_]{1,40})"/.exec(text)?.[1];
  return found !== undefined && isErrorCode(found) ? found : undefined;
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(STATUS_OF_CODE, text);
}

/** `Content-Range: bytes *\/2048` tells the client how long the content is (protocol R266). */
function totalLine(headers: Headers): HeaderLine[] {
  const value = headers.get("content-range");
  const unsatisfied = value === null ? undefined : /^bytes \*\/(\d{1,15})$/.exec(value)?.[1];
  const total = unsatisfied ?? (value === null ? undefined : parseContentRange(value)?.total?.toString());
  return total === undefined ? [] : [["Content-Range", `bytes */${total}`]];
}

function retryAfter(value: string | null): HeaderLine[] {
  const readable = readableRetryAfter(value);
  return readable === undefined ? [] : [["Retry-After", readable]];
}
