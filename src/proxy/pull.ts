/**
 * How a manifest or blob is pulled: through the cache where there is one and the repository is public, else straight from
 * the upstream.
 */
import { StoreError } from "../cache/store.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { type BlobEndpoint, serveBlob } from "./blob.ts";
import { type Cache, placeOf, stateLines } from "./cache.ts";
import { createCachedBlobs } from "./cached-blob.ts";
import { createCachedManifests } from "./cached-manifest.ts";
import type { Reply } from "./exchange.ts";
import { type ManifestEndpoint, serveManifest } from "./manifest.ts";
import type { Change } from "./push.ts";
import { createGrants } from "./grants.ts";

export interface Pull {
  manifest(request: RegistryRequest, endpoint: ManifestEndpoint): Promise<Reply>;
  blob(request: RegistryRequest, endpoint: BlobEndpoint): Promise<Reply>;
  /** A write may have changed what is known: it is forgotten, and the registry asked at the next pull (protocol R78). */
  changed(request: RegistryRequest, change: Change): void;
}

export function createPull(access: Access, cache: Cache | undefined): Pull {
  const straight: Pull = {
    manifest: (request, endpoint) => serveManifest(access, request, endpoint),
    blob: (request, endpoint) => serveBlob(access, request, endpoint),
    changed: () => undefined,
  };
  if (cache === undefined) return straight;
  const grants = createGrants({ ttlMs: cache.grantTtlMs }, cache, access);
  const manifests = createCachedManifests(cache, access, grants);
  const blobs = createCachedBlobs(cache, access, grants);
  return {
    manifest: async (request, endpoint) =>
      (await unlessBroken(cache, () => manifests.serve(request, endpoint))) ??
      bypassed(cache, request, await straight.manifest(request, endpoint)),
    blob: async (request, endpoint) =>
      (await unlessBroken(cache, () => blobs(request, endpoint))) ??
      bypassed(cache, request, await straight.blob(request, endpoint)),
    changed({ route }, change) {
      const place = placeOf(route);
      if (change.kind === "digest-gone") cache.records.unlink(place, change.digest);
      else for (const tag of change.tags) cache.records.removeTag(place, tag);
      manifests.tagsChanged();
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
