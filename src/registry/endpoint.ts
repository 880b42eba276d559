/**
 * An Endpoint is what a request asks for: the only reading of `/v2` paths there is (protocol section 1.1, product section 1).
 * It takes the raw path apart and checks its grammar; which registry is meant, `registry/route` decides. Paths are read
 * from the right, because a name may itself hold `manifests`, `blobs`, `tags` or `v2` (protocol R15).
 *
 *     /v2/<name>/manifests/<reference>              no `before`
 *     /<registry>/v2/<name>/manifests/<reference>   `before` = <registry>
 *     /<registry>/<name>/manifests/<reference>      `before` = <registry>, `raw`
 */
import { type ErrorCode, RegistryError } from "../errors.ts";
import { type Digest, parseDigest } from "./digest.ts";
import { parseHost } from "./host.ts";
import { isRepositoryName, parseReference, type Reference } from "./reference.ts";

/** Names are as written, so a first component may be a registry's host or key: `"quay.io/a/b"`, `"[::1]:5000/a"`. */
export type Target =
  | { readonly kind: "ping" }
  | { readonly kind: "catalog" }
  | { readonly kind: "manifest"; readonly name: string; readonly reference: Reference }
  | { readonly kind: "blob"; readonly name: string; readonly digest: Digest }
  | { readonly kind: "tags"; readonly name: string }
  | { readonly kind: "referrers"; readonly name: string; readonly digest: Digest }
  /** `session` is undefined where an upload begins. */
  | { readonly kind: "upload"; readonly name: string; readonly session: string | undefined };

export interface Placement {
  /** What stood before `/v2`: a key or host as written, not yet looked up. */
  readonly before: string | undefined;
  /** True for the form without `/v2` (compat C8). */
  readonly raw: boolean;
}

export type Endpoint = Target & Placement;

/** First components that are our own paths: never a registry's key, and never taken for one. */
export const RESERVED_COMPONENTS: ReadonlySet<string> = new Set([
  "api",
  "auth",
  "ca.crt",
  "docs",
  "favicon.ico",
  "health",
  "healthz",
  "help",
  "metrics",
  "readyz",
  "setup",
  "token",
  "v1",
  "v2",
]);

/**
 * Reads a raw path that holds no `%` but `%3A`, no `..` and no `//`. `%3A` is decoded in references only (protocol R252).
 * @returns undefined when it is no registry path: one of our own, or nothing that looks like a pull
 * @throws RegistryError NAME_INVALID, TAG_INVALID, DIGEST_INVALID (400), and 404 with UNSUPPORTED for paths of no known
 *   form, or MANIFEST_UNKNOWN, BLOB_UNKNOWN, NAME_UNKNOWN for a known form with a slash behind it (protocol R253)
 */
export function parseEndpoint(path: string): Endpoint | undefined {
  // The token service lives under /v2/ as well (compat C4).
  if (path === "/v2/auth" || !path.startsWith("/")) return undefined;
  const [first = "", ...rest] = path.slice(1).split("/");
  if (first === "v2") return { ...targetOf(rest), before: undefined, raw: false };
  if (RESERVED_COMPONENTS.has(first) || !mayNameRegistry(first)) return undefined;
  if (rest[0] === "v2") return { ...targetOf(rest.slice(1)), before: first, raw: false };
  const target = knownTarget(rest);
  return target === undefined ? undefined : { ...target, before: first, raw: true };
}

/** What follows `/v2`. `/v2` alone is the ping as much as `/v2/` is (protocol R4). */
function targetOf(components: readonly string[]): Target {
  if (components.join("/") === "") return { kind: "ping" };
  if (components.join("/") === "_catalog") return { kind: "catalog" };
  const target = knownTarget(components);
  if (target !== undefined) return target;
  throw slashError(components) ?? notFound("UNSUPPORTED", "no endpoint of the registry API has this path");
}

/** The target of components that end like one; undefined when they do not. */
function knownTarget(components: readonly string[]): Target | undefined {
  const noun = components.at(-2) ?? "";
  const last = components.at(-1) ?? "";
  const isUploadSession = components.at(-3) === "blobs" && noun === "uploads";
  const head = components.slice(0, isUploadSession ? -3 : -2);
  // Without a name nothing is asked for: `/v2/tags/list`.
  if (head.length === 0) return undefined;
  if (noun === "blobs" && last === "uploads") return uploadTarget(head, "");
  if (noun === "tags" && last === "list") return { kind: "tags", name: nameOf(head) };
  if (isUploadSession) return uploadTarget(head, last);
  if (last === "") return undefined;
  if (noun === "manifests") return { kind: "manifest", name: nameOf(head), reference: referenceOf(last) };
  if (noun === "blobs") return { kind: "blob", name: nameOf(head), digest: digestOf(last) };
  if (noun === "referrers") return { kind: "referrers", name: nameOf(head), digest: digestOf(last) };
  return undefined;
}

/** Registries make up session names; distribution's are of these characters (protocol R67). */
const SESSION = /^[A-Za-z0-9_.=~-]{1,1024}$/;

function uploadTarget(head: readonly string[], session: string): Target {
  const name = nameOf(head);
  if (session === "") return { kind: "upload", name, session: undefined };
  if (SESSION.test(session)) return { kind: "upload", name, session };
  throw new RegistryError("BLOB_UPLOAD_INVALID", "expected the name of an upload session");
}

/** Checks all of a name but a first component that is a host: routing strips that one and checks what is left. */
function nameOf(components: readonly string[]): string {
  const name = components.join("/");
  const [first = "", ...rest] = components;
  const behindHost = isHostComponent(first) && rest.length > 0 ? rest.join("/") : name;
  if (isRepositoryName(behindHost)) return name;
  throw new RegistryError("NAME_INVALID", "expected a repository name of lower-case words joined by / . _ or -");
}

function referenceOf(component: string): Reference {
  const text = decodeColon(component);
  const reference = parseReference(text);
  if (reference !== undefined) return reference;
  if (text.includes(":")) throw digestInvalid();
  throw new RegistryError("TAG_INVALID", "expected a tag of at most 128 letters, digits, dots, dashes and underscores");
}

function digestOf(component: string): Digest {
  const digest = parseDigest(decodeColon(component));
  if (digest === undefined) throw digestInvalid();
  return digest;
}

function digestInvalid(): RegistryError {
  return new RegistryError("DIGEST_INVALID", "expected a digest such as sha256:<64 lower-case hex digits>");
}

/** Clients that escape path components write `sha256%3A…`. */
function decodeColon(component: string): string {
  return component.replace(/%3a/gi, ":");
}

/** True for a component that cannot be the beginning of a name because it has the dot or colon of a host (protocol R16). */
function isHostComponent(text: string): boolean {
  return /[.:]/.test(text) && parseHost(text) !== undefined;
}

const KEY = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

function mayNameRegistry(text: string): boolean {
  return KEY.test(text) || isHostComponent(text);
}

/** A trailing slash asks for nothing that exists; the code says what is missing, never NAME_UNKNOWN for referrers (protocol R35). */
function slashError(components: readonly string[]): RegistryError | undefined {
  if (components.at(-1) !== "" || components.length < 4) return undefined;
  const noun = components.at(-3);
  const message = "the path must not end in a slash";
  if (noun === "manifests" || noun === "referrers") return notFound("MANIFEST_UNKNOWN", message);
  if (noun === "blobs") return notFound("BLOB_UNKNOWN", message);
  return noun === "tags" ? notFound("NAME_UNKNOWN", message) : undefined;
}

function notFound(code: ErrorCode, message: string): RegistryError {
  return new RegistryError(code, message, { status: 404 });
}
