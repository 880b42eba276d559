/**
 * Step 0 of every request: the raw request line and header lines are checked once, before anything is built from them.
 * What passes has one Host that matches the grammar (protocol R17), a known method, and a target that means the same to
 * every reader: no encoded slash, no dot component, no second spelling (protocol R251, R252, R254).
 * Pure. Nothing of the input is repeated in a refusal, so a refusal cannot be used to reflect anything.
 */
import { RegistryError } from "../errors.ts";
import type { ErrorCode, HeaderLine } from "../errors.ts";
import { parseHost } from "./host.ts";
import type { Host } from "./host.ts";

/** The methods the API knows; whether one is allowed on a path is decided later. */
export const KNOWN_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;
export type KnownMethod = (typeof KNOWN_METHODS)[number];

/** Longest real path: a 255 character name, a 128 character tag or a digest, and a learnt token URL in front of it. */
export const MAX_PATH_LENGTH = 8 * 1024;
/** Upload states and signed parameters are long; more than this is not a registry request. */
export const MAX_QUERY_LENGTH = 16 * 1024;
/** Bun refuses some 197 lines on sockets it accepts itself and any number on sockets handed to it: one bound for both. */
export const MAX_HEADER_LINES = 200;

/** A request as the parser gives it. */
export interface RawRequest {
  readonly method: string;
  /** The request target as it came. */
  readonly url: string;
  /** `"1.1"`, `"1.0"`. */
  readonly httpVersion: string;
  /** Name, value, name, value, in the order they came. */
  readonly rawHeaders: readonly string[];
}

export type CheckedRequest =
  | {
      readonly kind: "ok";
      readonly method: KnownMethod;
      /** Starts with `/`; see {@link checkRawRequest} for what it may hold. */
      readonly path: string;
      /** Without `?`; `""` when there is none. */
      readonly query: string;
      /** Undefined only for HTTP/1.0 without Host. */
      readonly host: Host | undefined;
    }
  | { readonly kind: "refused"; readonly error: RegistryError };

/**
 * Checks a raw request. Paths hold unreserved and sub-delimiter characters, `:`, `@` and `/`, and `%` only as `%3A`;
 * below `/token/`, whose rest is the URL of a token server used as a key, also `//` and any printable character encoded.
 */
export function checkRawRequest(request: RawRequest): CheckedRequest {
  const method = KNOWN_METHODS.find((known) => known === request.method);
  if (method === undefined) return refusedMethod();
  if (request.httpVersion !== "1.1" && request.httpVersion !== "1.0")
    return refused("UNKNOWN", 400, "expected HTTP/1.1");
  if (request.rawHeaders.length > 2 * MAX_HEADER_LINES)
    return refused("UNKNOWN", 431, `more than ${MAX_HEADER_LINES} header lines`);
  const framing = framingFault(request.rawHeaders);
  if (framing !== undefined) return refused("UNKNOWN", 400, framing);

  const hosts = valuesOf(request.rawHeaders, "host");
  if (hosts.length > 1) return refused("UNKNOWN", 400, "more than one Host header");
  if (hosts.length === 0 && request.httpVersion !== "1.0") return refused("UNKNOWN", 400, "no Host header");
  const host = hosts[0] === undefined ? undefined : parseHost(hosts[0]);
  if (hosts.length === 1 && host === undefined)
    return refused("UNKNOWN", 400, "the Host header is not a host name or address");

  if (request.url === "*")
    return method === "OPTIONS" ? refusedMethod() : refused("UNKNOWN", 400, "the target is not a path");
  const target = originForm(request.url, host);
  if (target === undefined) return refused("UNKNOWN", 400, "the target is neither a path nor a URL of the Host");
  return checkTarget(method, target, host);
}

