/**
 * The honest answer of a fake registry to each request that writes: uploads, manifests with their tags and subject,
 * deletions. What a manifest names must be there first, as real registries demand.
 */
import type { HeaderLine } from "../../src/errors.ts";
import type { FakeContent, FakeRepository, FakeTarget } from "./fake-content.ts";
import { errorBody, utf8, type Plan } from "./fake-delivery.ts";
import type { PushFaults } from "./fake-faults.ts";
import type { FakeUploads } from "./fake-uploads.ts";
import { digestOf } from "./images.ts";
import type { WireRequest } from "./wire-server.ts";

export interface FakeWritesParts {
  readonly content: FakeContent;
  readonly uploads: FakeUploads;
  readonly basePath: string;
}

/** True for what is no pull: the state of an upload is asked with GET. */
export function isWrite(target: FakeTarget, { method }: Pick<WireRequest, "method">): boolean {
  return target.kind === "push" || (method !== "GET" && method !== "HEAD");
}

export function createFakeWrites({ content, uploads, basePath }: FakeWritesParts) {
  function putManifest({ repository, reference }: FakeTarget, request: WireRequest): Plan {
    const bytes = request.body;
    const isDigest = reference.includes(":");
    const digest = digestOf(bytes, reference.startsWith("sha512:") ? "sha512" : "sha256");
    if (isDigest && digest !== reference) return refusal(400, "DIGEST_INVALID", "provided digest did not match");
    const manifest = parse(bytes);
    if (manifest === undefined) return refusal(400, "MANIFEST_INVALID", "no JSON");
    const held = content.repositories.get(repository);
    const missing = namedBy(manifest).find((one) => !held?.blobs.has(one) && !held?.manifests.has(one));
    if (missing !== undefined) return refusal(400, "MANIFEST_BLOB_UNKNOWN", `unknown to the repository: ${missing}`);
    const mediaType = request.headers.get("content-type") ?? "";
    const more = new URLSearchParams(request.query).getAll("tag");
    const tags = isDigest ? more : [reference];
    content.add(repository, {
      blobs: new Map(),
      manifests: new Map([[digest, { bytes, mediaType }]]),
      tags: new Map(tags.map((tag) => [tag, digest])),
    });
    const subject = manifest.subject?.digest;
    const lines: HeaderLine[] = [
      ["Location", `${basePath}/v2/${repository}/manifests/${reference}`],
      ["Docker-Content-Digest", digest],
      ...(subject === undefined ? [] : [["OCI-Subject", subject] as const]),
      ...(isDigest ? more : []).map((tag): HeaderLine => ["OCI-Tag", tag]),
    ];
    return { status: 201, lines, body: new Uint8Array() };
  }

  function removeManifest(held: FakeRepository | undefined, reference: string): Plan {
    const isTag = !reference.includes(":");
    const wasThere = isTag ? held?.tags.delete(reference) : held?.manifests.delete(reference);
    if (wasThere !== true) return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown");
    if (!isTag) for (const [tag, digest] of held?.tags ?? []) if (digest === reference) held?.tags.delete(tag);
    return ACCEPTED;
  }

  return {
    answer(target: FakeTarget, request: WireRequest, faults: PushFaults): Plan {
      const { kind, repository, reference } = target;
      const held = content.repositories.get(repository);
      if (kind === "push" && reference !== "") return uploads.goOn(repository, reference, request);
      if (kind === "push" && request.method === "POST") return uploads.begin(repository, request, faults);
      if (kind === "manifest" && request.method === "PUT") return putManifest(target, request);
      if (kind === "manifest" && request.method === "DELETE") return removeManifest(held, reference);
      if (kind === "blob" && request.method === "DELETE")
        return held?.blobs.delete(reference) === true ? ACCEPTED : refusal(404, "BLOB_UNKNOWN", "blob unknown");
      return refusal(405, "UNSUPPORTED", "the operation is unsupported");
    },
  };
}

const ACCEPTED: Plan = { status: 202, lines: [], body: new Uint8Array() };

interface ManifestJson {
  readonly config?: { readonly digest: string };
  readonly layers?: readonly { readonly digest: string }[];
  readonly manifests?: readonly { readonly digest: string }[];
  readonly subject?: { readonly digest: string };
}

/** A subject may be pushed later. */
function namedBy({ config, layers = [], manifests = [] }: ManifestJson): string[] {
  return [...(config === undefined ? [] : [config]), ...layers, ...manifests].map(({ digest }) => digest);
}

function parse(bytes: Uint8Array): ManifestJson | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined; // the sender is told
  }
}

function refusal(status: number, code: string, message: string): Plan {
  return { status, lines: [["Content-Type", "application/json"]], body: utf8(errorBody(code, message)) };
}
