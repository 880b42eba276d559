/**
 * Repositories that everybody may read, as the answers to anonymous requests show: what is in here may be asked with configured
 * credentials for anybody, and named to every upstream. Forgotten after a quarter of an hour, and with the first refusal.
 */
import { LRUCache } from "lru-cache";
import type { Registry, Upstream } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { UpstreamResponse } from "../upstream/client.ts";

export interface PublicRepositories {
  /** At every upstream of the registry that has this origin, and so would be shown its credential. */
  isPublicAt(origin: string, route: Pick<Route, "registry" | "repository">): boolean;
  /** What an anonymous request for `path` (`"manifests/latest"`) was answered. */
  answered(route: Route, asked: { readonly path: string }, answer: Pick<UpstreamResponse, "status" | "upstream">): void;
}

/** Docker Hub's own images, which are for everybody (product section 5). */
export function isPublicByDefinition({ registry, repository }: Pick<Route, "registry" | "repository">): boolean {
  return registry.isDockerHub && repository.startsWith("library/");
}

/** How long an anonymous 200 proves a repository public. */
const PUBLIC_TTL_MS = 15 * 60_000;
/** Enough for every repository of a busy farm; an entry is some 200 bytes. */
const MAX_PUBLIC = 20_000;

export function createPublicRepositories(): PublicRepositories {
  const known = new LRUCache<string, true>({ max: MAX_PUBLIC, ttl: PUBLIC_TTL_MS });
  return {
    isPublicAt(origin, { registry, repository }) {
      const shown = registry.upstreams.filter((upstream) => upstream.origin === origin);
      return shown.length > 0 && shown.every((upstream) => known.has(publicKey(registry, upstream, repository)));
    },
    answered({ registry, repository }, { path }, { status, upstream }) {
      if (status === 200 && path.startsWith("manifests/")) known.set(publicKey(registry, upstream, repository), true);
      // Lists are closed to strangers at some registries whose content is not.
      if ((status === 401 || status === 403) && /^(manifests|blobs)\//.test(path))
        for (const each of registry.upstreams) known.delete(publicKey(registry, each, repository));
    },
  };
}

/**
 * By upstream: what a mirror shows to everybody says nothing about the first upstream's repository of that name, and one origin
 * holds several projects, which registries of the map name by prefixes. By registry too, since its client certificate may
 * have opened what is not public.
 */
function publicKey({ key }: Registry, { origin, basePath, namePrefix }: Upstream, repository: string): string {
  return `${key} ${origin}${basePath} ${namePrefix}${repository}`;
}
