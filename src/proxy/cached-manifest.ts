/**
 * Manifests through the cache: by digest for ever, by tag as long as its rule says and then after one HEAD; one GET per
 * manifest ever. When the registry cannot be asked, what was known last is served and marked so (protocol R208, R209, R241).
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";
import type { Place, TagRecord } from "../cache/records.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { isSchema1Type } from "../registry/mediatype.ts";
import type { Reference } from "../registry/reference.ts";
import type { Access, ReaderAnswer, RegistryRequest } from "./access.ts";
import { isYounger } from "./age.ts";
import { type Cache, detached, keep, placeFor, readKept } from "./cache.ts";
import type { CacheState, Reply } from "./exchange.ts";
import { type ManifestEndpoint, acceptFor, onceMore, readManifest } from "./manifest.ts";
import {
  type Answer,
  createAcceptClasses,
  factsOf,
  type Found,
  isTrouble,
  PASS,
  type Resolution,
} from "./manifest-facts.ts";
import { type Grants, type ReadRequest, holderOf } from "./grants.ts";
import { isBetterKept, keptReply } from "./kept-manifest.ts";
import { patiently, sparingTtlMs } from "./patience.ts";
import { errorOfAnswer } from "./refusal.ts";
import { childrenOf } from "./references.ts";
import { createWritten } from "./written.ts";

/** Serves a manifest from the cache or into it; undefined when this request must pass the cache by. @throws RegistryError */
export interface CachedManifests {
  serve(request: RegistryRequest, endpoint: ManifestEndpoint): Promise<Reply | undefined>;
  /** Tags or digests were written: what was found absent may be there, and what is being asked may be old. */
  changed(place: Place, names: readonly string[]): void;
}

/** Upstream requests here serve everybody who waits, so they have a budget of their own; the client's ends below it. */
const BUDGET_MS = 20_000;
/** A tag that is not there is asked for again after this: long enough for a storm, short enough for a push (protocol R243, lesson T17). */
const ABSENT_TTL_MS = 5_000;
/** A scan through names that do not exist: forgetting one costs one request. */
const MAX_ABSENT = 10_000;

