/**
 * How a manifest or blob is pulled: through the cache where there is one and the repository is public, else straight from
 * the upstream.
 */
import { StoreError } from "../cache/store.ts";
import type { Registry } from "../registry/registry.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { type BlobDependencies, type BlobEndpoint, serveBlob } from "./blob.ts";
import { type Cache, placesOf, stateLines } from "./cache.ts";
import { createCachedBlobs } from "./cached-blob.ts";
import { createCachedManifests } from "./cached-manifest.ts";
import type { Reply } from "./exchange.ts";
import { type ManifestEndpoint, serveManifest } from "./manifest.ts";
import type { Change, Outcome } from "./push.ts";
import { createGrants } from "./grants.ts";
import { isTrouble } from "./manifest-facts.ts";

export interface Pull {
  manifest(request: RegistryRequest, endpoint: ManifestEndpoint): Promise<Reply>;
  blob(request: RegistryRequest, endpoint: BlobEndpoint): Promise<Reply>;
  /**
   * A write has changed what is known: it is forgotten, and the registry asked at the next pull (protocol R78). Of an outcome
   * that nobody knows nothing is forgotten, since the registry may be away; it is asked as soon as it can be.
   */
  changed(request: RegistryRequest, change: Change, outcome: Outcome): void;
}

export interface PullDependencies extends BlobDependencies {
  readonly cache: Cache | undefined;
  /** Whether clients push to this registry through us. Default: never. */
  readonly takesWrites?: (registry: Registry) => boolean;
}

export function createPull({ cache, takesWrites = () => false, ...dependencies }: PullDependencies): Pull {
  const { access } = dependencies;
  const straight: Pull = {
    manifest: (request, endpoint) => serveManifest(access, request, endpoint),
    blob: (request, endpoint) => serveBlob(dependencies, request, endpoint),
    changed: () => undefined,
  };
  return cache === undefined ? straight : cachedPull(access, { cache, straight, takesWrites });
}

interface CachedPullParts {
  readonly cache: Cache;
  /** Past the cache. */
  readonly straight: Pull;
  readonly takesWrites: (registry: Registry) => boolean;
}

function cachedPull(access: Access, { cache, straight, takesWrites }: CachedPullParts): Pull {
  const { records } = cache;
  const grants = createGrants({ ttlMs: cache.grantTtlMs }, cache, access);
  const manifests = createCachedManifests(cache, access, grants);
  const blobs = createCachedBlobs(cache, access, grants);

  /**
   * Before a push clients ask by HEAD what they may leave out. What we remember may be gone from the registry, which would then
   * refuse their manifest, again and again: such a question goes to the registry, as long as it answers.
   */
  async function asked(request: RegistryRequest, ask: () => Promise<Reply>): Promise<Reply | undefined> {
    const { exchange, endpoint, route } = request;
    const isByDigest =
      endpoint.kind === "blob" || (endpoint.kind === "manifest" && endpoint.reference.kind === "digest");
    if (exchange.method !== "HEAD" || !isByDigest || !takesWrites(route.registry)) return undefined;
    if (cache.outages.isFailing(route)) return undefined;
    try {
      return bypassed(cache, request, await ask());
    } catch (error) {
      if (!isTrouble(error)) throw error;
      cache.outages.failed(route, error);
      return undefined;
    }
  }

  return {
    manifest: async (request, endpoint) =>
      (await asked(request, () => straight.manifest(request, endpoint))) ??
      (await unlessBroken(cache, () => manifests.serve(request, endpoint))) ??
      bypassed(cache, request, await straight.manifest(request, endpoint)),
    blob: async (request, endpoint) =>
      (await asked(request, () => straight.blob(request, endpoint))) ??
      (await unlessBroken(cache, () => blobs.serve(request, endpoint))) ??
      bypassed(cache, request, await straight.blob(request, endpoint)),
    changed({ route }, change, outcome) {
      for (const place of placesOf(route)) {
        manifests.changed(place, change.kind === "tags" ? change.tags : [change.digest]);
        if (outcome === "unknown") continue;
        if (change.kind === "tags") for (const tag of change.tags) records.removeTag(place, tag);
        else records.unlink(place, change.digest);
        if (change.kind === "digest-gone") blobs.gone(place, change.digest);
      }
    },
  };
}

/** A store that fails fails no pull: undefined sends the request past it. */
async function unlessBroken(cache: Cache, serve: () => Promise<Reply | undefined>): Promise<Reply | undefined> {
  try {
    return await serve();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    cache.log.warn({ reason: error.message }, "the cache cannot be read: passing a pull by");
    return undefined;
  }
}

function bypassed(cache: Cache, request: RegistryRequest, reply: Reply): Reply {
  return { ...reply, headers: [...reply.headers, ...stateLines(cache, request, "BYPASS")] };
}
