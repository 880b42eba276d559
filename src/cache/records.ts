/**
 * The Records: what may change about content that does not. Which repository may show which digest, which digest a tag
 * was, when content was last used, what is pinned, what a manifest names. One SQLite file, safe to delete: its facts come
 * back with the next requests that reach upstream, and no bytes are lost.
 *
 * Promises: nothing here throws because of the file, except `pin` and `unpin`. What cannot be read is answered as absent,
 * what cannot be written is tried again; until then the fact concerned is absent too, so a withdrawn link never shows.
 */
import type { Log } from "../log.ts";
import type { StoredContent } from "./store.ts";

/** A repository of a registry: what links and tags belong to. */
export interface Place {
  /** The registry's identity, not its key: origin, base path and name prefix of its first upstream, in one text. */
  readonly registry: string;
  /** The name there: `"library/nginx"`. */
  readonly repository: string;
}

export interface LinkFacts {
  readonly bytes: number;
  /** Of manifests: the exact Content-Type, kept per digest and place (protocol R23). Undefined keeps what was known. */
  readonly mediaType: string | undefined;
}

/** What a tag was when upstream was last asked. */
export interface TagFacts {
  /** `"sha256:…"`. */
  readonly digest: string;
  readonly mediaType: string | undefined;
  readonly bytes: number;
  readonly checkedMs: number;
}

export interface TagRecord extends TagFacts {
  /** Since when the tag has had this digest. */
  readonly firstSeenMs: number;
}

/** One line of `cache ls`. */
export interface ImageRecord {
  readonly place: Place;
  /** Undefined for a manifest that was only pulled by digest. */
  readonly tag: string | undefined;
  readonly digest: string;
  /** Of the manifest and of everything known that it names, each counted once. */
  readonly bytes: number;
  readonly lastUsedMs: number;
  readonly pinned: boolean;
}

export interface ImagePage {
  /** The last image of the page before; undefined for the first page. */
  readonly after?: ImageRecord | undefined;
  /** 1 to 1000. */
  readonly limit: number;
}

export interface RecordTotals {
  readonly places: number;
  readonly links: number;
  readonly tags: number;
  /** Digests that were linked, tagged or adopted, and the sum of their bytes. */
  readonly contents: number;
  readonly bytes: number;
  readonly pinned: number;
}

/** Content that eviction may look at; whether it may go, `condemn` says. */
export interface EvictionCandidate {
  readonly digest: string;
  readonly bytes: number;
  /** Its last use, or the last time it was seen to be needed by something that was used. */
  readonly neededMs: number;
}

export interface Records {
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

  /** The content was asked for. Written within seconds, and not at all for unknown content. */
  used(digest: string, atMs: number): void;
  /** What is pinned, and what it names, is never evicted. @throws when the file cannot be written now */
  pin(digest: string): void;
  /** @throws when the file cannot be written now */
  unpin(digest: string): void;
  isPinned(digest: string): boolean;
  /** Which digests a manifest names (children, config, layers), for eviction. Replaces what was said before. */
  setReferences(manifestDigest: string, digests: readonly string[]): void;
  /** The store has this content; counts as a use when it was not known yet. Writes no link. */
  adopt(content: StoredContent): void;
  /** The bytes are gone, or will be: links, tags and references of this digest go with them; a pin stays. */
  forget(digest: string): void;

  /** The content that was not needed for the longest time, oldest first; at most 1000. What was pinned or needed since moves on only by `condemn`. */
  evictionCandidates(limit: number): readonly EvictionCandidate[];
  /**
   * Decides whether content may go now. What is pinned, and what a pinned or later used manifest names, may not: it is
   * counted as needed and moves behind the younger ones. Otherwise it is forgotten, and before it every manifest that
   * names it, so that no manifest outlives its layers.
   * @returns the digests whose bytes the caller must remove, in this order; empty when it stays
   */
  condemn(digest: string): readonly string[];

  /** By registry, repository, tag, digest. What was pulled by digest only comes before the tags of its repository. */
  images(page: ImagePage): readonly ImageRecord[];
  /** Counts; a few milliseconds for 100,000 rows, so for commands only. */
  totals(): RecordTotals;

  /** Writes what waits. */
  flush(): void;
  /** Writes what waits and closes the file. Everything is absent afterwards. */
  close(): void;
}

export interface RecordsOptions {
  /** Path of the database, in a folder that exists. */
  readonly file: string | ":memory:";
}

export interface RecordsDependencies {
  readonly log: Log;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Opens the Records, never fails: a damaged file is moved aside and a fresh one made, and where there can be no file they
 * are kept in memory; each with one log line.
 */
export function openRecords(options: RecordsOptions, _dependencies: RecordsDependencies): Records {
  throw new Error(`not implemented: ${options.file}`);
}
