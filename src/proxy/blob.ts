/**
 * Blobs past the cache: streamed, never held whole, gone on with where an upstream breaks off. Length and digest are checked
 * on the way; a body that is wrong ends in a broken connection, because after the status line nothing else tells the client
 * (protocol R234–R237, R262).
 */
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import { type Digest, isVerifiable } from "../registry/digest.ts";
import { streamOf } from "../download/stream.ts";
import type { ContentSource, Downloads } from "../download/download.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { type ByteRange, type SingleRange, parseContentRange, parseRange, singleRange } from "../registry/range.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { bodyOf, createQuestions, hostForRanges, question } from "./blob-source.ts";
import { slice, verified } from "./body.ts";
import { detached, unnoted } from "./cache.ts";
import type { Reply } from "./exchange.ts";
import { CONTENT_LINES, cacheControl, etagOf, matchesEtag, passedDown } from "./headers.ts";
import { errorOfAnswer, errorOfFailure } from "./refusal.ts";

export type BlobEndpoint = Extract<Endpoint, { kind: "blob" }>;

export interface BlobDependencies {
  readonly access: Access;
  readonly downloads: Downloads;
}

/** Time for the rest of a body that broke off to bring its headers. */
const RESUME_BUDGET_MS = 20_000;

/** Serves GET and HEAD of a blob. @throws RegistryError as `Access.ask`, and for every upstream answer but 200 and 206 */
export async function serveBlob(
  dependencies: BlobDependencies,
  request: RegistryRequest,
  endpoint: BlobEndpoint,
): Promise<Reply> {
  const { access } = dependencies;
  const { exchange } = request;
  const isUnchanged = matchesEtag(exchange.headers.get("if-none-match"), endpoint.digest.text);
  // A digest says what the content is, not who may read it: an unchanged blob is still asked for.
  if (exchange.method === "HEAD" || isUnchanged) return serveHead(access, request, endpoint);
  const range = rangeFor(request, endpoint.digest);
  if (range === "invalid") return refuseRange(access, request, endpoint);
  const { digest } = endpoint;
  const response = await access.ask(request, question("GET", digest, range));
  const mend = (bytes: Promised) => mended(response, bytes, { ...dependencies, request, digest });
  if (response.status === 206 && range !== undefined) return servePart(response, range, { digest, mend });
  if (response.status !== 200 || response.body === null) throw await errorOfAnswer(response, request);
  if (isPage(response)) throw await refusePage(response);
  return range === undefined ? serveWhole(response, { digest, mend }) : serveSlice(response, range, { digest, mend });
}

/** Which bytes an answer promises; without a last all from there on. */
interface Promised {
  readonly first: number;
  /** Inclusive. */
  readonly last?: number;
  readonly totalBytes: number | undefined;
}

interface Body {
  readonly stream: ReadableStream<Uint8Array>;
  /** For whoever finds the whole wrong. */
  readonly refuse: NonNullable<UpstreamResponse["refuse"]>;
}

interface Mended extends BlobDependencies {
  readonly request: RegistryRequest;
  readonly digest: Digest;
}

/** The answer's body; where it breaks, the registry is asked for the rest. */
async function mended(
  response: UpstreamResponse,
  bytes: Promised,
  { access, downloads, request, digest }: Mended,
): Promise<Body> {
  const { refuse } = response;
  let hostOfParts: string | undefined;
  const questions = createQuestions(digest);
  questions.answered({ isExtra: false }, response);
  let begun = response.body;
  const source: ContentSource = async (wanted, signal) => {
    if (begun !== null) {
      const first = { ...bytes, body: begun, offset: bytes.first, host: hostForRanges(response), refuse };
      begun = null;
      return first;
    }
    const outlives = detached(wanted.isExtra ? unnoted(request) : request, signal, RESUME_BUDGET_MS);
    const rest = await access.ask(outlives, questions.about(wanted));
    questions.answered(wanted, rest);
    const body = await bodyOf(rest, outlives, wanted.first);
    if (wanted.isExtra) hostOfParts = body.host;
    return body;
  };
  const download = downloads.start({ ...bytes, source });
  await download.open(); // takes the body, so that whoever cancels the stream cancels it
  return {
    stream: streamOf(download),
    refuse(fault) {
      refuse?.(fault);
      if (hostOfParts !== undefined) downloads.gaveWrongParts(hostOfParts);
    },
  };
}

/** How an answer becomes a reply. */
interface Blob {
  readonly digest: Digest;
  readonly mend: (bytes: Promised) => Promise<Body>;
}

async function serveHead(access: Access, request: RegistryRequest, endpoint: BlobEndpoint): Promise<Reply> {
  return headReply(request, endpoint.digest, await access.ask(request, question("HEAD", endpoint.digest, undefined)));
}

/** The answer to HEAD, and to whoever has the content, by the registry's. @throws RegistryError for every status but 200 */
export async function headReply(request: RegistryRequest, digest: Digest, response: UpstreamResponse): Promise<Reply> {
  if (response.status !== 200) throw await errorOfAnswer(response, request);
  if (matchesEtag(request.exchange.headers.get("if-none-match"), digest.text)) {
    return { status: 304, headers: blobLines(digest), body: null };
  }
  return {
    status: 200,
    headers: contentLines(response, digest, response.headers.get("content-length")),
    body: null,
  };
}

