/**
 * The Records: what may change about content that does not. Which repository may show which digest, which digest a tag
 * was, who may read, when content was last used, what is pinned, what a manifest names. One SQLite file, safe to delete: its facts come
 * back with the next requests that reach upstream, and no bytes are lost.
 *
 * Promises: nothing here throws because of the file, except `pin` and `unpin`. What cannot be read is answered as absent,
 * what cannot be written is tried again; until then the fact concerned is absent too, so a withdrawn link never shows.
 */
import type { Log } from "../log.ts";
import { createRecordsDatabase } from "./records-database.ts";
import type {
  EvictionCandidate,
  ImagePage,
  ImageRecord,
  LinkFacts,
  Place,
  PlaceCount,
  Grant,
  RecordTotals,
  TagFacts,
  TagRecord,
} from "./records-facts.ts";
import type { Tables } from "./records-tables.ts";
import type { KnownSize, KnownSizes } from "./integrity.ts";
import type { StoredContent } from "./store.ts";

export { recordsFileNames } from "./records-file.ts";
export { EVERYBODY } from "./records-facts.ts";
export type {
  EvictionCandidate,
  ImagePage,
  ImageRecord,
  LinkFacts,
  Place,
  PlaceCount,
  Grant,
  RecordTotals,
  TagFacts,
  TagRecord,
} from "./records-facts.ts";

export interface Records extends KnownSizes {
  /** True when this repository may show this digest (product section 5). */
  isLinked(place: Place, digest: string): boolean;
  /** Writes the link, and counts as a use. Only after upstream showed this digest to this repository. */
  link(place: Place, digest: string, facts: LinkFacts): void;
  /** The Content-Type the digest was linked with; undefined when there is no link, or none was given. */
  mediaType(place: Place, digest: string): string | undefined;
  /** The repository may not show the digest any more; its tags that lead there go too. */
  unlink(place: Place, digest: string): void;
  /** No repository may show the digest any more. The bytes stay until they are evicted. */
  unlinkAll(digest: string): void;

  /** @param accept class of the request's Accept header: a tag may lead to other digests under each */
  tag(place: Place, tag: string, accept: string): TagRecord | undefined;
  /** `firstSeenMs` stays while the digest does, else it becomes `checkedMs`. */
  setTag(place: Place, tag: string, accept: string, facts: TagFacts): void;
  /** Upstream was asked and the tag is what it was. Does nothing for an unknown tag. */
  touchTag(place: Place, tag: string, accept: string, checkedMs: number): void;
  /** The tag is gone, under every class of Accept. */
  removeTag(place: Place, tag: string): void;

  /**
   * That the holder may read the repository, when that was ever shown; how long it holds is the reader's to judge.
   * @param holder `EVERYBODY`, or a keyed hash of a credential
   */
  grant(place: Place, holder: string): Grant | undefined;
  setGrant(place: Place, holder: string, facts: Grant): void;
  dropGrant(place: Place, holder: string): void;

  /** The content was asked for. Written within seconds, and not at all for unknown content. */
  used(digest: string, atMs: number): void;
  /** What is pinned, and what it names, is never evicted. @throws when the file cannot be written now */
  pin(digest: string): void;
  /** @throws when the file cannot be written now */
  unpin(digest: string): void;
  isPinned(digest: string): boolean;
  /**
   * Which digests a manifest names (children, config, layers), for eviction. Replaces what was said before. Said each time a
   * manifest is linked, not only when its bytes are new: the records may have been deleted, or the manifest forgotten.
   */
  setReferences(manifestDigest: string, digests: readonly string[]): void;
  /** The store has this content; when that is news, it counts as used then. Writes no link, and not later. */
  adopt(content: StoredContent, atMs: number): void;
  /** How long the content is, as far as that is known: a fact once it was verified, else what a registry told. */
  size(digest: string): KnownSize | undefined;
  /** The content was hashed: nothing that a registry tells changes its length any more. News counts as a use. */
  verified(content: StoredContent): void;
  /** The bytes are gone, or will be: links, tags and references of this digest go with them; a pin stays. */
  forget(digest: string): void;

