/**
 * What a request and an answer say about a manifest: under which kinds of Accept it was asked for, what a HEAD told, and
 * whether an error is a verdict at all.
 */
import { RegistryError } from "../errors.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { bareType, isManifestType } from "../registry/mediatype.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { RegistryRequest } from "./access.ts";
import type { CacheState } from "./exchange.ts";
import { acceptFor } from "./manifest.ts";

/** Registries may lead a tag elsewhere for another Accept: the kinds of manifest in it, in one order. */
export function acceptClass(request: RegistryRequest): string {
  const accept = acceptFor(request.exchange.headers.get("accept"));
  const types = accept
    .split(",")
    .map((entry) => bareType(entry))
    .filter((type) => isManifestType(type));
  return [...new Set(types)].sort().join(" ");
}

/** No verdict about the content: the registry, its token server or the way there failed. */
export function isTrouble(error: unknown): error is RegistryError {
  return error instanceof RegistryError && (error.status >= 500 || error.status === 429);
}

/** What a HEAD told, if it told all of it. */
export function factsOf(response: UpstreamResponse): { digest: Digest; mediaType: string; bytes: number } | undefined {
  const digest = parseDigest(response.headers.get("docker-content-digest") ?? "");
  const mediaType = bareType(response.headers.get("content-type"));
  const bytes = Number(response.headers.get("content-length") ?? 0);
  if (digest === undefined || !isVerifiable(digest) || !isManifestType(mediaType) || !(bytes > 0)) return undefined;
  return { digest, mediaType, bytes };
}

/** Said to clients about an answer that could not be checked (protocol R241). */
export function staleWarning(state: CacheState) {
  return state === "STALE" ? ([["Warning", '299 - "stale: the registry cannot be asked now"']] as const) : [];
}
