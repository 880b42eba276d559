/**
 * Redirects, followed by hand (protocol R42, R132–R137, R148, R149): clients never see one. Each hop is judged by the address
 * rules before it is dialled; what proves who we are stays behind when scheme, host or port change; the method stays.
 */
import { UpstreamError } from "../errors.ts";
import { type AddressRule, ruleTowards } from "./address.ts";
import { discardBody } from "./body.ts";
import { type HttpRequest, type HttpResponse, nameOf } from "./http.ts";

export interface FollowOptions<R extends HttpRequest> {
  /** Asks one hop. */
  readonly ask: (request: R) => Promise<HttpResponse>;
  /** The request as it may be sent to another origin: without identity. */
  readonly strip: (request: R) => R;
}

/** As many as dockerd and containerd follow (protocol R148). */
const MAX_HOPS = 10;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Asks, and follows until an answer is no redirect. The response's `url` is the last hop's.
 * @throws UpstreamError `bad-answer` for a loop, more than ten hops, a Location that leads nowhere or from https to http
 */
export async function follow<R extends HttpRequest>(first: R, { ask, strip }: FollowOptions<R>): Promise<HttpResponse> {
  const seen = new Set([first.url.href]);
  let request = first;
  let response = await ask(request);
  // Later hosts are judged by where the upstream itself lives, not by where a hop before them led.
  const from = { host: first.url.hostname, rule: first.rule, kind: response.addressKind };
  for (;;) {
    const location = response.headers.get("location");
    if (!REDIRECTS.has(response.status) || location === null) return response;
    await discardBody(response.body);
    const url = nextUrl(location, request.url);
    if (seen.has(url.href)) throw new UpstreamError("bad-answer", `${nameOf(first.url)}: redirects in a circle`);
    if (seen.size > MAX_HOPS)
      throw new UpstreamError("bad-answer", `${nameOf(first.url)}: more than ${MAX_HOPS} redirects`);
    seen.add(url.href);
    request = moved(
      url.origin === request.url.origin ? request : strip(request),
      url,
      ruleTowards(url.hostname, from, first.registry.allowAddresses),
    );
    response = await ask(request);
  }
}

/** Methods are kept: all that is asked here is GET and HEAD, which 303 keeps as well (RFC 9110 section 15.4.4). */
function moved<R extends HttpRequest>(request: R, url: URL, rule: AddressRule): R {
  return { ...request, url, rule };
}

/** Relative to what was asked, as Artifact Registry sends it (protocol R134). */
export function nextUrl(location: string, base: URL): URL {
  const url = URL.parse(location, base.href);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UpstreamError("bad-answer", `${nameOf(base)}: redirects to no http URL`);
  if (base.protocol === "https:" && url.protocol === "http:") {
    throw new UpstreamError("bad-answer", `${nameOf(base)}: redirects from https to http at ${url.host}`);
  }
  url.username = "";
  url.password = "";
  url.hash = "";
  return url;
}