  /** The content that was not needed for the longest time, oldest first; at most 1000. `condemn` each, then ask again. */
  evictionCandidates(limit: number): readonly EvictionCandidate[];
  /**
   * Decides whether content may go now. What is pinned, used since, or named by a manifest that is pinned or was used later,
   * may not: it moves behind the candidates that are younger. Otherwise it is forgotten, and before it every manifest that
   * names it, so that no manifest outlives its layers.
   * @returns the digests whose bytes the caller must remove, in this order; empty when it stays; undefined when the file
   *   cannot be written now
   */
  condemn(candidate: EvictionCandidate): readonly string[] | undefined;

  /** What a tag leads to, under each class of Accept. */
  tagged(place: Place, tag: string): readonly string[];
  /** Manifests that are here and name the digest, at most ten. */
  namedBy(digest: string): readonly string[];
  /**
   * Takes a tag out, and the image it led to unless another tag of the repository leads there: links and tags, also of what
   * it names and nothing else of the repository does.
   * @returns the digests that nobody needs any more, whose bytes the caller must remove, in this order
   * @throws when the file cannot be written now
   */
  takeOutTag(place: Place, tag: string): readonly string[];
  /** The same for an image, or any content, by its digest; in every repository without a place. */
  takeOut(digest: string, place: Place | undefined): readonly string[];

  /** By registry, repository, tag, digest. What was pulled by digest only comes before the tags of its repository. */
  images(page: ImagePage): readonly ImageRecord[];
  /** Counts some places from a number on, 0 at first, and their tags. */
  countPlaces(from: number): PlaceCount;
  /** What is pinned. */
  pins(): number;
  /** Counts everything in one turn, tens of milliseconds for 100,000 rows: not while anybody waits. */
  totals(): RecordTotals;

  /** Another number once this process may have changed what is read here, or whether it can be; costs nothing. */
  changes(): number;
  /** The same for other processes, by a look at the file; undefined when it cannot be asked now. */
  foreignChanges(): number | undefined;
  /** When the file has caught up with its log: whoever writes very much waits for this now and then. Never rejects. */
  settled(): Promise<void>;
  /** Writes what waits. */
  flush(): void;
  /** Writes what waits and closes the file. Everything is absent afterwards. */
  close(): void;
}

export interface RecordsOptions {
  /** Path of the database, in a folder that exists; `":memory:"` for none. */
  readonly file: string;
  /** Links at most, and as many tags and grants; a million by default. */
  readonly maxRows?: number;
}

