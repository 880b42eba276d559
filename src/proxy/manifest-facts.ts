/**
 * What a request and an answer say about a manifest: under which kinds of Accept it was asked for, what a HEAD told, and
 * whether an error is a verdict at all.
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { bareType, isManifestType } from "../registry/mediatype.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { ReaderAnswer, RegistryRequest } from "./access.ts";
import type { CacheState } from "./exchange.ts";
import { acceptFor } from "./manifest.ts";

/** Clients send a handful of Accept lines; the rest is somebody's own, and read each time. */
const MAX_CLASSES = 256;
const MAX_REMEMBERED_CHARACTERS = 1024;

/** What a tag or digest means now. */
export interface Found {
  readonly kind: "found";
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly state: CacheState;
  /** The content, when finding out brought it. */
  readonly content?: Uint8Array;
  /** To be called when the content is here: until then the tag stays what it was, whose content is. */
  readonly record?: () => void;
  /** What the tag was, if it may be served, for when the content cannot be had. */
  readonly former?: () => Promise<Found | undefined>;
}

/** What a registry said, and when it was asked. */
export interface Answer {
  readonly response: ReaderAnswer;
  readonly turn: number;
}

/** `pass`: this request must pass the cache by. */
export type Resolution = Found | { readonly kind: "pass" };

export const PASS: Resolution = { kind: "pass" };

/**
 * Registries may lead a tag elsewhere for another Accept: gives the kinds of manifest in it, in one order. Reading the line
 * takes longer than looking the tag up, and it is mostly the same: what was read is remembered.
 */
export function createAcceptClasses(): (request: RegistryRequest) => string {
  const classes = new LRUCache<string, string>({ max: MAX_CLASSES });
  return function acceptClass(request) {
    const accept = request.exchange.headers.get("accept") ?? "";
    const known = classes.get(accept);
    if (known !== undefined) return known;
    const read = classOf(acceptFor(accept));
    if (accept.length <= MAX_REMEMBERED_CHARACTERS) classes.set(accept, read);
    return read;
  };
}

function classOf(accept: string): string {
  const types = accept
    .split(",")
    .map((entry) => bareType(entry))
    .filter((type) => isManifestType(type));
  return [...new Set(types)].sort().join(" ");
}

/** No verdict about the content: the registry, its token server or the way there failed. */
export function isTrouble(error: unknown): error is RegistryError {
  return error instanceof RegistryError && (error.status >= 500 || error.status === 429);
}

/** What a HEAD told, if it told all of it. */
export function factsOf(response: UpstreamResponse): { digest: Digest; mediaType: string; bytes: number } | undefined {
  const digest = parseDigest(response.headers.get("docker-content-digest") ?? "");
  const mediaType = bareType(response.headers.get("content-type"));
  const bytes = Number(response.headers.get("content-length") ?? 0);
  if (digest === undefined || !isVerifiable(digest) || !isManifestType(mediaType) || !(bytes > 0)) return undefined;
  return { digest, mediaType, bytes };
}

/** Said to clients about an answer that could not be checked (protocol R241). */
export function staleWarning(state: CacheState) {
  return state === "STALE" ? ([["Warning", '299 - "stale: the registry cannot be asked now"']] as const) : [];
}
