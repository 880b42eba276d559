/**
 * Who may read what the cache has. Kept content is shown to a reader with a grant: its registry answered 200 for one of
 * the repository's manifests, asked in that reader's name. Everybody's grant (the repository is public) holds for a quarter
 * of an hour, that of a credential for `--grant-ttl`; then the registry is asked again. While it cannot be asked, a grant
 * goes on holding for a day (product section 5).
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";
import { EVERYBODY, type Grant, type Place, type Records } from "../cache/records.ts";
import { isManifestType } from "../registry/mediatype.ts";
import type { Route } from "../registry/route.ts";
import { type Access, EVERYBODY_READS, type Question, type Reader, type RegistryRequest } from "./access.ts";
import { isYounger } from "./age.ts";
import { type Cache, detached, placeFor, placeOf } from "./cache.ts";
import { isPublicByDefinition } from "./public-repositories.ts";
import { errorOfAnswer } from "./refusal.ts";

/** A request as one reader makes it. */
export interface ReadRequest extends RegistryRequest {
  readonly reader: Reader;
}

export interface Grants {
  /** In whose names this client may be served, the most likely first; empty when all were refused lately. */
  readers(request: RegistryRequest): readonly Reader[];
  /** Whether the reader has a grant, asking upstream when it is old; false when it never had one. Never rejects. */
  holds(request: ReadRequest): Promise<boolean>;
  /** Whether the reader ever had a grant that was not taken back. */
  isKnown(request: ReadRequest): boolean;
  /** A request for this manifest was answered 200 to the reader. */
  proven(request: ReadRequest, manifestDigest: string): void;
  /** A request was refused to the reader with 401 or 403. */
  refuted(request: ReadRequest): void;
}

export interface GrantsOptions {
  /** How long a credential's grant holds, milliseconds. */
  readonly ttlMs: number;
}

const PUBLIC_TTL_MS = 15 * 60_000;
const EXTENDED_MS = 24 * 60 * 60_000;
/** So long a refused reader is not asked for again: the way past the cache decides, by what the registry says then. */
const REFUTED_MS = 60_000;
/** An entry is some 200 bytes. */
const MAX_REFUTED = 10_000;
/** A client waits for this answer; when it does not come in time, what was known goes on holding (lesson T9). */
const BUDGET_MS = 3_000;

/** The part of the cache that grants need. */
export type GrantsCache = Pick<Cache, "outages" | "now"> & {
  readonly records: Pick<Records, "grant" | "setGrant" | "dropGrant">;
  readonly log: Pick<Cache["log"], "debug">;
};

export function createGrants(
  { ttlMs }: GrantsOptions,
  cache: GrantsCache,
  access: Pick<Access, "askAs" | "readerOf">,
): Grants {
  // One per repository and reader that is being asked about: bounded by the requests under way.
  const asking = new Map<string, Promise<boolean>>();
  const refutedUntil = new LRUCache<string, true>({ max: MAX_REFUTED, ttl: REFUTED_MS });
  const { records, outages, now } = cache;

  function grantOf(route: Route, reader: Reader): Grant | undefined {
    return records.grant(placeFor({ route, reader }), holderOf(reader));
  }

  function isRefuted(route: Route, reader: Reader): boolean {
    return refutedUntil.has(keyOf(placeFor({ route, reader }), reader));
  }

  function refuted({ route, reader }: ReadRequest): void {
    records.dropGrant(placeFor({ route, reader }), holderOf(reader));
    refutedUntil.set(keyOf(placeFor({ route, reader }), reader), true);
  }

  function readers(request: RegistryRequest): readonly Reader[] {
    const { route } = request;
    const isPublic = isPublicByDefinition(route) || grantOf(route, EVERYBODY_READS) !== undefined;
    const own = access.readerOf(request);
    if (own.kind === "everybody") return isPublic || !isRefuted(route, own) ? [own] : [];
    if (isPublic) return [EVERYBODY_READS, own];
    if (grantOf(route, own) !== undefined) return [own];
    return [{ ...EVERYBODY_READS, within: own.origin }, own].filter((reader) => !isRefuted(route, reader));
  }

  async function askAgain(request: ReadRequest, proof: string): Promise<boolean | undefined> {
    const { registry } = request.route;
    if (outages.isDown(request.route)) return undefined;
    try {
      // What is at another registry says nothing about who may read here.
      const question: Question = {
        method: "HEAD",
        path: `manifests/${proof}`,
        query: "",
        headers: [],
        standIns: "never",
      };
      const outlives = detached(request, new AbortController().signal, BUDGET_MS);
      // A configured credential may be used for everybody, but what it may read proves nothing about them.
      const asker = request.reader.kind === "everybody" ? "nobody" : request.reader;
      const response = await access.askAs(asker, outlives, question);
      if (response.status >= 500 || response.status === 429) {
        outages.failed(request.route, await errorOfAnswer(response, request));
        return undefined;
      }
      await response.body?.cancel();
      if (response.isStandIn) return undefined; // says nothing about the registry, nor about who may read there
      outages.answered(request.route);
      if (response.status === 200 && isManifestType(response.headers.get("content-type"))) {
        proven(request, proof);
        return true;
      }
      if (response.status === 401 || response.status === 403 || response.status === 404) {
        refuted(request);
        return false;
      }
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      outages.failed(request.route, error);
      cache.log.debug({ registry: registry.key, err: error }, "whether a grant still holds cannot be asked now");
    }
    return undefined;
  }

  async function renew(request: ReadRequest, grant: Grant): Promise<boolean> {
    return (await askAgain(request, grant.proof)) ?? isExtended(grant);
  }

  function isExtended({ checkedMs }: Grant): boolean {
    return isYounger(checkedMs, EXTENDED_MS, now());
  }

  function proven({ route, reader }: ReadRequest, proof: string): void {
    records.setGrant(placeFor({ route, reader }), holderOf(reader), { proof, checkedMs: now() });
  }

  return {
    readers,
    async holds(request) {
      const { route, reader } = request;
      if (reader.kind === "everybody" && isPublicByDefinition(route)) return true;
      const grant = grantOf(route, reader);
      if (grant === undefined) return false;
      if (isYounger(grant.checkedMs, reader.kind === "everybody" ? PUBLIC_TTL_MS : ttlMs, now())) return true;
      const wasFailing = outages.isFailing(route);
      const key = keyOf(placeFor({ route, reader }), reader);
      const running = asking.get(key) ?? renew(request, grant).finally(() => asking.delete(key));
      asking.set(key, running);
      // Whether a registry in trouble is back is found out, but nobody waits for it.
      return wasFailing && isExtended(grant) ? true : running;
    },
    isKnown: ({ route, reader }) =>
      (reader.kind === "everybody" && isPublicByDefinition(route)) || grantOf(route, reader) !== undefined,
    proven,
    refuted,
  };
}

/** Whether everybody has a grant for a repository that holds while its registry cannot be asked; none has without a cache. */
export function openToAll(
  cache: Pick<Cache, "records" | "now"> | undefined,
): (route: Pick<Route, "registry" | "repository">) => boolean {
  if (cache === undefined) return () => false;
  const { records, now } = cache;
  return (route) => {
    const grant = records.grant(placeOf(route), EVERYBODY);
    return grant !== undefined && isYounger(grant.checkedMs, EXTENDED_MS, now());
  };
}

/** The reader's name in the records. */
export function holderOf(reader: Reader): string {
  return reader.kind === "everybody" ? EVERYBODY : reader.holder;
}

function keyOf({ registry, repository }: Place, reader: Reader): string {
  return `${registry} ${repository} ${holderOf(reader)}`;
}
