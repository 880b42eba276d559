/**
 * Manifests through the cache: by digest for ever, by tag as long as its rule says and then after one HEAD; one GET per
 * manifest ever. When the registry cannot be asked, what was known last is served and marked so (protocol R208, R209, R241).
 */
import { RegistryError } from "../errors.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { bareType, isManifestType, isSchema1Type } from "../registry/mediatype.ts";
import type { Reference } from "../registry/reference.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { type Cache, type CacheState, detached, keep, placeOf, readKept, stateLines } from "./cache.ts";
import type { Reply } from "./exchange.ts";
import { type ManifestEndpoint, acceptFor, manifestReply, readManifest } from "./manifest.ts";
import type { PublicRepositories } from "./public.ts";
import { errorOfAnswer } from "./refusal.ts";
import { childrenOf } from "./references.ts";

/** Serves a manifest from the cache or into it; undefined when this request must pass the cache by. @throws RegistryError */
export type CachedManifests = (request: RegistryRequest, endpoint: ManifestEndpoint) => Promise<Reply | undefined>;

/** Upstream requests here serve everybody who waits, so they have a budget of their own; the client's ends below it. */
const BUDGET_MS = 20_000;
/** A tag that is not there is asked for again after this: long enough for a storm, short enough for a push (protocol R243, lesson T17). */
const ABSENT_TTL_MS = 5_000;
const MAX_ABSENT = 10_000;

/** What a tag or digest means now. */
interface Found {
  readonly kind: "found";
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly state: CacheState;
}
type Resolution = Found | { readonly kind: "pass" };

const PASS: Resolution = { kind: "pass" };

