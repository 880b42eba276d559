/**
 * Manifests and indexes: small, whole in memory, and always verified. The digest a client is told is computed from the
 * bytes it gets, never copied (protocol R18, R19, R218); a HEAD stays a HEAD upstream wherever the registry says enough.
 */
import type { HeaderLine } from "../errors.ts";
import { RegistryError, UpstreamError } from "../errors.ts";
import { isVerifiable, parseDigest } from "../registry/digest.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { DEFAULT_ACCEPT, bareType, isManifestType, isSchema1Type } from "../registry/mediatype.ts";
import { referenceText } from "../registry/reference.ts";
import { readBody, TooLong } from "../upstream/body.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { digestOf } from "./body.ts";
import type { Reply } from "./exchange.ts";
import { CONTENT_LINES, cacheControl, etagOf, matchesEtag, passedDown } from "./headers.ts";
import { errorOfAnswer, errorOfFailure } from "./refusal.ts";

export type ManifestEndpoint = Extract<Endpoint, { kind: "manifest" }>;

/** Registries accept at least 4 MiB and clients read little more (protocol R45); beyond this the answer is refused, not cut. */
const MAX_MANIFEST_BYTES = 8 * 1024 * 1024;

/** Serves GET and HEAD of a manifest. @throws RegistryError as `Access.ask`, and for every upstream answer but 200 */
export async function serveManifest(
  access: Access,
  request: RegistryRequest,
  endpoint: ManifestEndpoint,
): Promise<Reply> {
  if (request.exchange.method === "HEAD") {
    const reply = await serveHead(access, request, endpoint);
    if (reply !== undefined) return reply;
  }
  return onceMore(async () => {
    const response = await ask(access, request, endpoint, "GET");
    if (response.status !== 200 || response.body === null) throw await errorOfAnswer(response, request);
    const manifest = await readManifest(response, endpoint, request.deadlineMs);
    return manifestReply(request, endpoint, { ...manifest, passed: passedDown(response.headers) });
  });
}

/** The answer from the upstream's HEAD, or undefined where it does not tell digest, length and type. */
async function serveHead(
  access: Access,
  request: RegistryRequest,
  endpoint: ManifestEndpoint,
): Promise<Reply | undefined> {
  const response = await ask(access, request, endpoint, "HEAD");
  if (response.status !== 200) throw await errorOfAnswer(response, request);
  const length = response.headers.get("content-length");
  const mediaType = bareType(response.headers.get("content-type") ?? "");
  const told = parseDigest(response.headers.get("docker-content-digest") ?? "");
  const digest = endpoint.reference.kind === "digest" ? endpoint.reference.digest : told;
  // Docker 29 gives up on a length of 0, crane on any of the three missing (protocol R21, R198).
  if (digest === undefined || length === null || length === "0" || !isManifestType(mediaType)) return undefined;
  return manifestReply(request, endpoint, {
    digest: digest.text,
    mediaType,
    bytes: null,
    length,
    passed: passedDown(response.headers),
  });
}

function ask(
  access: Access,
  request: RegistryRequest,
  endpoint: ManifestEndpoint,
  method: "GET" | "HEAD",
): Promise<UpstreamResponse> {
  const accept = acceptFor(request.exchange.headers.get("accept"));
  return access.ask(request, {
    method,
    path: `manifests/${referenceText(endpoint.reference)}`,
    query: "",
    headers: [["Accept", accept]],
  });
}

/** What the client can read, if it names any kind of manifest; else everything: without it registries fall back to schema 1 (protocol R28, R29). */
export function acceptFor(accept: string | null): string {
  if (accept === null) return DEFAULT_ACCEPT;
  return accept.split(",").some((entry) => isManifestType(bareType(entry))) ? accept : DEFAULT_ACCEPT;
}

/** A manifest as it came, its digest computed and its type settled. */
export interface Manifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  readonly length: string;
}

/** A manifest that broke off on its way. */
class BrokenOff extends UpstreamError {}

/**
 * Gets a manifest, and gets it once more when it broke off: nobody has a header block yet, so nobody need know (protocol R262).
 * @param get asks, and reads by `readManifest`
 */
export async function onceMore<T>(get: () => Promise<T>): Promise<T> {
  try {
    return await get();
  } catch (error) {
    if (error instanceof RegistryError && error.cause instanceof BrokenOff) return get();
    throw error;
  }
}

