/**
 * The shapes of what the Records hold, for whoever asks and for each group of statements that answers.
 */

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

/** The holder of a grant that everybody has: the repository is public. */
export const EVERYBODY = "";

/** That its holder may read a repository. */
export interface Grant {
  /** The digest of a manifest that was answered 200 to a request in the holder's name. */
  readonly proof: string;
  readonly checkedMs: number;
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

/** A part of what there is: places are counted some at a time, because a million tags are not counted in one turn. */
export interface PlaceCount {
  readonly places: number;
  readonly tags: number;
  /** Where to go on; undefined at the end. */
  readonly next: number | undefined;
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
