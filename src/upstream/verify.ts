/**
 * Is a credential good? Asked when somebody logs in, as docker does: `/v2/`, its challenge, the token or Basic, `/v2/` again.
 */
import { UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { upstreamUrl } from "./attempt.ts";
import { discardBody } from "./body.ts";
import { type AuthorisedRequest, demandOf } from "./demand.ts";
import type { Http, HttpResponse } from "./http.ts";
import type { Credential } from "./request.ts";
import { basicAuthorization, type Tokens } from "./token.ts";
import type { Limits } from "./wait.ts";

export interface VerifyOptions extends Limits {
  /** Scopes as the upstream spells them; empty for a plain login. */
  readonly scopes: readonly string[];
  /** Value of the `Via` header to add, so that a registry or token server that is ourselves is known (protocol R147). */
  readonly via?: string;
}

/** `"unneeded"`: the upstream asks nobody for credentials, so nothing can be said about these. */
export type Verdict = "accepted" | "rejected" | "unneeded";

export interface VerifyDependencies {
  readonly http: Http;
  readonly tokens: Tokens;
}

/** @throws UpstreamError when there was no verdict */
export async function verify(
  { registry, credential, options }: { registry: Registry; credential: Credential; options: VerifyOptions },
  { http, tokens }: VerifyDependencies,
): Promise<Verdict> {
  const ping = pingRequest(registry, credential, options);
  const bare = await statusAndHeaders(http, ping);
  if (bare.status !== 401) return unchallenged(bare, ping);
  const demand = demandOf(bare, ping);
  if (demand === undefined)
    throw new UpstreamError("bad-answer", `${ping.url.origin}: 401 without a challenge we know`);
  const { via } = options;
  if (demand.kind === "basic") {
    const basic = basicAuthorization(credential);
    // An identity token is for token servers: a registry without one has no use for it (protocol R99).
    return basic === undefined ? "rejected" : verdictOf(await statusAndHeaders(http, ping, basic), ping);
  }
  if (!demand.mayReceiveCredentials) {
    throw new UpstreamError(
      "bad-answer",
      `${ping.url.host} wants credentials sent to ${demand.token.realm.host}, which its trustedRealms do not name`,
    );
  }
  const answer = await tokens.fetch({ ...demand.token, credential, ...(via !== undefined && { via }) }, options);
  if (answer.kind === "denied") return "rejected";
  return verdictOf(await statusAndHeaders(http, ping, `Bearer ${answer.token}`), ping);
}

function pingRequest(
  registry: Registry,
  credential: Credential,
  { scopes, via, signal, deadlineMs }: VerifyOptions,
): AuthorisedRequest {
  const upstream = registry.upstreams.find(({ origin }) => origin === credential.origin);
  if (upstream === undefined)
    throw new UpstreamError("bad-answer", `${credential.origin} is no upstream of ${registry.key}`);
  const url = upstreamUrl(upstream, "");
  const identity = { kind: "credential", credential } as const;
  return {
    url,
    method: "GET",
    headers: via === undefined ? [] : [["Via", via]],
    registry,
    rule: { kind: "configured" },
    identity,
    scopes,
    pingUrl: url,
    signal,
    deadlineMs,
  };
}

async function statusAndHeaders(http: Http, ping: AuthorisedRequest, authorization?: string): Promise<HttpResponse> {
  const response = await http.exchange(
    authorization === undefined ? ping : { ...ping, headers: [...ping.headers, ["Authorization", authorization]] },
  );
  await discardBody(response.body);
  return response;
}

function unchallenged({ status }: HttpResponse, ping: AuthorisedRequest): Verdict {
  if (status >= 200 && status < 300) return "unneeded";
  throw new UpstreamError("bad-answer", `${ping.url.origin}: /v2/ answered ${status}, so the login cannot be checked`);
}

function verdictOf({ status }: HttpResponse, ping: AuthorisedRequest): Verdict {
  if (status === 401 || status === 403) return "rejected";
  if (status < 500 && status !== 429) return "accepted";
  throw new UpstreamError("bad-answer", `${ping.url.origin}: /v2/ answered ${status}, so the login cannot be checked`);
}