/**
 * Reads and verifies. The client has no header block before this is read, so it ends in time (protocol R174).
 * @throws RegistryError UNAVAILABLE when it is too long, no manifest, or not what the digest says
 */
export async function readManifest(
  response: UpstreamResponse,
  endpoint: ManifestEndpoint,
  deadlineMs: number,
): Promise<Manifest> {
  try {
    if (response.body === null) throw new UpstreamError("bad-answer", "expected a manifest, got no body");
    const bytes = await readBody(response.body, { maxBytes: MAX_MANIFEST_BYTES, deadlineMs }).catch(breakOff);
    const mediaType = mediaTypeOf(response, bytes);
    return {
      bytes,
      mediaType,
      length: String(bytes.byteLength),
      digest: verifiedDigest(response, endpoint, bytes, mediaType),
    };
  } catch (error) {
    if (error instanceof UpstreamError) throw errorOfFailure(error);
    throw error;
  }
}

/** @throws BrokenOff for what may come whole another time; a silence took too long for that */
function breakOff(cause: unknown): never {
  if (!(cause instanceof UpstreamError) || cause instanceof TooLong || cause.kind !== "bad-answer") throw cause;
  throw new BrokenOff("bad-answer", cause.message, { cause });
}

/** The upstream's type; where it sends none that is a manifest's, the one the document names itself. */
function mediaTypeOf(response: UpstreamResponse, bytes: Uint8Array): string {
  const told = bareType(response.headers.get("content-type") ?? "");
  if (isManifestType(told)) return told;
  const named = typeNamedIn(bytes);
  if (named !== undefined && isManifestType(named)) return named;
  response.refuse?.("type");
  throw new UpstreamError("bad-answer", `expected a manifest, got ${told === "" ? "no content type" : told}`);
}

/** The document's own field and no other: an index may leave it out and still name the types of its members (protocol R23). */
function typeNamedIn(bytes: Uint8Array): string | undefined {
  const document = parsed(new TextDecoder().decode(bytes));
  if (typeof document !== "object" || document === null || !("mediaType" in document)) return undefined;
  return typeof document.mediaType === "string" ? document.mediaType : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // no manifest: said by the caller, who knows what came instead
  }
}

function verifiedDigest(
  response: UpstreamResponse,
  endpoint: ManifestEndpoint,
  bytes: Uint8Array,
  mediaType: string,
): string {
  const { reference } = endpoint;
  // Its digest leaves out the signatures that the body carries, so it cannot be checked here (protocol R217).
  if (isSchema1Type(mediaType)) {
    const told = parseDigest(response.headers.get("docker-content-digest") ?? "");
    if (reference.kind === "digest") return reference.digest.text;
    return told?.text ?? digestOf(bytes, "sha256");
  }
  if (reference.kind === "tag") return digestOf(bytes, "sha256");
  if (!isVerifiable(reference.digest)) return reference.digest.text; // the client verifies what we cannot (protocol R11)
  const found = digestOf(bytes, reference.digest.algorithm);
  if (found === reference.digest.text) return found;
  response.refuse?.("digest");
  throw new UpstreamError("bad-answer", `digest mismatch: expected ${reference.digest.text}, got ${found}`);
}

export interface ManifestAnswer {
  readonly digest: string;
  readonly mediaType: string;
  /** null for HEAD. */
  readonly bytes: Uint8Array | null;
  readonly length: string;
  readonly passed: readonly HeaderLine[];
}

export function manifestReply(
  { exchange }: RegistryRequest,
  endpoint: ManifestEndpoint,
  answer: ManifestAnswer,
): Reply {
  const validators: HeaderLine[] = [
    ["Docker-Content-Digest", answer.digest],
    ["ETag", etagOf(answer.digest)],
    cacheControl(endpoint.reference.kind),
    ...CONTENT_LINES,
    ...answer.passed,
  ];
  if (matchesEtag(exchange.headers.get("if-none-match"), answer.digest)) {
    return { status: 304, headers: validators, body: null };
  }
  const headers: HeaderLine[] = [["Content-Type", answer.mediaType], ["Content-Length", answer.length], ...validators];
  return { status: 200, headers, body: exchange.method === "HEAD" ? null : answer.bytes };
}
