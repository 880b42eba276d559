/**
 * In whose names to ask for what everybody may read: configured accounts share that work, the one with most pulls left
 * first, and nobody's pulls are the last resort. What one credential alone may see has no place here (ADR 12).
 */
import { RegistryError, UpstreamError } from "../errors.ts";
import type { ConfiguredCredential } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Credential, Identity, UpstreamClient, UpstreamResponse } from "../upstream/client.ts";
import { configuredCredentials } from "./configured-credential.ts";
import type { PublicRepositories } from "./public-repositories.ts";

export interface SharedAccountsDependencies {
  readonly upstream: Pick<UpstreamClient, "quota">;
  /** @throws UpstreamError `token` when its source gives none */
  readonly credentialOf: (configured: ConfiguredCredential) => Promise<Credential>;
  readonly publicRepositories: Pick<PublicRepositories, "isPublicAt">;
}

export interface SharedAccounts {
  /** Whom to ask as, and whom where that one is limited; nobody alone unless the repository was shown to be public. */
  identities(route: Route): Promise<readonly [Identity, ...Identity[]]>;
  /**
   * Before a manifest is fetched for everybody: where accounts could be used if it were known that the repository is public,
   * a look as nobody finds out. HEAD costs no pull (protocol R208), where nobody's GET may have none left.
   */
  prove(route: Route, asked: Asked, look: (how: typeof LOOK) => Promise<UpstreamResponse>): Promise<void>;
}

interface Asked {
  readonly method: "GET" | "HEAD";
  readonly path: string;
}

const LOOK = { method: "HEAD", standIns: "never" } as const;

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

  return {
    async identities(route) {
      const { registry, repository } = route;
      const open = configuredCredentials(registry, repository).filter(({ origin }) =>
        publicRepositories.isPublicAt(origin, route),
      );
      if (open.length === 0) return [ANONYMOUS];
      const credentials = (await Promise.all(open.map(obtainable))).flat();
      const [first = ANONYMOUS, ...others] = upstream.quota.inTurn(registry, credentials);
      return [first, ...others];
    },
    async prove(route, { method, path }, look) {
      const isCounted = method === "GET" && path.startsWith("manifests/");
      const unproven = configuredCredentials(route.registry, route.repository).filter(
        ({ origin }) => !publicRepositories.isPublicAt(origin, route),
      );
      if (!isCounted || unproven.length === 0) return;
      try {
        const { body } = await look(LOOK);
        await body?.cancel();
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error; // what is wrong the question itself finds out
      }
    },
  };
}
