/**
 * Looking after the cache: what is in it, taking out, pinning, checking, making room. What the commands ask for, whether
 * they open the directory themselves or a running server does it for them (`http/admin`).
 *
 * Everything that may be long is an iteration: nothing is gathered in memory, and other work has its turn in between.
 */
import type { Eviction } from "../cache/evict.ts";
import type { ImageRecord, Place, Records, RecordTotals } from "../cache/records.ts";
import { type Store, StoreError } from "../cache/store.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import type { Reference } from "../registry/reference.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { UpkeepError, createNaming, matchesText, notHere, targetOf } from "./upkeep-names.ts";

export { UpkeepError } from "./upkeep-names.ts";

export interface Upkeep {
  /**
   * Images by registry, name, tag. A pattern is a part of the name, or the whole with `*` for anything.
   */
  images(pattern: string | undefined): AsyncIterable<KeptImage>;
  /** Takes an image, or any content by its digest, out, and what nobody else needs then. @throws UpkeepError */
  remove(name: string): Promise<Freed>;
  /** What is pinned is never evicted; the digests that are now. @throws UpkeepError */
  pin(name: string): Promise<readonly string[]>;
  /** @throws UpkeepError */
  unpin(name: string): Promise<readonly string[]>;
  /** Hashes everything again; what is damaged is moved aside. */
  verify(signal: AbortSignal): AsyncIterable<VerifyStep>;
  /** Evicts what is idle or too much, now. */
  prune(signal: AbortSignal): Promise<Freed>;
  stats(): Promise<CacheStats>;
}

export interface KeptImage {
  /** `"quay.io/org/app:1.2"`; `"quay.io/org/app@sha256:…"` for what was pulled by digest only. */
  readonly image: string;
  readonly digest: string;
  /** With everything below it that is known. Images share layers, so the sum is more than the cache holds. */
  readonly bytes: number;
  readonly lastUsedMs: number;
  readonly pinned: boolean;
}

export interface Freed {
  readonly contents: number;
  readonly bytes: number;
}

export type VerifyStep =
  | { readonly kind: "bad"; readonly digest: string; readonly what: "damaged" | "unreadable" }
  /** Every second or so, and at the end. */
  | {
      readonly kind: "progress" | "end";
      readonly good: number;
      readonly damaged: number;
      readonly unreadable: number;
      readonly bytes: number;
    };

export interface CacheStats extends Pick<RecordTotals, "places" | "tags" | "pinned"> {
  /** Committed content. */
  readonly contents: number;
  readonly bytes: number;
  /** Downloads under way, and half ones that can be gone on with. */
  readonly spooledBytes: number;
  readonly maxBytes: number;
  readonly minFreeBytes: number;
  /** Of the cache's disk. */
  readonly freeBytes: number;
}

export interface UpkeepOptions {
  readonly maxBytes: number;
  readonly minFreeBytes: number;
}