export function createCachedManifests(cache: Cache, access: Access, publics: PublicRepositories): CachedManifests {
  const { records, store, outages, now } = cache;
  const resolutions = new Map<string, Promise<Resolution>>(); // bounded by the requests under way
  const loads = new Map<string, Promise<Uint8Array | undefined>>(); // likewise
  const absent = new Map<string, { untilMs: number; error: RegistryError }>();

  function ask(request: RegistryRequest, method: "GET" | "HEAD", reference: string): Promise<UpstreamResponse> {
    const accept = acceptFor(request.exchange.headers.get("accept"));
    const outlives = detached(request, new AbortController().signal, BUDGET_MS);
    return access.askForAll(outlives, {
      method,
      path: `manifests/${reference}`,
      query: "",
      headers: [["Accept", accept]],
    });
  }

  /** The tag's digest by its record, by HEAD, or by what was known last. */
  async function resolveTag(request: RegistryRequest, tag: string): Promise<Resolution> {
    const { registry } = request.route;
    const place = placeOf(request.route);
    const accept = acceptClass(request);
    const known = records.tag(place, tag, accept);
    const isFresh = known !== undefined && now() - known.checkedMs < cache.tagTtlMs(registry, tag);
    const lastKnown = (state: CacheState) => {
      const digest = known === undefined ? undefined : parseDigest(known.digest);
      if (known?.mediaType === undefined || digest === undefined) return undefined;
      return { kind: "found" as const, digest, mediaType: known.mediaType, bytes: known.bytes, state };
    };
    if (isFresh && (await publics.isPublic(request))) return lastKnown("HIT") ?? PASS;
    const isUsable = known !== undefined && now() - known.checkedMs < cache.staleIfErrorMs;
    const stale = async () => (isUsable && (await publics.isPublic(request)) ? lastKnown("STALE") : undefined);
    if (outages.isDown(registry)) {
      const last = await stale();
      if (last !== undefined) return last;
      const limit = outages.limit(registry);
      if (limit !== undefined) throw limit;
    }
    try {
      const response = await ask(request, "HEAD", tag);
      const verdict = await judge(request, response);
      if (verdict === "pass") return PASS;
      if (verdict === "absent") records.removeTag(place, tag);
      if (verdict !== "good") throw await errorOfAnswer(response, request);
      const found = factsOf(response);
      if (found === undefined) return PASS;
      publics.proven(place, found.digest.text);
      records.setTag(place, tag, accept, { ...found, digest: found.digest.text, checkedMs: now() });
      return { ...found, kind: "found", state: known?.digest === found.digest.text ? "REVALIDATED" : "MISS" };
    } catch (error) {
      if (!(error instanceof RegistryError) || (error.status < 500 && error.status !== 429)) throw error;
      outages.failed(registry, error);
      const last = await stale();
      if (last === undefined) throw error;
      return last;
    }
  }

  async function judge(
    request: RegistryRequest,
    response: UpstreamResponse,
  ): Promise<"good" | "pass" | "absent" | "bad"> {
    if (response.status === 200) {
      outages.answered(request.route.registry);
      return "good";
    }
    if (response.status === 401 || response.status === 403) {
      publics.refuted(placeOf(request.route));
      await response.body?.cancel();
      return "pass";
    }
    return response.status === 404 ? "absent" : "bad";
  }

  /** One resolution for all who ask at the same time; a tag that is absent stays so for seconds. */
  async function resolve(request: RegistryRequest, reference: Reference): Promise<Resolution> {
    if (reference.kind === "digest") return resolveDigest(request, reference.digest);
    const place = placeOf(request.route);
    const key = JSON.stringify([place, reference.tag, acceptClass(request)]);
    const missing = absent.get(key);
    if (missing !== undefined && now() < missing.untilMs) throw missing.error;
    const running = resolutions.get(key) ?? resolveTag(request, reference.tag).finally(() => resolutions.delete(key));
    resolutions.set(key, running);
    try {
      return await running;
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) remember(key, error);
      throw error;
    }
  }

  function remember(key: string, error: RegistryError): void {
    if (absent.size >= MAX_ABSENT) absent.clear(); // a scan through names that do not exist: forgetting costs one request each
    absent.set(key, { untilMs: now() + ABSENT_TTL_MS, error });
  }

  async function resolveDigest(request: RegistryRequest, digest: Digest): Promise<Resolution> {
    const place = placeOf(request.route);
    const mediaType = records.isLinked(place, digest.text) ? records.mediaType(place, digest.text) : undefined;
    const content = mediaType === undefined ? undefined : await store.find(digest);
    if (mediaType !== undefined && content !== undefined && (await publics.isPublic(request))) {
      return { kind: "found", digest, mediaType, bytes: content.bytes, state: "HIT" };
    }
    const response = await ask(request, "HEAD", digest.text);
    const verdict = await judge(request, response);
    if (verdict === "pass") return PASS;
    if (verdict !== "good") throw await errorOfAnswer(response, request);
    const found = factsOf(response);
    if (found === undefined || found.digest.text !== digest.text) return PASS;
    publics.proven(place, digest.text);
    return { ...found, kind: "found", state: "MISS" };
  }

  /** The bytes from the store, or by the one GET that this manifest ever costs; undefined when they cannot be had this way. */
  async function load(request: RegistryRequest, found: Found): Promise<Uint8Array | undefined> {
    const place = placeOf(request.route);
    if (records.isLinked(place, found.digest.text)) {
      const bytes = await readKept(cache, found.digest);
      if (bytes !== undefined) return bytes;
    }
    const key = JSON.stringify([place, found.digest.text]);
    const running = loads.get(key) ?? fetchAndKeep(request, found).finally(() => loads.delete(key));
    loads.set(key, running);
    return running;
  }

  async function fetchAndKeep(request: RegistryRequest, { digest }: Found): Promise<Uint8Array | undefined> {
    const response = await ask(request, "GET", digest.text);
    const verdict = await judge(request, response);
    if (verdict === "pass") return undefined;
    if (verdict !== "good") throw await errorOfAnswer(response, request);
    const endpoint: ManifestEndpoint = {
      ...request.endpoint,
      kind: "manifest",
      name: "",
      reference: { kind: "digest", digest },
    };
    const manifest = await readManifest(response, endpoint, performance.now() + BUDGET_MS);
    if (!(await keep(cache, digest, manifest.bytes))) return manifest.bytes;
    records.link(placeOf(request.route), digest.text, {
      bytes: manifest.bytes.byteLength,
      mediaType: manifest.mediaType,
    });
    records.setReferences(digest.text, childrenOf(manifest.bytes));
    return manifest.bytes;
  }

  return async function serve(request, endpoint) {
    if (endpoint.reference.kind === "digest" && !isVerifiable(endpoint.reference.digest)) return undefined;
    if (publics.isRefuted(placeOf(request.route))) return undefined;
    const found = await resolve(request, endpoint.reference);
    if (found.kind === "pass" || isSchema1Type(found.mediaType)) return undefined;
    const isHead = request.exchange.method === "HEAD";
    const bytes = isHead ? null : await load(request, found);
    if (bytes === undefined) return undefined;
    records.used(found.digest.text, now());
    return manifestReply(request, endpoint, {
      digest: found.digest.text,
      mediaType: found.mediaType,
      bytes,
      length: String(bytes?.byteLength ?? found.bytes),
      passed: [...stateLines(request, found.state), ...staleWarning(found.state)],
    });
  };
}

/** Registries may lead a tag elsewhere for another Accept: the kinds of manifest in it, in one order. */
function acceptClass(request: RegistryRequest): string {
  const accept = acceptFor(request.exchange.headers.get("accept"));
  const types = accept
    .split(",")
    .map((entry) => bareType(entry))
    .filter((type) => isManifestType(type));
  return [...new Set(types)].sort().join(" ");
}

/** What a HEAD told, if it told all of it. */
function factsOf(response: UpstreamResponse): { digest: Digest; mediaType: string; bytes: number } | undefined {
  const digest = parseDigest(response.headers.get("docker-content-digest") ?? "");
  const mediaType = bareType(response.headers.get("content-type"));
  const bytes = Number(response.headers.get("content-length") ?? 0);
  if (digest === undefined || !isVerifiable(digest) || !isManifestType(mediaType) || !(bytes > 0)) return undefined;
  return { digest, mediaType, bytes };
}

function staleWarning(state: CacheState) {
  return state === "STALE" ? ([["Warning", '299 - "stale: the registry cannot be asked now"']] as const) : [];
}