export interface RecordsDependencies {
  readonly log: Log;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Bounds the file at some hundred megabytes; what is longest unproven goes first, and comes back with its next pull. */
const MAX_ROWS = 1_000_000;

/**
 * Opens the Records, never fails: a damaged file is moved aside and a fresh one made, and where there can be no file they
 * are kept in memory; each with one log line.
 */
export function openRecords({ file, maxRows = MAX_ROWS }: RecordsOptions, { log, now }: RecordsDependencies): Records {
  const database = createRecordsDatabase({ file, maxRows }, { log, now });
  const { read, isWaiting, tryWrite } = database;

  function state(subject: string, write: (tables: Tables) => void): void {
    database.write({ kind: "fact", subject, write });
  }

  function withdraw(subject: string, write: (tables: Tables) => void): void {
    database.write({ kind: "withdrawal", subject, write });
  }

  return {
    isLinked: (place, digest) =>
      !isWaiting(linkOf(digest)) && read(false, ({ links }) => links.isLinked(place, digest)),
    mediaType: (place, digest) =>
      isWaiting(linkOf(digest)) ? undefined : read(undefined, ({ links }) => links.mediaType(place, digest)),
    link: (place, digest, facts) => state(linkOf(digest), ({ links }) => links.link(place, digest, facts)),
    unlink: (place, digest) => withdraw(linkOf(digest), ({ links }) => links.unlink(place, digest)),
    unlinkAll: (digest) => withdraw(linkOf(digest), ({ links }) => links.unlinkAll(digest)),

    tag(place, tag, accept) {
      if (isWaiting(tagOf(place, tag))) return undefined;
      const record = read(undefined, ({ tags }) => tags.tag(place, tag, accept));
      return record === undefined || isWaiting(linkOf(record.digest)) ? undefined : record;
    },
    setTag: (place, tag, accept, facts) =>
      state(tagOf(place, tag), ({ tags }) => tags.setTag(place, tag, accept, facts)),
    touchTag: (place, tag, accept, checkedMs) =>
      state(HARMLESS, ({ tags }) => tags.touchTag(place, tag, accept, checkedMs)),
    removeTag: (place, tag) => withdraw(tagOf(place, tag), ({ tags }) => tags.removeTag(place, tag)),

    grant: (place, holder) =>
      isWaiting(grantOf(place, holder)) ? undefined : read(undefined, ({ grants }) => grants.grant(place, holder)),
    setGrant: (place, holder, facts) =>
      state(grantOf(place, holder), ({ grants }) => grants.setGrant(place, holder, facts)),
    dropGrant: (place, holder) => withdraw(grantOf(place, holder), ({ grants }) => grants.dropGrant(place, holder)),

    used: (digest, atMs) => database.used(digest, atMs),
    pin: (digest) => void written(tryWrite(({ needs }) => (needs.pin(digest), true))),
    unpin: (digest) => void written(tryWrite(({ needs }) => (needs.unpin(digest), true))),
    isPinned: (digest) => read(false, ({ needs }) => needs.isPinned(digest)),
    setReferences: (manifestDigest, digests) =>
      state(HARMLESS, ({ needs }) => needs.setReferences(manifestDigest, digests)),
    adopt(content, atMs) {
      if (read(true, ({ needs }) => needs.knows(content))) return;
      tryWrite(({ needs }) => needs.adopt(content, atMs));
    },
    size: (digest) => (isWaiting(linkOf(digest)) ? undefined : read(undefined, ({ needs }) => needs.size(digest))),
    verified: (content) => state(HARMLESS, ({ needs }) => needs.verified(content)),
    forget: (digest) => withdraw(linkOf(digest), ({ needs }) => needs.forget(digest)),

    evictionCandidates(limit) {
      if (read(false, ({ needs }) => needs.isAheadOfTime())) tryWrite(({ needs }) => needs.comeBackToNow());
      return read([], ({ needs }) => needs.evictionCandidates(limit));
    },
    condemn: (candidate) => tryWrite(({ needs }) => needs.condemn(candidate)),

    tagged: (place, tag) => read([], ({ removal }) => removal.tagged(place, tag)),
    namedBy: (digest) => read([], ({ removal }) => removal.namedBy(digest)),
    takeOutTag: (place, tag) => written(tryWrite(({ removal }) => removal.removeTag(place, tag))),
    takeOut: (digest, place) => written(tryWrite(({ removal }) => removal.remove(digest, place))),

    images: (page) => read([], ({ images }) => images.images(page)),
    countPlaces: (from) => read(NO_PLACES, ({ images }) => images.countPlaces(from)),
    pins: () => read(0, ({ needs }) => needs.pins()),
    totals: () => read(NOTHING, ({ images }) => images.totals()),

    changes: () => database.changes(),
    foreignChanges: () => read<number | undefined>(undefined, (tables) => tables.foreignChanges()),
    settled: () => database.settled(),
    flush: () => database.flush(),
    close: () => database.close(),
  };
}

const NO_PLACES: PlaceCount = { places: 0, tags: 0, next: undefined };
const NOTHING: RecordTotals = { places: 0, links: 0, tags: 0, contents: 0, bytes: 0, pinned: 0 };

/** Subject of writes that may wait without hiding anything: what is known without them still holds. */
const HARMLESS = "harmless";

/** Subject of writes about a digest's links, in any place. */
function linkOf(digest: string): string {
  return `link ${digest}`;
}

/** Subject of writes about a tag. */
function tagOf({ registry, repository }: Place, tag: string): string {
  return `tag ${registry} ${repository} ${tag}`;
}

function grantOf({ registry, repository }: Place, holder: string): string {
  return `grant ${registry} ${repository} ${holder}`;
}

function written<T>(result: T | undefined): T {
  if (result === undefined) throw new Error("records cannot be written now: another process holds the file; try again");
  return result;
}
