/**
 * Blobs through the cache: from the store at once, or from the one running download that all who wait follow. A digest is
 * shown to a repository only after its registry showed it to that repository (product section 5, protocol R245).
 */
import type { Fill } from "../cache/fill.ts";
import { within } from "../cache/open-files.ts";
import type { Place } from "../cache/records.ts";
import type { StoredContent } from "../cache/store.ts";
import type { ContentSource } from "../download/download.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import type { ByteRange } from "../registry/range.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { type BlobEndpoint, blobLines, headReply } from "./blob.ts";
import { part, rangesOf, typed, unsatisfiable, whole } from "./blob-reply.ts";
import { RefusedToAll, bodyOf, createQuestions, question } from "./blob-source.ts";
import { type Cache, detached, placeFor, stateLines, unnoted } from "./cache.ts";
import type { Reply } from "./exchange.ts";
import { matchesEtag } from "./headers.ts";
import { multipart } from "./multipart.ts";
import { headOf } from "./early-head.ts";
import type { Grants, ReadRequest } from "./grants.ts";
import { errorOfAnswer } from "./refusal.ts";
import { hasSameBytes } from "./same-bytes.ts";
import { storedBody, storedStream } from "./stored-body.ts";

/** Serves a blob from the cache or into it; undefined when this request must pass the cache by. @throws RegistryError */
export interface CachedBlobs {
  serve(request: RegistryRequest, endpoint: BlobEndpoint): Promise<Reply | undefined>;
  /** A repository has this digest no more: a download that runs shows it nothing when it ends. */
  gone(place: Place, digest: string): void;
}

/** Time for one upstream request of a fill to bring its headers. */
const BUDGET_MS = 20_000;
/** A range that begins this far ahead of the download waits for it; one further away gets a request of its own (protocol R274). */
const NEAR_BYTES = 16 * 1024 * 1024;
/** Hashing doubtful content, some GB in this time; a client waits for it, and is sent past the cache when it takes longer. */
const HASHING_MS = 5_000;

/** What there is of the content, whoever delivered it. */
type Held =
  { readonly kind: "stored"; readonly content: StoredContent } | { readonly kind: "running"; readonly fill: Fill };
/** Whether a repository may show it; `gone` when asking showed that it was damaged. */
type Verdict = "shown" | "hidden" | "gone";

