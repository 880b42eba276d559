/**
 * HEAD where upstreams cannot: public.ecr.aws answers 401 to HEAD of blobs (protocol R130), some send no length (R140), some
 * 405 (R169), and signed URLs are good for GET only (R137). One GET then stands in: of one byte for a blob, of the whole for
 * the rest, and its answer is given the shape of an answer to HEAD; a manifest that came is handed on as its body, so that nobody
 * has to ask for it twice (R208).
 */
import { createHash } from "node:crypto";
import { discardBody, readBody } from "./body.ts";
import type { AuthorisedRequest } from "./demand.ts";
import type { HttpResponse } from "./http.ts";

export interface HeadFallback {
  /** The HEAD as it was asked first. */
  readonly first: AuthorisedRequest;
  readonly ask: (request: AuthorisedRequest) => Promise<HttpResponse>;
  /** `"blobs/sha256:…"`, `"manifests/latest"`. */
  readonly path: string;
}

/** Registries commonly stop at 4 MiB; a little more than they take (distribution specification, "Pushing Manifests"). */
const MAX_MANIFEST_BYTES = 8 * 1024 * 1024;

/** Must a GET stand in for this answer to a HEAD? */
export function needsGet(answer: HttpResponse, first: AuthorisedRequest, path: string): boolean {
  const { status, headers } = answer;
  if (status === 405 || status === 501) return true;
  // Manifests are excepted: their GET counts against quotas (protocol R208), and no registry is known to refuse only their HEAD.
  if (status === 401) return path.startsWith("blobs/");
  if (answer.url.origin !== first.url.origin && (status === 400 || status === 403)) return true;
  if (status !== 200) return false;
  return !headers.has("content-length") || lacksDigest(headers, path);
}

/** Asks by GET and shapes the answer; the HEAD's own answer has no body to care for. */
export async function answerHead({ body }: HttpResponse, { first, ask, path }: HeadFallback): Promise<HttpResponse> {
  await discardBody(body);
  const isBlob = path.startsWith("blobs/");
  const headers = first.headers.filter(([name]) => name.toLowerCase() !== "range");
  const answer = await ask({
    ...first,
    method: "GET",
    headers: isBlob ? [...headers, ["Range", "bytes=0-0"]] : headers,
  });
  return isBlob ? ofFirstByte(answer) : await ofWhole(answer, { path, deadlineMs: first.deadlineMs });
}

function lacksDigest(headers: Headers, path: string): boolean {
  return path.startsWith("manifests/") && !path.includes(":") && !headers.has("docker-content-digest");
}

/** 206 names the total, 416 that of an empty blob, 200 came because ranges are not known there. */
async function ofFirstByte(answer: HttpResponse): Promise<HttpResponse> {
  const headers = new Headers(answer.headers);
  const total = /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  // The body of a 200 is the whole blob: not even its beginning is wanted.
  if (answer.status === 200) await answer.body?.cancel();
  else await discardBody(answer.body);
  if (answer.status !== 206 && !(answer.status === 416 && total === "0")) return { ...answer, headers, body: null };
  headers.delete("content-range");
  headers.delete("content-length");
  if (total !== undefined) headers.set("content-length", total);
  return { ...answer, status: 200, headers, body: null };
}

async function ofWhole(
  answer: HttpResponse,
  { path, deadlineMs }: { path: string; deadlineMs: number },
): Promise<HttpResponse> {
  if (answer.status !== 200 || answer.body === null) {
    await discardBody(answer.body);
    return { ...answer, body: null };
  }
  const bytes = await readBody(answer.body, { maxBytes: MAX_MANIFEST_BYTES, deadlineMs });
  const headers = new Headers(answer.headers);
  headers.set("content-length", String(bytes.byteLength));
  if (lacksDigest(headers, path))
    headers.set("docker-content-digest", `sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  return { ...answer, headers, body: new Blob([bytes]).stream() };
}
