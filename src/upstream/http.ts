/**
 * One HTTP exchange with one host: the only place that calls fetch. It dials the address that was checked, sends only the
 * headers it was given, waits for the response headers under a deadline, and gives a body that tells when it broke.
 * Redirects and challenges come back as they are.
 */
import { type HeaderLine, UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { type AddressKind, type AddressRule, addressKind, addressLiteral, mayName } from "./address.ts";
import { watchBody } from "./body.ts";
import type { Dial } from "./dial.ts";
import { decodeBody, parseEncodings } from "./encoding.ts";
import { failureOf } from "./failure.ts";
import { type BodyFlow, watchFlow } from "./flow.ts";
import { endToEndHeaders, endToEndLines } from "./hop-by-hop.ts";
import { createLeash, type Leash } from "./leash.ts";
import type { UpstreamMeter } from "./meter.ts";
import { lengthLine, type OutgoingBody, outgoing } from "./outgoing-body.ts";
import type { Outlets } from "./outlet.ts";
import type { Limits } from "./wait.ts";

export type WriteMethod = "POST" | "PUT" | "PATCH" | "DELETE";

export interface HttpRequest {
  /** By name, http or https, no userinfo. */
  readonly url: URL;
  readonly method: "GET" | "HEAD" | WriteMethod;
  readonly headers: readonly HeaderLine[];
  /** Absent with GET and HEAD. */
  readonly body?: OutgoingBody;
  /** Whose proxy, TLS and address settings apply. */
  readonly registry: Registry;
  readonly rule: AddressRule;
  readonly signal: AbortSignal;
  /** Moment on the `performance.now()` clock by which the headers must be there. */
  readonly deadlineMs: number;
  /** Told undefined when the host is asked, and the status when it answers. Must not throw. */
  readonly seen?: ((status: number | undefined) => void) | undefined;
}

export interface HttpResponse {
  readonly status: number;
  /** Without hop-by-hop ones and Content-Encoding. */
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array> | null;
  /** How the body is taken; undefined where there is none to take. */
  readonly flow?: BodyFlow | undefined;
  readonly url: URL;
  /** Of the address that answered; `public` when a proxy resolved the name. */
  readonly addressKind: AddressKind;
}

export interface HttpOptions {
  readonly version: string;
  readonly headerTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

export interface Http {
  /**
   * @throws UpstreamError `connect`, `tls`, `timeout`, `refused-address`, `bad-answer`
   * @throws the signal's reason when it aborted
   */
  exchange(request: HttpRequest): Promise<HttpResponse>;
}

/** Artifact Registry and signed redirects send tens of kilobytes (protocol R135); fetch itself sets no limit. */
const MAX_HEADER_CHARACTERS = 256 * 1024;

export interface HttpDependencies {
  readonly dial: Dial;
  readonly outlets: Outlets;
  readonly meter: Pick<UpstreamMeter, "received">;
}

export function createHttp(options: HttpOptions, { dial, outlets, meter }: HttpDependencies): Http {
  async function exchange(asked: HttpRequest): Promise<HttpResponse> {
    const isWrite = asked.method !== "GET" && asked.method !== "HEAD";
    // A write may take long behind its last byte; its caller says how long (protocol R80).
    const limitMs = isWrite ? asked.deadlineMs : performance.now() + options.headerTimeoutMs;
    const request = { ...asked, deadlineMs: Math.min(asked.deadlineMs, limitMs) };
    request.signal.throwIfAborted();
    request.seen?.(undefined);
    const outlet = await outlets.outletFor(request.url, request.registry);
    const isWhole = limitMs <= asked.deadlineMs;
    const dialled = { ...request, reach: isWhole ? ("unreached" as const) : undefined };
    const way = outlet.kind === "proxied" ? proxiedWay(request) : await directWay(dialled, dial);
    const what = `${nameOf(request.url)}${outlet.through}`;
    const startedAtMs = performance.now();
    const leash = createLeash({ ...request, what, reach: isWhole ? "silent" : undefined });
    try {
      const response = await outlet.fetch(way.url, {
        method: request.method,
        headers: headersOf(request),
        signal: leash.signal,
        ...(isWrite && { keepalive: false }), // a kept connection that has gone stale would fail what cannot be repeated
        ...(request.body !== undefined && { body: outgoing(request.body, leash, options.idleTimeoutMs) }),
      });
      leash.arrived();
      const answer = receive(response, { request, way, leash, what });
      request.seen?.(answer.status);
      return answer;
    } catch (cause) {
      leash.cut();
      const why = outlet.refusalSince(startedAtMs);
      const failure = failureOf(cause, { what, signal: request.signal, during: "headers", why });
      if (failure instanceof UpstreamError && failure.kind !== "bad-answer") way.forget();
      const isSilence = failure instanceof UpstreamError && failure.reach === "silent" && !isWrite;
      throw (isSilence ? await way.lost({ ...asked, reach: "unreached" }) : undefined) ?? failure;
    }
  }

  function headersOf(request: HttpRequest): [string, string][] {
    const own: HeaderLine[] = [
      ["Host", request.url.host],
      ["User-Agent", `layover/${options.version}`],
    ];
    const length = request.body === undefined ? [] : lengthLine(request.body);
    return [...own, ...endToEndLines(request.headers), ...length].map(([name, value]) => [name, value]);
  }

  function receive(response: Response, { request, way, leash, what }: Received): HttpResponse {
    checkHead(response, what);
    const headers = endToEndHeaders(response.headers);
    const decoders = parseEncodings(headers.get("content-encoding"), what);
    if (decoders.length > 0 && response.status === 206)
      throw new UpstreamError("bad-answer", `${what}: a range of encoded content`);
    const flow = watchFlow(leash.ended);
    const body = response.body === null ? null : watch(response.body);
    if (body === null) leash.release();
    headers.delete("content-encoding");
    // The length was that of the wire, not of what the reader gets (protocol R225).
    if (decoders.length > 0) headers.delete("content-length");
    const isPlain = body === null || decoders.length === 0;
    return {
      status: response.status,
      headers,
      body: isPlain ? body : decodeBody(body, decoders, what),
      flow: body === null ? undefined : flow,
      url: request.url,
      addressKind: way.addressKind,
    };

    function watch(source: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
      return watchBody(source, {
        length: lengthOf(headers),
        idleTimeoutMs: options.idleTimeoutMs,
        what,
        translate: (cause) => failureOf(cause, { what, signal: request.signal, during: "body" }),
        wanted: flow.wanted,
        received(bytes) {
          flow.taken();
          meter.received(request.registry.key, bytes);
        },
        ended: (how) => (how === "complete" ? leash.release() : leash.cut()),
      });
    }
  }

  return { exchange };
}

interface Received {
  readonly request: HttpRequest;
  readonly way: Way;
  readonly leash: Leash;
  readonly what: string;
}

/** The URL that is fetched, and where it leads. */
interface Way {
  readonly url: string;
  readonly addressKind: AddressKind;
  /** Called when it proved wrong. */
  forget(): void;
  /** Why a host that fell silent cannot be reached at all, if so: its address was chosen up to a minute ago. */
  lost(limits: Limits): Promise<UpstreamError | undefined>;
}

/** By the address that was checked: fetch sends `Host` and checks the certificate against the session's server name. */
async function directWay({ url, rule, ...limits }: HttpRequest & Limits, dial: Dial): Promise<Way> {
  const target = { host: url.hostname, port: Number(url.port) || (url.protocol === "https:" ? 443 : 80), rule };
  const { address, kind } = await dial.reach(target, limits);
  const host = address.includes(":") ? `[${address}]` : address;
  const pinned = `${url.protocol}//${host}:${target.port}${url.pathname}${url.search}`;
  return {
    url: pinned,
    addressKind: kind,
    forget: () => dial.forget(target),
    async lost(again) {
      try {
        await dial.reach(target, again);
      } catch (error) {
        if (error instanceof UpstreamError && error.reach === "unreached") return error;
      }
      return undefined;
    },
  };
}

/** The proxy resolves the name, so only what the name itself says can be judged here. */
function proxiedWay({ url, rule }: HttpRequest): Way {
  if (!mayName(url.hostname, rule)) throw new UpstreamError("refused-address", `${url.host} may not be dialled`);
  const literal = addressLiteral(url.hostname);
  return {
    url: url.href,
    addressKind: literal === undefined ? "public" : addressKind(literal),
    forget: () => undefined,
    lost: () => Promise.resolve(undefined),
  };
}

function checkHead(response: Response, what: string): void {
  if (response.status < 200 || response.status > 599)
    throw new UpstreamError("bad-answer", `${what}: status ${response.status}`);
  // fetch gives the answer of an outgoing proxy that wants a password like the host's own (RFC 9110 section 15.5.8).
  if (response.status === 407)
    throw new UpstreamError("connect", `${what}: the outgoing proxy asks for authentication`);
  let characters = 0;
  for (const [name, value] of response.headers) characters += name.length + value.length;
  if (characters > MAX_HEADER_CHARACTERS)
    throw new UpstreamError("bad-answer", `${what}: ${characters} characters of headers`);
}

function lengthOf(headers: Headers): number | undefined {
  const text = headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** A URL as it may stand in errors and logs: no query (signed), no userinfo (protocol R248). */
export function nameOf(url: URL): string {
  return `${url.origin}${url.pathname}`;
}
