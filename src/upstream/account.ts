/**
 * Whom a registry counts: a credential or nobody, at one host, through one way out. Nobody is counted by address, so that another
 * outgoing proxy is another account.
 */
import type { Registry } from "../registry/registry.ts";
import { chooseProxy, type OutgoingProxies } from "./proxy.ts";
import type { Credential } from "./request.ts";

/** Who asks whom for what. */
export interface Asking {
  readonly registry: Registry;
  /** Of the host that is asked: an upstream, or a token server. */
  readonly origin: string;
  /** The one that is shown there; undefined for nobody. */
  readonly credential: Credential | undefined;
  /** What is limited by itself: the manifests of an upstream, the tokens of a token server. */
  readonly subject: "manifests" | "tokens";
}

/** What is kept of an asking: neither the credential, whose password is nobody's here, nor a map that was loaded anew since. */
export interface Account {
  /** Tells accounts apart, and holds no secret that may be shown: a proxy's URL may have a password. */
  readonly key: string;
  /** `"anonymous"`, the configured user's name, or undefined for a client's own login, which is nobody else's business. */
  readonly name: string | undefined;
  readonly isNobody: boolean;
  /** Key of the registry that was asked first. */
  readonly registry: string;
  readonly origin: string;
  readonly subject: Asking["subject"];
}

/** As a user name in labels and logs; a registry's longest have some tens of characters. */
const MAX_NAME_CHARACTERS = 64;

/** @throws UpstreamError `connect` for an outgoing proxy that cannot be used */
export function accountOf({ registry, origin, credential, subject }: Asking, proxies: OutgoingProxies): Account {
  const way = chooseProxy(new URL(origin), registry, proxies);
  const asker = credential === undefined ? null : credential.id;
  return {
    key: JSON.stringify([subject, origin, asker, way.kind === "direct" ? null : way.url]),
    name: credential === undefined ? "anonymous" : credential.account?.slice(0, MAX_NAME_CHARACTERS),
    isNobody: credential === undefined,
    registry: registry.key,
    origin,
    subject,
  };
}
