/**
 * Requests that change something at a registry: uploads, manifests, deletions. They go to one upstream and are sent once:
 * no next upstream, no second try, no redirect. Only a challenge is answered, where nothing was done yet.
 *
 *     whole body or none ──▶ ask, and again with the proof its challenge wants
 *     stream             ──▶ proof first (remembered, or what `/v2/` asks for), then once
 */
import { type HeaderLine, UpstreamError } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import { type AddressKind, ruleTowards } from "./address.ts";
import { upstreamUrl } from "./attempt.ts";
import type { Authorizer } from "./authorize.ts";
import { discardBody } from "./body.ts";
import type { AuthorisedRequest } from "./demand.ts";
import { type WriteMethod, nameOf } from "./http.ts";
import type { OutgoingBody } from "./outgoing-body.ts";
import { nextUrl } from "./redirect.ts";
import type { Identity, UpstreamResponse } from "./request.ts";

/** A URL that an answer named, and the kind of the address that answered: where it may lead depends on it. */
export interface Location {
  readonly href: string;
  readonly named: AddressKind;
}

export interface UpstreamWrite {
  readonly registry: Registry;
  /** One of the registry's. */
  readonly upstream: Upstream;
  /** GET and HEAD for the state of an upload. */
  readonly method: WriteMethod | "GET" | "HEAD";
  /** What follows `/v2/` (`"org/app/manifests/v1"`), with its query; or where an earlier answer of this registry led. */
  readonly target: { readonly kind: "path"; readonly path: string } | ({ readonly kind: "location" } & Location);
  readonly headers: readonly HeaderLine[];
  readonly body?: OutgoingBody;
  readonly identity: Identity;
  /** As the upstream spells them: `"repository:org/app:pull,push"`. */
  readonly scopes: readonly string[];
  readonly signal: AbortSignal;
  /** For the headers of a request without a stream; a stream has as long as it gets on. `performance.now()` clock. */
  readonly deadlineMs: number;
  readonly via?: string;
}

export interface WriteResponse extends UpstreamResponse {
  /** The answer's `Location`, made absolute; undefined when it has none. */
  readonly location: Location | undefined;
}

/**
 * @throws UpstreamError `connect`, `tls`, `timeout`, `token`, `refused-address`; `bad-answer` for a redirect
 * @throws the signal's reason, or that of the body's stream
 */
export async function write(request: UpstreamWrite, authorizer: Authorizer): Promise<WriteResponse> {
  const startedAtMs = performance.now();
  const asked = authorised(request);
  const isOnce = request.body?.kind === "stream";
  const response = isOnce ? await authorizer.askOnce(asked) : await authorizer.ask(asked);
  const { status, headers, body } = response;
  if ([301, 302, 303, 307, 308].includes(status)) {
    await discardBody(body);
    throw new UpstreamError("bad-answer", `${nameOf(asked.url)}: redirects a request that writes`);
  }
  const named = headers.get("location");
  const location = named === null ? undefined : { href: nextUrl(named, asked.url).href, named: response.addressKind };
  const elapsedMs = performance.now() - startedAtMs;
  return { status, headers, body, location, upstream: request.upstream, identity: request.identity, elapsedMs };
}

/** Away from the upstream's own origin nothing says who we are (protocol R69), and addresses are judged as in redirects. */
function authorised({ target, upstream, identity, via, headers, ...request }: UpstreamWrite): AuthorisedRequest {
  const url = target.kind === "path" ? upstreamUrl(upstream, target.path) : new URL(target.href);
  const isOwn = url.origin === upstream.origin;
  const from = {
    host: new URL(upstream.origin).hostname,
    rule: { kind: "configured" as const },
    kind: target.kind === "path" ? ("public" as const) : target.named,
  };
  return {
    url,
    method: request.method,
    headers: via === undefined ? headers : [...headers, ["Via", via]],
    ...(request.body !== undefined && { body: request.body }),
    registry: request.registry,
    rule: ruleTowards(url.hostname, from, request.registry.allowAddresses),
    identity: isOwn ? identity : { kind: "anonymous" },
    scopes: isOwn ? request.scopes : undefined,
    pingUrl: isOwn ? upstreamUrl(upstream, "") : undefined,
    signal: request.signal,
    deadlineMs: request.deadlineMs,
  };
}
