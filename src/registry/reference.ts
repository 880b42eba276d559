/**
 * The grammar of repository names, tags and references (protocol R7–R9, R13; OCI distribution-spec "Pulling manifests").
 * Names here are those a registry itself knows: a host in front of them is `registry/endpoint`'s and `registry/route`'s subject.
 */
import { type Digest, parseDigest } from "./digest.ts";

/** What a manifest is asked by. */
export type Reference =
  { readonly kind: "tag"; readonly tag: string } | { readonly kind: "digest"; readonly digest: Digest };

/** Clients refuse longer names themselves (protocol R8). */
const MAX_NAME_LENGTH = 255;

// `_` and `__` separate, `___` does not; any number of `-` does. The separators share no character with the words
// between them, so the expression runs in linear time.
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

/** True for a repository name such as `"library/nginx"`: no leading or trailing slash, at most 255 characters. */
export function isRepositoryName(text: string): boolean {
  return text.length <= MAX_NAME_LENGTH && NAME.test(text);
}

/** True for a tag: 1 to 128 of `a-z A-Z 0-9 . _ -`, the first neither dot nor dash. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

/**
 * Reads a tag or a digest; a colon decides which, since tags cannot hold one (protocol R13).
 * @returns undefined when it is neither
 */
export function parseReference(text: string): Reference | undefined {
  if (text.includes(":")) {
    const digest = parseDigest(text);
    return digest === undefined ? undefined : { kind: "digest", digest };
  }
  return isTag(text) ? { kind: "tag", tag: text } : undefined;
}

/** The reference as it stands in a path: `"latest"` or `"sha256:…"`. */
export function referenceText(reference: Reference): string {
  return reference.kind === "tag" ? reference.tag : reference.digest.text;
}