export interface UpkeepDependencies {
  readonly store: Store;
  readonly records: Records;
  readonly eviction: Pick<Eviction, "sweep">;
  /** What eviction has removed so far. */
  readonly evicted: () => Freed;
  readonly freeBytes: () => Promise<number>;
  readonly map: () => RegistryMap;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Rows of a page: some milliseconds, then others have their turn. */
const PAGE = 100;
const PROGRESS_MS = 1000;
const COUNTING_MS = 50;

export function createUpkeep(options: UpkeepOptions, dependencies: UpkeepDependencies): Upkeep {
  const { store, records, eviction, evicted, freeBytes, map, now } = dependencies;

  async function* images(pattern: string | undefined): AsyncGenerator<KeptImage> {
    const nameOf = createNaming(map());
    let after: ImageRecord | undefined;
    for (;;) {
      const page = records.images({ after, limit: PAGE });
      for (const { place, tag, digest, bytes, lastUsedMs, pinned } of page) {
        const image = `${nameOf(place)}${tag === undefined ? `@${digest}` : `:${tag}`}`;
        if (pattern !== undefined && !matchesText(pattern, image)) continue;
        // A tag may be known from a HEAD only.
        if (await isHere(digest)) yield { image, digest, bytes, lastUsedMs, pinned };
      }
      after = page.at(-1);
      if (after === undefined) return;
      await turnOfOthers();
    }
  }

  function isAt(place: Place, reference: Reference): boolean {
    if (reference.kind === "tag") return records.tagged(place, reference.tag).length > 0;
    return records.isLinked(place, reference.digest.text);
  }

  async function isHere(digest: string): Promise<boolean> {
    const parsed = parseDigest(digest);
    return parsed !== undefined && (await store.find(parsed)) !== undefined;
  }

  async function remove(name: string): Promise<Freed> {
    const { place, reference } = targetOf(name, map(), isAt);
    const digests = digestsOf(place, reference);
    if (place === undefined && reference.kind === "digest") await learn(reference.digest);
    else if (reference.kind === "digest" && place !== undefined && !records.isLinked(place, reference.digest.text))
      throw notHere(name);
    const pinned = digests.find((digest) => records.isPinned(digest));
    if (pinned !== undefined) throw new UpkeepError(`${name} is pinned: unpin it first`);
    if (reference.kind === "tag") {
      if (place === undefined || digests.length === 0) throw notHere(name);
      return removeBytes(records.takeOutTag(place, reference.tag));
    }
    const { text } = reference.digest;
    const [above] = place === undefined ? records.namedBy(text) : [];
    if (above !== undefined) throw new UpkeepError(`${name} is a part of ${above}, which is in the cache: remove that`);
    const doomed = records.takeOut(text, place);
    if (place !== undefined && records.isLinked(place, text))
      throw new UpkeepError(`${name} is a part of another image of its repository: remove that`);
    return removeBytes(doomed);
  }

  /** Content may be there without records, when those were deleted. */
  async function learn(digest: Digest): Promise<void> {
    const content = isVerifiable(digest) ? await store.find(digest) : undefined;
    if (content === undefined) throw notHere(digest.text);
    records.adopt(content, now());
  }

  async function removeBytes(digests: readonly string[]): Promise<Freed> {
    let [contents, bytes] = [0, 0];
    for (const digest of digests) {
      const parsed = parseDigest(digest);
      const freed = parsed === undefined ? 0 : await store.remove(parsed);
      if (freed > 0) contents += 1;
      bytes += freed;
    }
    return { contents, bytes };
  }

  function digestsOf(place: Place | undefined, reference: Reference): readonly string[] {
    if (reference.kind === "digest") return [reference.digest.text];
    return place === undefined ? [] : records.tagged(place, reference.tag);
  }

  async function pin(name: string): Promise<readonly string[]> {
    const { place, reference } = targetOf(name, map(), isAt);
    const here: string[] = [];
    for (const digest of digestsOf(place, reference)) {
      if ((place === undefined || records.isLinked(place, digest)) && (await isHere(digest))) here.push(digest);
    }
    if (here.length === 0) throw notHere(name);
    for (const digest of here) records.pin(digest);
    return here;
  }

  async function unpin(name: string): Promise<readonly string[]> {
    const { place, reference } = targetOf(name, map(), isAt);
    const pinned = digestsOf(place, reference).filter((digest) => records.isPinned(digest));
    if (pinned.length === 0)
      throw new UpkeepError(
        `${name} is not pinned; when its tag has moved since, name it by the digest that "cache ls" shows`,
      );
    for (const digest of pinned) records.unpin(digest);
    return pinned;
  }

  async function* verify(signal: AbortSignal): AsyncGenerator<VerifyStep> {
    const counts = { good: 0, damaged: 0, unreadable: 0, bytes: 0 };
    let toldMs = now();
    for await (const { digest, bytes } of store.list()) {
      const verdict = await verdictOf(digest, signal);
      await records.settled(); // what was found is written down: the disk sets the pace, not the loop
      if (verdict === undefined) continue; // removed meanwhile
      counts[verdict] += 1;
      counts.bytes += bytes;
      if (verdict !== "good") yield { kind: "bad", digest, what: verdict };
      if (now() - toldMs < PROGRESS_MS) continue;
      toldMs = now();
      yield { kind: "progress", ...counts };
    }
    yield { kind: "end", ...counts };
  }

  async function verdictOf(text: string, signal: AbortSignal): Promise<"good" | "damaged" | "unreadable" | undefined> {
    const digest = parseDigest(text);
    try {
      return digest === undefined ? undefined : await store.verify(digest, signal);
    } catch (error) {
      // The disk does not give it: that is a finding, and the others are still to be looked at.
      if (error instanceof StoreError) return "unreadable";
      throw error;
    }
  }

  async function counted(signal?: AbortSignal): Promise<void> {
    while (!store.usage().isComplete) {
      signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, COUNTING_MS));
    }
  }

  async function countPlaces(): Promise<Pick<CacheStats, "places" | "tags">> {
    let [places, tags] = [0, 0];
    for (let from: number | undefined = 0; from !== undefined;) {
      const part = records.countPlaces(from);
      places += part.places;
      tags += part.tags;
      from = part.next;
      await turnOfOthers();
    }
    return { places, tags };
  }

  return {
    images,
    remove,
    pin,
    unpin,
    verify,
    async prune(signal) {
      await counted(signal);
      const before = { ...evicted() };
      await eviction.sweep(signal);
      const after = evicted();
      return { contents: after.contents - before.contents, bytes: after.bytes - before.bytes };
    },
    async stats() {
      await counted();
      const { bytes, count, spooledBytes } = store.usage();
      const known = { ...(await countPlaces()), pinned: records.pins() };
      return { contents: count, bytes, spooledBytes, ...options, freeBytes: await freeBytes(), ...known };
    },
  };
}

/** Lets sockets and timers have their turn: awaiting what is done already does not. */
function turnOfOthers(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
