/**
 * One request to one upstream, up to its final answer: authorised, redirects followed, HEAD kept HEAD where the upstream
 * can answer it.
 */
import { type HeaderLine, UpstreamError } from "../errors.ts";
import type { Upstream } from "../registry/registry.ts";
import type { Authorizer } from "./authorize.ts";
import type { AuthorisedRequest } from "./demand.ts";
import { answerHead, needsGet } from "./head.ts";
import { type HttpResponse, nameOf } from "./http.ts";
import { follow } from "./redirect.ts";
import type { UpstreamRequest } from "./request.ts";

/** Never taken from a caller: who we are is the identity's matter, and the rest is set for each host. */
const OWN_HEADERS = new Set(["authorization", "content-length", "cookie", "host", "user-agent"]);

/** A request to one upstream. */
export interface Attempted extends UpstreamRequest {
  /** Told undefined when the upstream itself is asked, and its status when it answers. */
  readonly seen: (status: number | undefined) => void;
}

/** @throws UpstreamError of every kind; the signal's reason */
export async function attempt(upstream: Upstream, request: Attempted, authorizer: Authorizer): Promise<HttpResponse> {
  const first = firstHop(upstream, request);
  const ask = (hop: AuthorisedRequest) => follow(hop, { ask: authorizer.ask, strip });
  const answer = await ask(first);
  const isHead = request.method === "HEAD";
  const final =
    isHead && needsGet(answer, first, request.path)
      ? await answerHead(answer, { first, ask, path: request.path })
      : answer;
  await refuseStorageRefusal(final, first);
  return final;
}

/**
 * Looks how an upstream is, with the same question as HEAD and no redirect followed: it costs no pull (protocol R208).
 * @throws as `attempt`
 */
export function look(upstream: Upstream, request: Attempted, authorizer: Authorizer): Promise<HttpResponse> {
  return authorizer.ask(firstHop(upstream, { ...request, method: "HEAD" }));
}

/** The URL of a path of the registry API at this upstream (protocol R145). */
export function upstreamUrl(upstream: Upstream, pathAndQuery: string): URL {
  return new URL(`${upstream.origin}${upstream.basePath}/v2/${pathAndQuery}`);
}

function firstHop(upstream: Upstream, request: Attempted): AuthorisedRequest {
  const name = `${upstream.namePrefix}${request.repository}`;
  const query = request.query === "" ? "" : `?${request.query}`;
  const given = request.headers.filter(([header]) => !OWN_HEADERS.has(header.toLowerCase()));
  const via: HeaderLine[] = request.via === undefined ? [] : [["Via", request.via]];
  return {
    url: upstreamUrl(upstream, `${name}/${request.path}${query}`),
    method: request.method,
    headers: [...given, ...via],
    registry: request.registry,
    rule: { kind: "configured" },
    identity: request.identity,
    // Pull alone: ghcr.io refuses anonymous requests for more (protocol R114).
    scopes: [`repository:${name}:pull`],
    pingUrl: upstreamUrl(upstream, ""),
    signal: request.signal,
    deadlineMs: request.deadlineMs,
    seen: request.seen,
  };
}

/** What another origin gets: no identity, and no scope of ours, since names there are not ours (protocol R42, R149). How it is, is not seen. */
function strip(request: AuthorisedRequest): AuthorisedRequest {
  return { ...request, identity: { kind: "anonymous" }, scopes: undefined, pingUrl: undefined, seen: undefined };
}

/**
 * A refusal by the storage behind a registry says nothing about who may read: a signature ran out, or a clock is off
 * (T24). The registry is asked again for a fresh URL; a second registry's refusal (protocol R132) stays what it is.
 */
async function refuseStorageRefusal(answer: HttpResponse, first: AuthorisedRequest): Promise<void> {
  const isStorage = answer.url.origin !== first.url.origin && !answer.url.pathname.includes("/v2/");
  if (!isStorage || ![400, 401, 403].includes(answer.status)) return;
  await answer.body?.cancel();
  throw new UpstreamError(
    "bad-answer",
    `${nameOf(answer.url)}: the storage of ${first.url.host} answered ${answer.status}`,
    {
      status: answer.status,
    },
  );
}