/**
 * The one range that goes upstream, if the client asks for exactly one. Several are answered whole, which clients accept;
 * registries' storage does not understand them (protocol R141, R188, R269, R270).
 */
function rangeFor({ exchange }: RegistryRequest, digest: Digest): SingleRange | "invalid" | undefined {
  const header = exchange.headers.get("range");
  if (header === null) return undefined;
  const ifRange = exchange.headers.get("if-range");
  if (ifRange !== null && ifRange.trim() !== etagOf(digest.text)) return undefined; // protocol R271
  if (parseRange(header, Number.MAX_SAFE_INTEGER).kind === "unsatisfiable") return "invalid"; // whatever the total
  return singleRange(header);
}

/** `bytes=500-0` and `bytes=-0`: 416 with the total, which the upstream is asked for (protocol R266, R268). */
async function refuseRange(access: Access, request: RegistryRequest, endpoint: BlobEndpoint): Promise<never> {
  const response = await access.ask(request, question("HEAD", endpoint.digest, undefined));
  if (response.status !== 200) throw await errorOfAnswer(response, request);
  const total = response.headers.get("content-length");
  throw new RegistryError("RANGE_INVALID", "the range lies outside the content", {
    headers: total === null ? [] : [["Content-Range", `bytes */${total}`]],
  });
}

async function serveWhole(response: UpstreamResponse, { digest, mend }: Blob): Promise<Reply> {
  const length = response.headers.get("content-length");
  const headers = contentLines(response, digest, length);
  const announced = length === null ? undefined : Number(length);
  const { stream, refuse } = await mend({ first: 0, totalBytes: announced });
  const body = isVerifiable(digest) ? verified(stream, digest, { length: announced, refuse }) : stream;
  return { status: 200, headers, body };
}

/** The upstream's part, if it is the part that was asked for: some answer another (protocol R272). */
async function servePart(response: UpstreamResponse, range: SingleRange, { digest, mend }: Blob): Promise<Reply> {
  const part = parseContentRange(response.headers.get("content-range") ?? "");
  const whole = part?.total === undefined ? undefined : { ...part, total: part.total };
  if (whole === undefined || !isAskedFor(whole, range)) {
    response.refuse?.("part");
    await response.body?.cancel();
    throw errorOfFailure(new UpstreamError("bad-answer", "the part that came is not the part that was asked for"));
  }
  const { first, last, total } = whole;
  const { stream } = await mend({ first, last, totalBytes: total });
  return partOf({ ...response, body: stream }, digest, whole);
}

/** Begins where it should and holds no byte that was not asked for. It may end early: some storage sends large parts in pieces. */
function isAskedFor({ first, last, total }: ByteRange & { readonly total: number }, range: SingleRange): boolean {
  if ("suffix" in range) return first === Math.max(0, total - range.suffix) && last === total - 1;
  return first === range.first && last <= (range.last ?? total);
}

/** An upstream that ignores Range sends everything: the part is cut out here, since podman takes 200 for a failure (protocol R187, R267). */
async function serveSlice(response: UpstreamResponse, range: SingleRange, { digest, mend }: Blob): Promise<Reply> {
  const total = Number(response.headers.get("content-length") ?? Number.NaN);
  if (!Number.isSafeInteger(total) || response.body === null) return serveWhole(response, { digest, mend });
  const first = "suffix" in range ? Math.max(0, total - range.suffix) : range.first;
  const last = "suffix" in range ? total - 1 : Math.min(range.last ?? total - 1, total - 1);
  if (first > last) {
    await response.body.cancel();
    throw new RegistryError("RANGE_INVALID", "the range lies outside the content", {
      headers: [["Content-Range", `bytes */${total}`]],
    });
  }
  const { stream } = await mend({ first: 0, totalBytes: total });
  const body = slice(stream, first, last - first + 1);
  return partOf({ ...response, body }, digest, { first, last, total });
}

function partOf(
  response: UpstreamResponse,
  digest: Digest,
  part: { first: number; last: number; total: number },
): Reply {
  const headers: HeaderLine[] = [
    ["Content-Range", `bytes ${part.first}-${part.last}/${part.total}`],
    ...contentLines(response, digest, String(part.last - part.first + 1)),
  ];
  return { status: 206, headers, body: response.body };
}

/** A portal's or proxy's page is not a layer, whatever its status says (protocol R234). The digest would show it too, but late. */
function isPage(response: UpstreamResponse): boolean {
  return (response.headers.get("content-type") ?? "").startsWith("text/html");
}

async function refusePage(response: UpstreamResponse): Promise<RegistryError> {
  response.refuse?.("page");
  await response.body?.cancel();
  return errorOfFailure(new UpstreamError("bad-answer", "expected a blob, got text/html"));
}

function contentLines(response: UpstreamResponse, digest: Digest, length: string | null): HeaderLine[] {
  return [
    // Storage behind registries sends all kinds of types; clients want this one or none (protocol R25).
    ["Content-Type", "application/octet-stream"],
    ...(length === null ? [] : [["Content-Length", length] as const]),
    ...blobLines(digest),
    ...passedDown(response.headers),
  ];
}

/** What every answer about this content carries. */
export function blobLines(digest: Digest, extra: readonly HeaderLine[] = []): HeaderLine[] {
  return [
    ["Accept-Ranges", "bytes"],
    ["Docker-Content-Digest", digest.text],
    ["ETag", etagOf(digest.text)],
    cacheControl("digest"),
    ...CONTENT_LINES,
    ...extra,
  ];
}