function checkTarget(method: KnownMethod, target: string, host: Host | undefined): CheckedRequest {
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? "" : target.slice(mark + 1);
  if (path.length > MAX_PATH_LENGTH)
    return refused("UNKNOWN", 414, `the path is longer than ${MAX_PATH_LENGTH} characters`);
  if (query.length > MAX_QUERY_LENGTH)
    return refused("UNKNOWN", 414, `the query is longer than ${MAX_QUERY_LENGTH} characters`);
  const fault = pathFault(path);
  if (fault !== undefined) return refused("NAME_INVALID", 400, fault);
  // Printable ASCII but "#", which no client sends: a fragment stays in the client.
  if (!/^[!"$-~]*$/.test(query)) return refused("UNKNOWN", 400, "the query holds characters that must be encoded");
  return { kind: "ok", method, path, query, host };
}

/** RFC 3986 pchar without `%`, and the slash. Backslash, control and other characters have no place in a path. */
const PATH_CHARACTERS = /^[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*$/;
const TOKEN_PREFIX = "/token/";

function pathFault(path: string): string | undefined {
  if (!PATH_CHARACTERS.test(path)) return "the path holds characters that are not allowed in it";
  if (hasDotComponent(path)) return "the path holds a . or .. component";
  if (path.startsWith(TOKEN_PREFIX)) return tokenPathFault(path.slice(TOKEN_PREFIX.length));
  if (path.includes("//")) return "the path holds an empty component";
  // %3A is the one encoding that clients send, in digests (protocol R252); an encoded slash would be read differently upstream.
  if (path.includes("%") && !/^(?:[^%]|%3[Aa])*$/.test(path))
    return "the path holds an encoded character other than %3A";
  return undefined;
}

function tokenPathFault(rest: string): string | undefined {
  // Complete escapes of printable ASCII only, so that decoding the key can neither fail nor make a control character.
  if (!/^(?:[^%]|%[2-6][0-9A-Fa-f]|%7[0-9A-Ea-e])*$/.test(rest)) return "the path holds a malformed escape";
  return undefined;
}

/** Sees `%2e` too: below `/token/` the key is compared after decoding. */
function hasDotComponent(path: string): boolean {
  return /(?:^|\/)(?:\.|%2[Ee]){1,2}(?:\/|$)/.test(path);
}

/** The path and query of a target; of an absolute-form one only when it names the same authority as Host (RFC 9112 3.2.2). */
function originForm(url: string, host: Host | undefined): string | undefined {
  if (url.startsWith("/")) return url;
  const match = /^https?:\/\/([^/?#]*)(.*)$/i.exec(url);
  const [, authority = "", rest = ""] = match ?? [];
  if (match === null || host === undefined || parseHost(authority)?.text !== host.text) return undefined;
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/** Two lengths, or a length and a coding, are read differently by different parsers: request smuggling (protocol R223, RFC 9112 6.3). */
function framingFault(rawHeaders: readonly string[]): string | undefined {
  const lengths = valuesOf(rawHeaders, "content-length");
  const codings = valuesOf(rawHeaders, "transfer-encoding");
  if (lengths.length > 1) return "more than one Content-Length header";
  if (lengths.length + codings.length > 1) return "more than one header says how long the body is";
  if (lengths[0] !== undefined && !/^\d{1,15}$/.test(lengths[0])) return "Content-Length is not a number";
  if (codings[0] !== undefined && codings[0].toLowerCase() !== "chunked") return "expected Transfer-Encoding: chunked";
  return undefined;
}

function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const written = rawHeaders[i] ?? "";
    if (written.length === name.length && written.toLowerCase() === name) values.push(rawHeaders[i + 1] ?? "");
  }
  return values;
}

function refusedMethod(): CheckedRequest {
  const allow: HeaderLine[] = [["Allow", KNOWN_METHODS.join(", ")]];
  return {
    kind: "refused",
    error: new RegistryError("UNSUPPORTED", "the method is not supported", { headers: allow }),
  };
}

function refused(code: ErrorCode, status: number, message: string): CheckedRequest {
  return { kind: "refused", error: new RegistryError(code, message, { status }) };
}
