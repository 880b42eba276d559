/**
 * What a registry's answer to a write becomes for the client: status and the few lines that belong to it, URLs that lead
 * back here, and its own words about what was wrong (protocol R67–R77).
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { parseDigest } from "../registry/digest.ts";
import { readBody } from "../upstream/body.ts";
import type { WriteResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import type { Reply } from "./exchange.ts";
import { NEVER_KEPT } from "./headers.ts";
import { errorOfAnswer } from "./refusal.ts";
import { namespaceQuery } from "./upload-location.ts";
import { parseWarnings } from "./warning.ts";

/** Lines of an answer to a write that go on to the client as they are. */
const PASSED = [
  ["docker-content-digest", "Docker-Content-Digest"],
  ["docker-upload-uuid", "Docker-Upload-UUID"],
  ["oci-chunk-min-length", "OCI-Chunk-Min-Length"],
  ["oci-subject", "OCI-Subject"],
  ["range", "Range"],
] as const;

/** Error documents are small. */
const MAX_ERROR_BYTES = 64 * 1024;
const MAX_ERROR_WAIT_MS = 5_000;

export interface Finished {
  readonly response: WriteResponse;
  /** Undefined where the answer has none. */
  readonly location: string | undefined;
}

/** @throws RegistryError for a refusal that is about who asks, and for what is no verdict */
export async function pushReply(
  access: Access,
  request: RegistryRequest,
  { response, location }: Finished,
): Promise<Reply> {
  const { status } = response;
  // What the registry says against a login of its own is that client's business: a quota, a scope that is wanting.
  const isOwnRefusal = status === 403 && request.client.kind === "own";
  if ((status === 401 || status === 403) && !isOwnRefusal) {
    await response.body?.cancel();
    throw access.denial(request);
  }
  const isRefusal = status >= 400;
  if (status === 429 || status >= 500) throw await errorOfAnswer(response, request);
  const body = isRefusal ? await errorBody(response) : undefined;
  if (!isRefusal) await response.body?.cancel();
  const length: HeaderLine[] = status === 204 ? [] : [["Content-Length", String(body?.byteLength ?? 0)]];
  const headers: HeaderLine[] = [
    ...(location === undefined ? [] : [["Location", location] as const]),
    ...lines(response.headers),
    ...(body === undefined ? [] : [["Content-Type", "application/json; charset=utf-8"] as const]),
    ...length,
    NEVER_KEPT,
  ];
  return { status, headers, body: body ?? null };
}

/** Where a manifest that was pushed can be pulled: by the digest where the registry names it so. */
export function manifestUrl(request: RegistryRequest, response: WriteResponse, reference: string): string {
  return contentUrl(request, `manifests/${digestMade(response) ?? reference}`);
}

function digestMade({ location }: WriteResponse): string | undefined {
  const named = location === undefined ? undefined : new URL(location.href).pathname.split("/").at(-1);
  return parseDigest(named?.replaceAll("%3A", ":") ?? "")?.text;
}

/** Nothing that is no digest gets into a header line. */
export function blobUrl(request: RegistryRequest, digest: string | null): string | undefined {
  const parsed = parseDigest(digest ?? "");
  return parsed === undefined ? undefined : contentUrl(request, `blobs/${parsed.text}`);
}

function contentUrl({ origin, route }: RegistryRequest, path: string): string {
  return `${origin.base}${route.pathPrefix}/v2/${route.requested}/${path}${namespaceQuery(route)}`;
}

function lines(headers: Headers): HeaderLine[] {
  const kept: HeaderLine[] = [];
  for (const [name, canonical] of PASSED) {
    const value = headers.get(name);
    if (value !== null) kept.push([canonical, value]);
  }
  // A line for each tag (protocol R77); tags hold no comma.
  for (const tag of headers.get("oci-tag")?.split(",") ?? []) kept.push(["OCI-Tag", tag.trim()]);
  for (const warning of parseWarnings(headers.get("warning") ?? "")) kept.push(["Warning", warning]);
  return kept;
}

/** The registry's own errors when they are such, else ours: people must read why their push was refused. */
async function errorBody(response: WriteResponse): Promise<Uint8Array> {
  const limits = { maxBytes: MAX_ERROR_BYTES, deadlineMs: performance.now() + MAX_ERROR_WAIT_MS };
  const bytes = response.body === null ? undefined : await readBody(response.body, limits).catch(() => undefined); // the status says enough
  if (bytes !== undefined && hasErrors(new TextDecoder().decode(bytes))) return bytes;
  const code = response.status === 403 ? "DENIED" : "UNSUPPORTED";
  const error = new RegistryError(code, `the registry refuses this with status ${response.status}`);
  return new TextEncoder().encode(JSON.stringify(error));
}

function hasErrors(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && "errors" in value && Array.isArray(value.errors);
  } catch {
    return false; // a page or nothing: said in our words
  }
}
