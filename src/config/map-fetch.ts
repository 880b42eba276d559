/**
 * One registry map from a URL (compat C38): https only, at most 1 MiB, redirects only within the host, a deadline over
 * all. Whoever serves it is trusted to say where registries are, and with nothing else.
 */
import { StartError } from "./settings.ts";

/** One GET without following redirects. Proxies, address rules and certificates are the giver's matter. */
export type FetchMap = (url: URL, signal: AbortSignal) => Promise<MapResponse>;

export interface MapResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array> | null;
}

const MAX_BYTES = 1024 * 1024;
const DEADLINE_MS = 15_000;
/** As many as clients follow (protocol R148). */
const MAX_REDIRECTS = 10;

/**
 * Fetches the text of a map.
 * @throws StartError that names the URL without its query, and the reason
 */
export async function fetchMap(text: string, request: FetchMap): Promise<string> {
  const url = new URL(text);
  const shown = `${url.origin}${url.pathname}`;
  const signal = AbortSignal.timeout(DEADLINE_MS);
  try {
    const response = await follow(url, { request, signal });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`expected status 200, got ${response.status}`);
    }
    return await readLimited(response);
  } catch (error) {
    // Says what was asked for and what to do; the reason alone would be "connection refused".
    const reason = error instanceof Error ? error.message : String(error);
    throw new StartError(`cannot get the registry map ${shown}: ${reason}; check --registry-map`, { cause: error });
  }
}

interface Following {
  readonly request: FetchMap;
  readonly signal: AbortSignal;
}

async function follow(first: URL, { request, signal }: Following): Promise<MapResponse> {
  let url = first;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await request(url, signal);
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel();
    const next = URL.parse(location, url.href);
    if (next === null || next.origin !== first.origin) throw new Error("redirect to another host refused");
    url = next;
  }
  throw new Error(`more than ${MAX_REDIRECTS} redirects`);
}

async function readLimited(response: MapResponse): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  if (response.body === null) return "";
  // Leaving the loop early cancels the body.
  for await (const part of response.body) {
    bytes += part.byteLength;
    if (bytes > MAX_BYTES) throw new Error(`expected at most ${MAX_BYTES} bytes, got more`);
    parts.push(part);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
}
