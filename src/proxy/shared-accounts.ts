/**
 * In whose names to ask for what everybody may read: configured accounts share that work, the one with most pulls left
 * first, and nobody's pulls are the last resort. What one credential alone may see has no place here (ADR 12).
 */
import { UpstreamError } from "../errors.ts";
import type { ConfiguredCredential } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Credential, Identity, UpstreamClient } from "../upstream/client.ts";
import { configuredCredentials } from "./configured-credential.ts";
import type { PublicRepositories } from "./public-repositories.ts";

export interface SharedAccountsDependencies {
  readonly upstream: Pick<UpstreamClient, "quota">;
  /** @throws UpstreamError `token` when its source gives none */
  readonly credentialOf: (configured: ConfiguredCredential) => Promise<Credential>;
  readonly publicRepositories: Pick<PublicRepositories, "isPublicAt">;
}

/** Whom to ask as, and whom where that one is limited; nobody alone unless the repository was shown to be public. */
export type SharedAccounts = (route: Route) => Promise<readonly [Identity, ...Identity[]]>;

export const ANONYMOUS: Identity = { kind: "anonymous" };

export function createSharedAccounts(dependencies: SharedAccountsDependencies): SharedAccounts {
  const { upstream, credentialOf, publicRepositories } = dependencies;

  /** The credential; none where its source fails, since what is public can be had without it. */
  async function obtainable(configured: ConfiguredCredential): Promise<Credential[]> {
    try {
      return [await credentialOf(configured)];
    } catch (error) {
      if (error instanceof UpstreamError) return [];
      throw error;
    }
  }

  return async function sharedAccounts(route) {
    const { registry, repository } = route;
    const open = configuredCredentials(registry, repository).filter(({ origin }) =>
      publicRepositories.isPublicAt(origin, route),
    );
    if (open.length === 0) return [ANONYMOUS];
    const credentials = (await Promise.all(open.map(obtainable))).flat();
    const [first = ANONYMOUS, ...others] = upstream.quota.inTurn(registry, credentials);
    return [first, ...others];
  };
}
