/**
 * What a host demands before it answers, read from its challenge (protocol R92, R113, R125): realm and service are the
 * challenge's, the scope is ours, since what challenges name may be a placeholder (ghcr.io) or too much.
 */
import { parseChallenges } from "../registry/challenge.ts";
import { parseScopes } from "../registry/scope.ts";
import { type AddressKind, ruleTowards } from "./address.ts";
import type { HttpRequest, HttpResponse } from "./http.ts";
import { mayReceiveCredentials, parseRealm } from "./realm.ts";
import type { Credential, Identity } from "./request.ts";
import type { TokenRequest } from "./token.ts";

export interface AuthorisedRequest extends HttpRequest {
  readonly identity: Identity;
  /**
   * The scopes to ask for, in the upstream's spelling. Undefined at a host that a redirect led to, where names are not ours:
   * then the scope follows from the path, else from the challenge (protocol R132).
   */
  readonly scopes: readonly string[] | undefined;
  /** `/v2/` of this upstream, where a 401 without a challenge is explained (protocol R116); undefined at foreign hosts. */
  readonly pingUrl: URL | undefined;
}

/** How a host wants to be asked. `addressKind` is that of the host which said so. */
export type Demand =
  | { readonly kind: "basic"; readonly addressKind: AddressKind }
  | {
      readonly kind: "bearer";
      readonly addressKind: AddressKind;
      readonly token: Omit<TokenRequest, "credential">;
      /** True when the realm may see credentials for this host (protocol R105). */
      readonly mayReceiveCredentials: boolean;
    };

/**
 * The demand of an answer, Bearer before Basic; undefined when it names neither.
 * @throws UpstreamError `bad-answer` for a realm that is no URL or downgrades to http
 */
export function demandOf(response: HttpResponse, request: AuthorisedRequest): Demand | undefined {
  const challenges = parseChallenges(response.headers.get("www-authenticate") ?? "");
  const { addressKind } = response;
  const bearer = challenges.find(({ scheme, parameters }) => scheme === "bearer" && parameters.has("realm"));
  const basic: Demand | undefined = challenges.some(({ scheme }) => scheme === "basic")
    ? { kind: "basic", addressKind }
    : undefined;
  if (bearer === undefined) return basic;
  const { url, registry } = request;
  const realm = parseRealm(bearer.parameters.get("realm") ?? "", url);
  const isTrusted = mayReceiveCredentials(realm, url, registry.trustedRealms);
  // The credential could go nowhere but to the host itself, which takes it.
  if (basic !== undefined && !isTrusted && ownCredential(request) !== undefined) return basic;
  const token = {
    registry,
    origin: url.origin,
    realm,
    rule: ruleTowards(
      realm.hostname,
      { host: url.hostname, rule: request.rule, kind: addressKind },
      registry.allowAddresses,
    ),
    service: bearer.parameters.get("service") || undefined,
    scopes: request.scopes ?? foreignScopes(url, bearer.parameters.get("scope") ?? ""),
  };
  return { kind: "bearer", addressKind, token, mayReceiveCredentials: isTrusted };
}

/** The credential, where it belongs to the origin that is asked. */
export function ownCredential({ identity, url }: Pick<AuthorisedRequest, "identity" | "url">): Credential | undefined {
  return identity.kind === "credential" && identity.credential.origin === url.origin ? identity.credential : undefined;
}

/** At a foreign registry: what the path names; at something else: what it asks for, but never more than pull. */
function foreignScopes(url: URL, challenged: string): string[] {
  const repository = /\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\/[^/]+$/.exec(url.pathname)?.[1];
  if (repository !== undefined) return [`repository:${repository}:pull`];
  const repositories = parseScopes(challenged).filter(({ type }) => type === "repository");
  return repositories.map(({ name }) => `repository:${name}:pull`);
}
