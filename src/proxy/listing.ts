/**
 * Lists: the tags of a repository and the referrers of a digest. The upstream's pages are passed on in its order; only
 * what names the repository is rewritten, so that the next page comes through us again (protocol R48–R63).
 */
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { formatNextLink, parseNextLink } from "../registry/link.ts";
import { bareType } from "../registry/mediatype.ts";
import { readBody } from "../upstream/body.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import type { Reply } from "./exchange.ts";
import { passedDown } from "./headers.ts";
import { errorOfAnswer, errorOfFailure } from "./refusal.ts";

/** A page of a list. Registries cap pages at 1,000 entries or answer all at once; 100,000 tags are about 5 MiB. */
const MAX_LIST_BYTES = 16 * 1024 * 1024;
const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";

/** Serves `tags/list`. @throws RegistryError as `Access.ask`; PAGINATION_NUMBER_INVALID */
export async function serveTags(access: Access, request: RegistryRequest): Promise<Reply> {
  const query = forwardedQuery(request.exchange.query);
  const limit = limitIn(query);
  const response = await access.ask(request, {
    method: "GET",
    path: "tags/list",
    query,
    headers: [["Accept", "application/json"]],
  });
  if (response.status !== 200 || response.body === null) throw await errorOfAnswer(response, request);
  const list = await readJson(response, request);
  const found = "tags" in list && Array.isArray(list.tags) ? list.tags : [];
  // Zero entries means none, with no next page (protocol R50); not every registry knows.
  const tags = limit === 0 ? [] : found;
  const headers = limit === 0 ? [] : nextPage(response, request, "tags/list");
  return json(request, JSON.stringify({ name: request.route.requested, tags }), "application/json", headers);
}

/** Serves `referrers/<digest>`. 404 where the registry has no such API: clients then read the fallback tag (protocol R56). */
export async function serveReferrers(
  access: Access,
  request: RegistryRequest,
  endpoint: Extract<Endpoint, { kind: "referrers" }>,
): Promise<Reply> {
  const path = `referrers/${endpoint.digest.text}`;
  const query = forwardedQuery(request.exchange.query);
  const response = await access.ask(request, { method: "GET", path, query, headers: [["Accept", INDEX_TYPE]] });
  if (response.status !== 200 || response.body === null) throw await errorOfAnswer(response, request);
  if (bareType(response.headers.get("content-type") ?? "") !== INDEX_TYPE) {
    await response.body.cancel();
    // Some registries answer 200 with a page of their own; clients would take it for "unsupported" as well (protocol R62).
    throw new RegistryError("MANIFEST_UNKNOWN", "the registry keeps no referrers for this");
  }
  const bytes = await readList(response, request);
  const headers = [...nextPage(response, request, path), ...passedDown(response.headers)];
  return json(request, bytes, INDEX_TYPE, headers);
}

/** Everything the client asked but `ns`, which is for us: cursors are the upstream's own and differ (protocol R59, R163). */
function forwardedQuery(query: string): string {
  return query
    .split("&")
    .filter((pair) => pair !== "" && pair !== "ns" && !pair.startsWith("ns="))
    .join("&");
}

function limitIn(query: string): number | undefined {
  const given = new URLSearchParams(query).get("n");
  if (given === null) return undefined;
  if (/^\d{1,9}$/.test(given)) return Number(given);
  throw new RegistryError("PAGINATION_NUMBER_INVALID", "n: expected a number from 0 on");
}

/** `Link` to the next page, path-absolute and in the form the client asked in (protocol R51, R230). Of the upstream's own link only the query is used. */
function nextPage(response: UpstreamResponse, { route }: RegistryRequest, path: string): HeaderLine[] {
  const next = parseNextLink(response.headers.get("link") ?? "");
  if (next === undefined) return [];
  const query = next.includes("?") ? forwardedQuery(next.slice(next.indexOf("?") + 1)) : "";
  const namespace = route.namespace === undefined ? "" : `ns=${encodeURIComponent(route.namespace)}`;
  const parts = [query, namespace].filter((part) => part !== "").join("&");
  return [
    ["Link", formatNextLink(`${route.pathPrefix}/v2/${route.requested}/${path}${parts === "" ? "" : `?${parts}`}`)],
  ];
}

async function readJson(response: UpstreamResponse, request: RegistryRequest): Promise<object> {
  const text = new TextDecoder().decode(await readList(response, request));
  const value = parsed(text);
  if (typeof value === "object" && value !== null) return value;
  throw errorOfFailure(new UpstreamError("bad-answer", "expected a JSON object, got something else"));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // said by the caller, who knows what was expected
  }
}

/** Whole, and in time: the client has no header block before (protocol R174). */
async function readList(response: UpstreamResponse, { deadlineMs }: RegistryRequest): Promise<Uint8Array> {
  try {
    if (response.body === null) return new Uint8Array();
    return await readBody(response.body, { maxBytes: MAX_LIST_BYTES, deadlineMs });
  } catch (error) {
    if (error instanceof UpstreamError) throw errorOfFailure(error);
    throw error;
  }
}

function json(
  { exchange }: RegistryRequest,
  body: string | Uint8Array,
  type: string,
  extra: readonly HeaderLine[],
): Reply {
  const headers: HeaderLine[] = [
    ["Content-Type", type],
    ["Content-Length", String(Buffer.byteLength(body))],
    ["Cache-Control", "private, no-cache, no-transform"],
    ...extra,
  ];
  return { status: 200, headers, body: exchange.method === "HEAD" ? null : body };
}