export function createCachedBlobs(cache: Cache, access: Access, grants: Grants): CachedBlobs {
  const { store, records, fills, now } = cache;
  const asking = new Map<string, Promise<Verdict>>(); // bounded by the requests under way
  /** Repositories whose registry a fill asks: what it answers there shows them the digest, or does not. */
  const placeOfFill = new WeakMap<Fill, Place>();
  /** Places that were shown what a silent fill downloads. */
  const shownEarly = new WeakMap<Fill, Set<string>>();

  function verdictOn(request: ReadRequest, digest: Digest, held: Held): Promise<Verdict> {
    const place = placeFor(request);
    if (held.kind === "running" && isSamePlace(placeOfFill.get(held.fill), place)) return Promise.resolve("shown");
    if (records.isLinked(place, digest.text)) return Promise.resolve("shown");
    return askOnce(request, digest, held);
  }

  /** One question for all who ask at the same time. */
  function askOnce(request: ReadRequest, digest: Digest, held: Held): Promise<Verdict> {
    const key = JSON.stringify([placeFor(request), digest.text, held.kind]);
    const running = asking.get(key) ?? askIfShown(request, digest, held).finally(() => asking.delete(key));
    asking.set(key, running);
    return running;
  }

  /** Whether the registry shows this digest to this repository. */
  async function askIfShown(request: ReadRequest, digest: Digest, held: Held): Promise<Verdict> {
    const outlives = detached(request, new AbortController().signal, BUDGET_MS);
    const response = await access.askAs(request.reader, outlives, question("HEAD", digest, undefined));
    if (response.status === 401 || response.status === 403) {
      await response.body?.cancel();
      return "hidden";
    }
    if (response.status !== 200) throw await errorOfAnswer(response, outlives);
    const length = response.headers.get("content-length");
    const told = length === null ? undefined : Number(length);
    const isShown =
      held.kind === "stored"
        ? await isSameContent(outlives, digest, held.content, told)
        : await isSameDownload(outlives, held.fill, told);
    if (!isShown) return held.kind === "stored" ? verdictOnDoubtful(digest) : "hidden";
    // A stand-in shows the bytes to everybody, which says nothing about what this registry has.
    if (response.isStandIn) return "shown";
    if (held.kind === "stored") link(request, digest, held.content.bytes);
    else if (told !== undefined) link(request, digest, told);
    return "shown";
  }

  /** Bytes that another registry may have delivered are shown only where this one has a blob of that length, or these bytes. */
  function isSameContent(request: ReadRequest, digest: Digest, content: StoredContent, told: number | undefined) {
    if (told !== undefined) return told === content.bytes;
    const ask = (range: ByteRange) =>
      access.askAs(request.reader, request, { ...question("GET", digest, range), standIns: "never" });
    return hasSameBytes(cache, { ...content, of: digest }, { ask, deadlineMs: request.deadlineMs });
  }

  /** The same for a download under way, where there is nothing to compare but the length. */
  async function isSameDownload(request: ReadRequest, fill: Fill, told: number | undefined): Promise<boolean> {
    if (placeOfFill.get(fill)?.registry === placeFor(request).registry) return true;
    if (told === undefined) return false;
    const head = await headOf(fill, request).catch(() => undefined); // when it fails, this repository is asked itself
    return head?.totalBytes === told;
  }

  /** The registry has other bytes: it is wrong, or what is kept was damaged. The digest decides, once for each content. */
  async function verdictOnDoubtful(digest: Digest): Promise<Verdict> {
    if (records.size(digest.text)?.isVerified === true) return "hidden";
    const verdict = await within(HASHING_MS, store.verify(digest, new AbortController().signal));
    return verdict === "good" ? "hidden" : "gone";
  }

  /** The file is there a moment before its link, which comes when the fill has ended. */
  async function untilLinked(request: ReadRequest, digest: Digest, { bytes }: StoredContent): Promise<void> {
    const fill = fills.running(digest);
    if (fill === undefined || fill.position !== bytes) return;
    if (isSamePlace(placeOfFill.get(fill), placeFor(request))) await within(HASHING_MS, fill.done);
  }

  /** @param shown told when the registry itself gave some of it */
  function sourceFor(request: ReadRequest, digest: Digest, shown: () => void): ContentSource {
    const questions = createQuestions(digest);
    return async (wanted, signal) => {
      const outlives = detached(wanted.isExtra ? unnoted(request) : request, signal, BUDGET_MS);
      const response = await access.askAs(request.reader, outlives, questions.about(wanted));
      questions.answered(wanted, response);
      const body = await bodyOf(response, outlives, wanted.first);
      if (!response.isStandIn) shown();
      return body;
    };
  }

  function link(request: ReadRequest, digest: Digest, bytes: number): void {
    records.link(placeFor(request), digest.text, { bytes, mediaType: undefined });
  }

  async function fromStore(request: ReadRequest, digest: Digest, content: StoredContent): Promise<Reply | undefined> {
    records.used(digest.text, now());
    const asked = rangesOf(request, digest, content.bytes);
    const lines = stateLines(cache, request, "HIT");
    if (asked.kind === "unsatisfiable") throw unsatisfiable(content.bytes);
    const validators = blobLines(digest, lines);
    if (matchesEtag(request.exchange.headers.get("if-none-match"), digest.text)) {
      return { status: 304, headers: validators, body: null };
    }
    if (request.exchange.method === "HEAD") return whole(content.bytes, validators, null);
    const [only, ...more] = asked.kind === "ranges" ? asked.ranges : [];
    const open = (range: ByteRange) => storedStream(store, digest, range);
    if (only !== undefined && more.length > 0)
      return multipart(asked.kind === "ranges" ? asked.ranges : [], content.bytes, { lines: validators, open });
    const body = await storedBody(store, digest, only ?? { first: 0, last: content.bytes - 1 });
    if (body === undefined) return undefined; // evicted since it was found
    return only === undefined
      ? whole(content.bytes, validators, body)
      : part(only, content.bytes, { lines: validators, body });
  }

  async function fromFill(request: ReadRequest, digest: Digest, fill: Fill): Promise<Reply | undefined> {
    const head = await headOf(fill, request, () => shownBytes(request, digest, fill)).catch((error: unknown) => {
      if (error instanceof RefusedToAll) return undefined;
      throw error;
    });
    if (head === undefined) return undefined; // this client may have the right itself
    const { totalBytes } = head;
    const lines = blobLines(digest, stateLines(cache, request, "MISS"));
    if (totalBytes === undefined)
      return { status: 200, headers: typed(lines), body: fill.follow({ first: 0, last: undefined }) };
    const asked = rangesOf(request, digest, totalBytes);
    if (asked.kind === "unsatisfiable") throw unsatisfiable(totalBytes);
    const ranges = asked.kind === "ranges" ? asked.ranges : [];
    const [only, ...more] = ranges;
    if (only === undefined) return whole(totalBytes, lines, fill.follow({ first: 0, last: undefined }));
    if (ranges.some(({ first }) => first > fill.position + NEAR_BYTES)) return undefined;
    if (more.length > 0) return multipart(ranges, totalBytes, { lines, open: async (range) => fill.follow(range) });
    return part(only, totalBytes, { lines, body: fill.follow(only) });
  }

  /**
   * HEAD stays HEAD upstream (lesson T16). In this reader's name as for content that is kept: a client whose own credentials are
   * refused must not learn from the difference what is kept here for others.
   */
  async function fromRegistry(request: ReadRequest, digest: Digest): Promise<Reply | undefined> {
    const response = await access.askAs(request.reader, request, question("HEAD", digest, undefined));
    if (response.status === 401 || response.status === 403) {
      await response.body?.cancel();
      return undefined;
    }
    const reply = await headReply(request, digest, response);
    return { ...reply, headers: [...reply.headers, ...stateLines(cache, request, "BYPASS")] };
  }

  /** What the registry says to HEAD while the fill waits for its bytes; the link that this answer gave it tells the length. */
  async function shownBytes(request: ReadRequest, digest: Digest, fill: Fill): Promise<number | undefined> {
    const place = JSON.stringify(placeFor(request));
    const shown = shownEarly.get(fill) ?? new Set();
    shownEarly.set(fill, shown);
    if (!shown.has(place) && (await askOnce(request, digest, { kind: "running", fill })) !== "shown") return undefined;
    shown.add(place);
    if (!records.isLinked(placeFor(request), digest.text)) return undefined;
    return records.size(digest.text)?.bytes;
  }

  function joinFill(request: ReadRequest, digest: Digest): Fill | undefined {
    const isNew = fills.running(digest) === undefined;
    let isShown = false;
    const shown = () => void (isShown = true);
    const fill = fills.join(digest, sourceFor(request, digest, shown));
    if (fill === undefined || !isNew) return fill;
    placeOfFill.set(fill, placeFor(request));
    // Not before: a registry may answer 200 with bytes that are not the content.
    void fill.done.then((result) => {
      if (!isShown || result.kind !== "committed" || !isSamePlace(placeOfFill.get(fill), placeFor(request))) return;
      link(request, digest, result.content.bytes);
    });
    return fill;
  }

  async function serveAs(request: ReadRequest, digest: Digest): Promise<Reply | undefined> {
    const content = await store.find(digest);
    if (content !== undefined) await untilLinked(request, digest, content);
    const held = content === undefined ? heldBy(fills.running(digest)) : ({ kind: "stored", content } as const);
    const verdict = held === undefined ? "gone" : await verdictOn(request, digest, held);
    if (verdict === "hidden") return undefined;
    if (content !== undefined && verdict === "shown") return fromStore(request, digest, content);
    if (request.exchange.method === "HEAD") return fromRegistry(request, digest);
    const fill = joinFill(request, digest);
    return fill === undefined ? undefined : fromFill(request, digest, fill);
  }

  return {
    async serve(request, { digest }) {
      if (!isVerifiable(digest)) return undefined;
      for (const reader of grants.readers(request)) {
        const asked = { ...request, reader };
        if (await grants.holds(asked)) return serveAs(asked, digest);
      }
      return undefined;
    },
    gone(place, text) {
      const digest = parseDigest(text);
      const fill = digest === undefined ? undefined : fills.running(digest);
      if (fill !== undefined && isSamePlace(placeOfFill.get(fill), place)) placeOfFill.delete(fill);
    },
  };
}

function heldBy(fill: Fill | undefined): Held | undefined {
  return fill === undefined ? undefined : { kind: "running", fill };
}

function isSamePlace(one: Place | undefined, { registry, repository }: Place): boolean {
  return one?.registry === registry && one.repository === repository;
}
