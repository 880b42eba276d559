/** Answers made of manifests that are kept, and whether what is kept would be lost by what a registry tells now. */
import type { Store } from "../cache/store.ts";
import type { TagRecord } from "../cache/records.ts";
import { parseDigest } from "../registry/digest.ts";
import { type Cache, stateLines } from "./cache.ts";
import type { Reply } from "./exchange.ts";
import type { ReadRequest } from "./grants.ts";
import { type ManifestEndpoint, manifestReply } from "./manifest.ts";
import { type Found, staleWarning } from "./manifest-facts.ts";

/** @param content null for HEAD */
export function keptReply(
  cache: Cache,
  { request, endpoint }: { readonly request: ReadRequest; readonly endpoint: ManifestEndpoint },
  { found, content }: { readonly found: Found; readonly content: Uint8Array | null },
): Reply {
  cache.records.used(found.digest.text, cache.now());
  return manifestReply(request, endpoint, {
    digest: found.digest.text,
    mediaType: found.mediaType,
    bytes: content,
    length: String(content?.byteLength ?? found.bytes),
    passed: [...stateLines(cache, request, found.state), ...staleWarning(found.state)],
  });
}

/** Whether the content of a tag's record is here, and that of what the registry tells now is not. */
export async function isBetterKept(store: Store, known: TagRecord, told: Found): Promise<boolean> {
  const before = parseDigest(known.digest);
  if (before === undefined || before.text === told.digest.text || told.content !== undefined) return false;
  return (await store.find(told.digest)) === undefined && (await store.find(before)) !== undefined;
}
