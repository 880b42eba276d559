/**
 * Image names as people write them: `nginx`, `quay/org/app:1.2`, `ghcr.io/org/app@sha256:…`. Which registry the first word
 * means is `registry/route`'s to say; here only the name and what stands behind it are told apart (protocol R7–R9, R13, R16).
 */
import { parseHost } from "./host.ts";
import { isRepositoryName, parseReference, type Reference, referenceText } from "./reference.ts";
import type { Registry } from "./registry.ts";

export interface ImageName {
  /** Without tag and digest, the registry in front when one was written: `"quay.io/org/app"`. Harmless in a path. */
  readonly name: string;
  /** The digest when there is one, also behind a tag; else the tag; `latest` when neither was written. */
  readonly reference: Reference;
}

/** Reads an image name; undefined for anything else: a URL, capitals in a repository, an empty tag. */
export function parseImageName(text: string): ImageName | undefined {
  const [tagged = "", digest, ...more] = text.split("@");
  if (more.length > 0) return undefined;
  // A colon before the last slash is a port's.
  const colon = tagged.indexOf(":", tagged.lastIndexOf("/") + 1);
  const name = colon === -1 ? tagged : tagged.slice(0, colon);
  const tag = parseReference(colon === -1 ? "latest" : tagged.slice(colon + 1));
  const reference = digest === undefined ? tag : parseReference(digest);
  if (!isName(name) || tag?.kind !== "tag" || reference === undefined) return undefined;
  return digest !== undefined && reference.kind !== "digest" ? undefined : { name, reference };
}

/** The name again: `"quay.io/org/app:1.2"`, `"nginx@sha256:…"`. */
export function imageText({ name, reference }: ImageName): string {
  return `${name}${reference.kind === "tag" ? ":" : "@"}${referenceText(reference)}`;
}

/** The name that means this repository of this registry whatever the default is: `"docker.io/library/nginx"`. */
export function fullName({ hosts, isDockerHub, key }: Registry, repository: string): string {
  return `${isDockerHub ? "docker.io" : (hosts[0] ?? key)}/${repository}`;
}

function isName(text: string): boolean {
  const slash = text.indexOf("/");
  if (slash === -1 || isRepositoryName(text)) return isRepositoryName(text);
  return parseHost(text.slice(0, slash)) !== undefined && isRepositoryName(text.slice(slash + 1));
}
