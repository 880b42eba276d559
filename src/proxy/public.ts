/**
 * Which repositories anybody may read. Cached content is shown to everybody, so a repository must be shown to be public
 * first: an anonymous request for a manifest was answered 200. That holds for a quarter of an hour and is then asked again;
 * while the registry cannot be asked it goes on holding for a day (product section 5).
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";
import { EVERYBODY, type Place, type Records } from "../cache/records.ts";
import { isManifestType } from "../registry/mediatype.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { type Cache, detached, placeOf } from "./cache.ts";
import { errorOfAnswer } from "./refusal.ts";

export interface PublicRepositories {
  /** Whether the repository is known to be public, asking upstream when that was long ago. Never rejects. */
  isPublic(request: RegistryRequest): Promise<boolean>;
  /** An anonymous request for this manifest was answered 200. */
  proven(place: Place, manifestDigest: string): void;
  /** An anonymous request was refused with 401 or 403. */
  refuted(place: Place): void;
  /** Refused so lately that asking again is no use: the client's own credentials decide, and the cache is passed by. */
  isRefuted(place: Place): boolean;
}

const TTL_MS = 15 * 60_000;
const REFUTED_MS = 60_000;
/** An entry is some 200 bytes. */
const MAX_REFUTED = 10_000;
const EXTENDED_MS = 24 * 60 * 60_000;
/** A client waits for this answer; when it does not come in time, what was known goes on holding (lesson T9). */
const BUDGET_MS = 3_000;

export function createPublicRepositories(cache: Cache, access: Access): PublicRepositories {
  // One per repository that is being asked about: bounded by the requests under way.
  const asking = new Map<string, Promise<boolean>>();
  const refutedUntil = new LRUCache<string, true>({ max: MAX_REFUTED, ttl: REFUTED_MS });
  const { records, outages, now } = cache;

  function refuted(place: Place): void {
    records.dropGrant(place, EVERYBODY);
    refutedUntil.set(keyOf(place), true);
  }

  async function askAgain(request: RegistryRequest, place: Place, proof: string): Promise<boolean | undefined> {
    const { registry } = request.route;
    if (outages.isDown(registry)) return undefined;
    try {
      const question = { method: "HEAD" as const, path: `manifests/${proof}`, query: "", headers: [] };
      const response = await access.askForAll(detached(request, new AbortController().signal, BUDGET_MS), question);
      if (response.status === 200 && isManifestType(response.headers.get("content-type"))) {
        records.setGrant(place, EVERYBODY, { proof, checkedMs: now() });
        return true;
      }
      if (response.status === 401 || response.status === 403 || response.status === 404) {
        refuted(place);
        return false;
      }
      outages.failed(registry, await errorOfAnswer(response, request));
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      outages.failed(registry, error);
      cache.log.debug({ registry: registry.key, err: error }, "whether a repository is public cannot be asked now");
    }
    return undefined;
  }

  async function renew(request: RegistryRequest, place: Place, grant: NonNullable<ReturnType<Records["grant"]>>) {
    const verdict = await askAgain(request, place, grant.proof);
    return verdict ?? isExtended(grant);
  }

  function isExtended({ checkedMs }: { readonly checkedMs: number }): boolean {
    return now() - checkedMs < EXTENDED_MS;
  }

  return {
    async isPublic(request) {
      const { registry, repository } = request.route;
      if (registry.isDockerHub && repository.startsWith("library/")) return true; // by definition
      const place = placeOf(request.route);
      const grant = records.grant(place, EVERYBODY);
      if (grant === undefined) return false;
      if (now() - grant.checkedMs < TTL_MS) return true;
      const wasFailing = outages.isFailing(registry);
      const key = keyOf(place);
      const running = asking.get(key) ?? renew(request, place, grant).finally(() => asking.delete(key));
      asking.set(key, running);
      // Whether a registry in trouble is back is found out, but nobody waits for it.
      return wasFailing && isExtended(grant) ? true : running;
    },
    proven: (place, manifestDigest) => records.setGrant(place, EVERYBODY, { proof: manifestDigest, checkedMs: now() }),
    refuted,
    isRefuted: (place) => refutedUntil.has(keyOf(place)),
  };
}

function keyOf({ registry, repository }: Place): string {
  return `${registry} ${repository}`;
}
