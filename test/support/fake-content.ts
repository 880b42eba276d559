/**
 * What a fake registry holds and the honest answer to each pull request, before any fault: manifests, blobs, tags, referrers.
 * It follows the distribution specification and leans on nothing of Layover's own parsers.
 */
import type { HeaderLine } from "../../src/errors.ts";
import { errorBody, utf8, type Plan } from "./fake-delivery.ts";
import type { Kind } from "./fake-faults.ts";
import { MEDIA_TYPES, type Image, type StoredManifest } from "./images.ts";

export interface FakeRepository {
  readonly blobs: Map<string, Uint8Array>;
  readonly manifests: Map<string, StoredManifest>;
  readonly tags: Map<string, string>;
}

/** What a path asks for. */
export interface FakeTarget {
  readonly kind: Exclude<Kind, "token" | "cdn">;
  readonly repository: string;
  /** Tag, digest, or upload id. */
  readonly reference: string;
}

/** `/v2/<name>/(manifests|blobs|tags|referrers)/…`, read from the right (protocol R15). */
export function parseTarget(path: string): FakeTarget | undefined {
  if (path === "/v2/" || path === "/v2") return { kind: "ping", repository: "", reference: "" };
  const upload = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/.exec(path);
  if (upload !== null) return { kind: "push", repository: upload[1] ?? "", reference: upload[2] ?? "" };
  const [, repository = "", noun = "", reference = ""] =
    /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/]+)$/.exec(path) ?? [];
  if (noun === "tags") return reference === "list" ? { kind: "tags", repository, reference } : undefined;
  if (noun === "manifests") return { kind: "manifest", repository, reference };
  if (noun === "blobs") return { kind: "blob", repository, reference: decodeURIComponent(reference) };
  if (noun === "referrers") return { kind: "referrers", repository, reference: decodeURIComponent(reference) };
  return undefined;
}

export function createFakeContent() {
  const repositories = new Map<string, FakeRepository>();
  return {
    repositories,
    /** Adds content to a repository, making it; later tags win. */
    add(name: string, image: Pick<Image, "blobs" | "manifests" | "tags">): void {
      const repository = repositories.get(name) ?? { blobs: new Map(), manifests: new Map(), tags: new Map() };
      repositories.set(name, repository);
      for (const [digest, blob] of image.blobs) repository.blobs.set(digest, blob);
      for (const [digest, manifest] of image.manifests) repository.manifests.set(digest, manifest);
      for (const [tag, digest] of image.tags) repository.tags.set(tag, digest);
    },
    answer(target: FakeTarget, query: string, baseUrl: string): Plan {
      if (target.kind === "ping")
        return { status: 200, lines: [["Content-Type", "application/json"]], body: utf8("{}") };
      const repository = repositories.get(target.repository);
      if (repository === undefined) return notFound("NAME_UNKNOWN", "repository name not known to registry");
      if (target.kind === "manifest") return manifestOf(repository, target.reference);
      if (target.kind === "blob") return blobOf(repository, target.reference);
      if (target.kind === "tags") return tagsOf(target.repository, repository, new URLSearchParams(query), baseUrl);
      if (target.kind === "referrers") return referrersOf(repository, target.reference, new URLSearchParams(query));
      return notFound("UNSUPPORTED", "not a pull", 405);
    },
  };
}

export type FakeContent = ReturnType<typeof createFakeContent>;

function manifestOf(repository: FakeRepository, reference: string): Plan {
  const digest = reference.includes(":") ? reference : repository.tags.get(reference);
  const manifest = digest === undefined ? undefined : repository.manifests.get(digest);
  if (digest === undefined || manifest === undefined) return notFound("MANIFEST_UNKNOWN", "manifest unknown");
  const lines: HeaderLine[] = [
    ["Content-Type", manifest.mediaType],
    ["Docker-Content-Digest", digest],
    ["Docker-Distribution-Api-Version", "registry/2.0"],
    ["Etag", `"${digest}"`],
  ];
  return { status: 200, lines, body: manifest.bytes };
}

function blobOf(repository: FakeRepository, digest: string): Plan {
  const blob = repository.blobs.get(digest);
  if (blob === undefined) return notFound("BLOB_UNKNOWN", "blob unknown to registry");
  const lines: HeaderLine[] = [
    ["Content-Type", "application/octet-stream"],
    ["Docker-Content-Digest", digest],
    ["Accept-Ranges", "bytes"],
    ["Etag", `"${digest}"`],
  ];
  return { status: 200, lines, body: blob, isRangeable: true };
}

function tagsOf(name: string, repository: FakeRepository, query: URLSearchParams, baseUrl: string): Plan {
  const last = query.get("last");
  const after = [...repository.tags.keys()].sort().filter((tag) => last === null || tag > last);
  const n = query.get("n");
  if (n !== null && !/^\d+$/.test(n))
    return notFound("PAGINATION_NUMBER_INVALID", "invalid number of results requested", 400);
  const tags = n === null ? after : after.slice(0, Number(n));
  const lines: HeaderLine[] = [["Content-Type", "application/json"]];
  const lastShown = tags.at(-1);
  if (lastShown !== undefined && tags.length < after.length) {
    lines.push(["Link", `<${baseUrl}/v2/${name}/tags/list?last=${lastShown}&n=${n}>; rel="next"`]);
  }
  return { status: 200, lines, body: utf8(JSON.stringify({ name, tags })) };
}

function referrersOf(repository: FakeRepository, subject: string, query: URLSearchParams): Plan {
  if (!/^[a-z0-9]+:[0-9a-f]{32,}$/.test(subject)) return notFound("DIGEST_INVALID", "invalid digest", 400);
  const wanted = query.get("artifactType");
  const manifests = [];
  for (const [digest, { bytes, mediaType }] of repository.manifests) {
    const manifest = parseJson(bytes);
    if (manifest?.subject?.digest !== subject) continue;
    if (wanted !== null && manifest.artifactType !== wanted) continue;
    manifests.push({
      mediaType,
      digest,
      size: bytes.length,
      artifactType: manifest.artifactType,
      annotations: manifest.annotations,
    });
  }
  const lines: HeaderLine[] = [["Content-Type", MEDIA_TYPES.ociIndex]];
  if (wanted !== null) lines.push(["OCI-Filters-Applied", "artifactType"]);
  return {
    status: 200,
    lines,
    body: utf8(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests })),
  };
}

interface ManifestJson {
  artifactType?: string;
  annotations?: Record<string, string>;
  subject?: { digest?: string };
}

function parseJson(bytes: Uint8Array): ManifestJson | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined; // a manifest of a test may be anything; it then refers to nothing
  }
}

function notFound(code: string, message: string, status = 404): Plan {
  return { status, lines: [["Content-Type", "application/json"]], body: utf8(errorBody(code, message)) };
}