export function createCachedManifests(cache: Cache, access: Access, grants: Grants): CachedManifests {
  const { records, store, outages, now } = cache;
  const acceptClass = createAcceptClasses();
  const resolutions = new Map<string, Promise<Resolution>>(); // bounded by the requests under way
  const loads = new Map<string, Promise<Uint8Array | undefined>>(); // likewise
  const absent = new LRUCache<string, { atMs: number; error: RegistryError }>({ max: MAX_ABSENT });
  const written = createWritten();

  function ask(request: ReadRequest, method: "GET" | "HEAD", reference: string): Promise<ReaderAnswer> {
    const accept = acceptFor(request.exchange.headers.get("accept"));
    const outlives = detached(request, new AbortController().signal, BUDGET_MS);
    return access.askAs(request.reader, outlives, {
      method,
      path: `manifests/${reference}`,
      query: "",
      headers: [["Accept", accept]],
    });
  }

  /** The tag's digest by its record, by HEAD, or by what was known last. */
  async function resolveTag(request: ReadRequest, tag: string): Promise<Resolution> {
    const { registry } = request.route;
    const place = placeFor(request);
    const accept = acceptClass(request);
    const known = records.tag(place, tag, accept);
    const ttlMs = cache.tagTtlMs(registry, tag);
    const isSettled = known !== undefined && !written.isUnseen(place, tag);
    // Who asks in a name of its own has pulls of its own.
    const isSparing = request.reader.kind === "everybody" && cache.isShort(registry);
    const freshMs = isSparing ? sparingTtlMs(ttlMs, cache.staleIfErrorMs) : ttlMs;
    const isFresh = isSettled && isYounger(known.checkedMs, freshMs, now());
    const lastKnown = (state: CacheState) => {
      const digest = known === undefined ? undefined : parseDigest(known.digest);
      if (known?.mediaType === undefined || digest === undefined) return undefined;
      return { kind: "found" as const, digest, mediaType: known.mediaType, bytes: known.bytes, state };
    };
    if (isFresh && (await grants.holds(request))) return lastKnown("HIT") ?? PASS;
    // Only to whom it may be shown: the shorter patience with what is known must not tell others that it is.
    const isYoung = known !== undefined && now() - known.checkedMs < ttlMs + cache.staleIfErrorMs;
    const isUsable = isYoung && grants.isKnown(request);
    const stale = async () => (isUsable && (await grants.holds(request)) ? lastKnown("STALE") : undefined);
    const wasFailing = outages.isFailing(request.route);
    const mustWait = outages.isDown(request.route);
    const last = wasFailing ? await stale() : undefined;
    if (mustWait && last !== undefined) return last;
    const checking = revalidate(request, tag, known);
    checking.catch(() => undefined); // when nobody waits for it any more
    if (last !== undefined) return last; // the registry may be back: that is found out, but nobody waits for it
    try {
      const found = await (isUsable ? patiently(outages, request.route, checking) : checking);
      return found.kind === "found" && found.record !== undefined ? { ...found, former: stale } : found;
    } catch (error) {
      if (!isTrouble(error)) throw error;
      return (await stale()) ?? (await checking);
    }
  }

  /** One HEAD, or the GET that stood in for it (protocol R208). */
  async function revalidate(request: ReadRequest, tag: string, known: TagRecord | undefined): Promise<Resolution> {
    const place = placeFor(request);
    const accept = acceptClass(request);
    try {
      const turn = written.turn();
      const response = await ask(request, "HEAD", tag);
      const verdict = await judge(request, response);
      if (verdict === "pass") return PASS;
      // Registries call what is private absent: only who could read it knows that the tag is gone.
      if (verdict === "absent" && grants.isKnown(request)) records.removeTag(place, tag);
      if (verdict !== "good") throw await errorOfAnswer(response, request);
      const found = await foundBy(request, tag, { response, turn });
      if (found.kind === "pass") return PASS;
      const { digest, mediaType, bytes } = found;
      if (response.isProof) grants.proven(request, digest.text);
      const checkedMs = now();
      const record = () => {
        // What was asked before a push and answered after it may be what the push replaced (protocol R78).
        if (written.isSince(turn, place, tag) || written.isSince(turn, place, digest.text)) return;
        records.setTag(place, tag, accept, { digest: digest.text, mediaType, bytes, checkedMs });
        written.seen(place, tag);
      };
      // HEAD is answered though no pull is left: what is kept is not given up for what may not come (protocol R208, lesson T8).
      if (known !== undefined && (await isBetterKept(store, known, found)))
        return { ...found, state: "EXPIRED", record };
      record();
      if (known === undefined) return { ...found, state: "MISS" };
      return { ...found, state: known.digest === digest.text ? "REVALIDATED" : "EXPIRED" };
    } catch (error) {
      if (isTrouble(error)) outages.failed(request.route, error);
      throw error;
    }
  }

  async function judge(request: ReadRequest, response: ReaderAnswer): Promise<"good" | "pass" | "absent" | "bad"> {
    if (response.isStandIn) return "good"; // says nothing about the registry
    if (response.status < 500 && response.status !== 429) outages.answered(request.route);
    if (response.status === 200) return "good";
    if (response.status === 401 || response.status === 403) {
      grants.refuted(request);
      await response.body?.cancel();
      return "pass";
    }
    return response.status === 404 ? "absent" : "bad";
  }

  /** One resolution for all who ask at the same time; a tag that is absent stays so for seconds. */
  async function resolve(request: ReadRequest, reference: Reference): Promise<Resolution> {
    if (reference.kind === "digest") return resolveDigest(request, reference.digest);
    const place = placeFor(request);
    const key = JSON.stringify([place, holderOf(request.reader), reference.tag, acceptClass(request)]);
    const missing = absent.get(key);
    if (missing !== undefined && isYounger(missing.atMs, ABSENT_TTL_MS, now())) throw missing.error;
    const running = resolutions.get(key) ?? resolveTag(request, reference.tag).finally(() => resolutions.delete(key));
    resolutions.set(key, running);
    const turn = written.turn();
    try {
      return await running;
    } catch (error) {
      const isAbsent = error instanceof RegistryError && error.status === 404;
      if (isAbsent && !written.isSince(turn, place, reference.tag)) absent.set(key, { atMs: now(), error });
      throw error;
    }
  }

  async function resolveDigest(request: ReadRequest, digest: Digest): Promise<Resolution> {
    const place = placeFor(request);
    const mediaType = records.isLinked(place, digest.text) ? records.mediaType(place, digest.text) : undefined;
    const content = mediaType === undefined ? undefined : await store.find(digest);
    if (mediaType !== undefined && content !== undefined && (await grants.holds(request))) {
      return { kind: "found", digest, mediaType, bytes: content.bytes, state: "HIT" };
    }
    const turn = written.turn();
    const response = await ask(request, "HEAD", digest.text);
    const verdict = await judge(request, response);
    if (verdict === "pass") return PASS;
    if (verdict !== "good") throw await errorOfAnswer(response, request);
    const found = await foundBy(request, digest.text, { response, turn });
    if (found.kind === "found" && found.digest.text !== digest.text) return PASS;
    if (found.kind === "found" && response.isProof) grants.proven(request, digest.text);
    return found;
  }

  /** The bytes from the store, or by the one GET that this manifest ever costs; undefined when they cannot be had this way. */
  async function load(request: ReadRequest, found: Found): Promise<Uint8Array | undefined> {
    const place = placeFor(request);
    // A link without a type is a blob's: as a manifest the digest is fetched once, for its type and what it names.
    if (records.mediaType(place, found.digest.text) !== undefined) {
      const bytes = await readKept(cache, found.digest);
      if (bytes !== undefined) return bytes;
    }
    const key = JSON.stringify([place, holderOf(request.reader), found.digest.text]);
    const running = loads.get(key) ?? fetchAndKeep(request, found).finally(() => loads.delete(key));
    loads.set(key, running);
    return running;
  }

  async function fetchAndKeep(request: ReadRequest, { digest }: Found): Promise<Uint8Array | undefined> {
    const found = await fetchFirst(request, digest.text).catch((error: unknown) => {
      // Some registries tell a wrong digest with a tag (protocol R218): the way past the cache computes its own.
      if (error instanceof RegistryError && error.status === 404) return PASS;
      throw error;
    });
    return found.kind === "pass" ? undefined : found.content;
  }

  /** What a HEAD tells; where a GET stood in for it, or it tells too little, the manifest itself. */
  async function foundBy(request: ReadRequest, text: string, answer: Answer): Promise<Resolution> {
    const { response } = answer;
    if (response.body !== null) return take(request, text, answer);
    const told = factsOf(response);
    return told === undefined ? fetchFirst(request, text) : { ...told, kind: "found", state: "MISS" };
  }

  const fetchFirst = (request: ReadRequest, text: string) => onceMore(() => fetchOnce(request, text));

  async function fetchOnce(request: ReadRequest, text: string): Promise<Resolution> {
    const turn = written.turn();
    const response = await ask(request, "GET", text);
    const verdict = await judge(request, response);
    if (verdict === "pass") return PASS;
    if (verdict !== "good") throw await errorOfAnswer(response, request);
    return take(request, text, { response, turn });
  }

  /** Verified, kept and linked. */
  async function take(request: ReadRequest, text: string, { response, turn }: Answer): Promise<Resolution> {
    const asked = parseDigest(text);
    const reference: Reference = asked === undefined ? { kind: "tag", tag: text } : { kind: "digest", digest: asked };
    const endpoint: ManifestEndpoint = { ...request.endpoint, kind: "manifest", name: "", reference };
    const {
      bytes: content,
      mediaType,
      digest: verified,
    } = await readManifest(response, endpoint, performance.now() + BUDGET_MS);
    const digest = parseDigest(verified);
    if (digest === undefined || isSchema1Type(mediaType)) return PASS;
    const found: Found = { kind: "found", digest, mediaType, bytes: content.byteLength, state: "MISS", content };
    if (response.isStandIn || !(await keep(cache, digest, content))) return found;
    const place = placeFor(request);
    if (written.isSince(turn, place, digest.text)) return found; // deleted meanwhile
    records.link(place, digest.text, { bytes: content.byteLength, mediaType });
    records.setReferences(digest.text, childrenOf(content));
    return found;
  }

  async function serveAs(request: ReadRequest, endpoint: ManifestEndpoint): Promise<Reply | undefined> {
    const found = await resolve(request, endpoint.reference);
    if (found.kind === "pass" || isSchema1Type(found.mediaType)) return undefined;
    const asked = { request, endpoint };
    if (request.exchange.method === "HEAD") return keptReply(cache, asked, { found, content: null });
    try {
      const content = found.content ?? (await load(request, found));
      if (content === undefined) return undefined;
      found.record?.();
      return keptReply(cache, asked, { found, content });
    } catch (error) {
      const former = isTrouble(error) ? await found.former?.() : undefined;
      const content = former === undefined ? undefined : await readKept(cache, former.digest);
      if (former === undefined || content === undefined) throw error;
      return keptReply(cache, asked, { found: former, content });
    }
  }

  async function serve(request: RegistryRequest, endpoint: ManifestEndpoint): Promise<Reply | undefined> {
    if (endpoint.reference.kind === "digest" && !isVerifiable(endpoint.reference.digest)) return undefined;
    let absence: RegistryError | undefined;
    for (const reader of grants.readers(request)) {
      try {
        const reply = await serveAs({ ...request, reader }, endpoint);
        if (reply !== undefined) return reply;
      } catch (error) {
        // Registries call what is private absent: the client's own credentials may see it.
        if (!(error instanceof RegistryError) || error.status !== 404) throw error;
        absence = error;
      }
    }
    if (absence !== undefined) throw absence;
    return undefined;
  }

  return {
    serve,
    changed(place, names) {
      for (const name of names) written.add(place, name);
      resolutions.clear();
      absent.clear();
    },
  };
}
