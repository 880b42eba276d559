/**
 * The application: every route of the program in one Elysia app, as a function from Exchange to Reply.
 *
 * Elysia chooses the route and knows nothing of bodies or raw headers: Exchange and Reply travel beside the Request, so
 * that lines stay lines, lengths stay exact and nothing is parsed twice.
 */
import { Elysia } from "elysia";
import { RegistryError, reasonOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { parseEndpoint } from "../registry/endpoint.ts";
import { UnknownHostError } from "../registry/route.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { DOCS_PATH, createDocsRoutes, withOwnScript } from "./docs.ts";
import { type Observed, metricsReply, readyReply } from "./metrics.ts";
import type { RegistryHandler } from "./registry.ts";
import { errorReply, jsonReply } from "./reply.ts";
import { type SystemDependencies, type SystemOptions, createSystemRoutes } from "./system.ts";
import { type TokenHandler, isTokenPath } from "./token.ts";

export interface AppDependencies extends SystemDependencies {
  readonly registry: RegistryHandler;
  readonly token: TokenHandler;
  readonly observed: Observed;
  /** Whether who asks may see metrics and the details of `/readyz`. */
  readonly maySee: (exchange: Exchange) => boolean;
  /** Why a page is not shown to who asks, where client access says so; undefined without client access. */
  readonly refusalOfPage?: ((exchange: Exchange) => Promise<RegistryError | undefined>) | undefined;
  readonly log: Log;
}

/** Never rejects: what goes wrong becomes a Reply. */
export type Answer = (exchange: Exchange) => Promise<Reply>;

/** Requests get this authority whatever their Host says: no URL is ever built from what a client sends. */
const BASE = "http://layover.internal";
/** Everything below is the registry API: its Elysia routes are there to be documented, and need not be looked for. */
const API_PREFIX = "/v2/";

export function createApp(options: SystemOptions, dependencies: AppDependencies): Answer {
  const { observed, maySee, refusalOfPage } = dependencies;
  const carried = new WeakMap<Request, { readonly exchange: Exchange; reply?: Reply }>();

  /** The Response says that there was an answer; Elysia may replace it (it does for HEAD), the Reply stays. */
  function beside(answer: (exchange: Exchange) => Reply | Promise<Reply>) {
    return async ({ request }: { request: Request }): Promise<Response> => {
      const pair = carried.get(request);
      if (pair === undefined) throw new Error("a request came in without its exchange");
      pair.reply = await answer(pair.exchange);
      return new Response(null, { status: pair.reply.status });
    };
  }

  async function answerRegistry(exchange: Exchange): Promise<Reply> {
    try {
      return (await dependencies.token(exchange)) ?? (await dependencies.registry(exchange)) ?? notFound();
    } catch (error) {
      return replyOfError(error, exchange, dependencies.log);
    }
  }

  const route = beside(answerRegistry);
  /** To others it is a path like any other that leads nowhere. */
  const metrics = beside((exchange) => (maySee(exchange) ? metricsReply(observed) : answerRegistry(exchange)));
  const ready = beside(async (exchange) => {
    const isShown = maySee(exchange) && (await refusalOfPage?.(exchange)) === undefined;
    return readyReply(observed, isShown ? "detailed" : "short");
  });
  const app = new Elysia({ handler: { standardHostname: false } })
    .onError(({ error, request }) => responseOf(replyOfError(error, carried.get(request)?.exchange, dependencies.log)))
    .use(createSystemRoutes(options, dependencies))
    .use(createDocsRoutes(options.version))
    .get("/readyz", ready, documented("Does it take requests: 503 while starting or draining", "system"))
    .get("/metrics", metrics, documented("For Prometheus, asked from this machine", "system"))
    .get("/token", route, documented("Token of this host's registry", "token"))
    .get("/token/:registry", route, documented("Token of one registry", "token"))
    .get("/v2/", route, documented("Ping: 200, or 401 with a challenge", "registry"))
    .get("/v2/*", route, documented("Manifests, blobs, tags and referrers of the OCI distribution API", "registry"))
    // Registries before /v2 (`/quay/v2/…`), raw paths, every other method, and what is not found.
    .all("/*", route, HIDDEN);

  return async function answer(exchange) {
    // Whatever the method: all of them lead there below too, by way of a Request and a Response that nobody reads.
    if (exchange.path.startsWith(API_PREFIX)) return answerRegistry(exchange);
    const refusal = refusalOfPage !== undefined && isPage(exchange.path) ? await refusalOfPage(exchange) : undefined;
    if (refusal !== undefined) return replyOfError(refusal, exchange, dependencies.log);
    const url = `${BASE}${exchange.path}${exchange.query === "" ? "" : `?${exchange.query}`}`;
    const request = new Request(url, { method: exchange.method, headers: exchange.headers });
    const pair: { exchange: Exchange; reply?: Reply } = { exchange };
    carried.set(request, pair);
    const response = await app.handle(request);
    if (pair.reply !== undefined) return pair.reply;
    return replyOf(exchange.path === DOCS_PATH && exchange.method === "GET" ? await withOwnScript(response) : response);
  };
}

/** Orchestrators have no password, and learn one word. */
const OPEN_PATHS: ReadonlySet<string> = new Set(["/healthz", "/health", "/readyz"]);

/** Everything beside the registry API and the token service, which ask themselves who may come in. */
function isPage(path: string): boolean {
  if (OPEN_PATHS.has(path) || isTokenPath(path)) return false;
  try {
    return parseEndpoint(path) === undefined;
  } catch (error) {
    if (error instanceof RegistryError) return false; // a registry path with a fault, as it will say
    throw error;
  }
}

/** Bodies are nobody's to parse: an upload may be any number of gigabytes. */
const HIDDEN = { parse: "none", detail: { hide: true } } as const;

function documented(summary: string, tag: string) {
  return { parse: "none" as const, detail: { summary, tags: [tag] } };
}

/** A system route's Response: small, so its body is taken whole. */
async function replyOf(response: Response): Promise<Reply> {
  const headers = [...response.headers.entries()];
  return { status: response.status, headers, body: response.body === null ? null : await response.bytes() };
}

/** A small Reply as a Response, for errors of the system routes. */
function responseOf(reply: Reply): Response {
  const headers = reply.headers.map(([name, value]): [string, string] => [name, value]);
  return new Response(typeof reply.body === "string" ? reply.body : null, { status: reply.status, headers });
}

function notFound(): never {
  throw new RegistryError(
    "UNSUPPORTED",
    "there is nothing here: see /help for the registries and /docs for the interface",
    {
      status: 404,
    },
  );
}

/** What a client did wrong needs no reason in the log, and the message may quote it. */
function isTrouble({ status }: RegistryError): boolean {
  return status >= 500 || status === 429;
}

/** Elysia would send an error's message as the body of a 500: only what was meant for clients goes out. */
function replyOfError(error: unknown, exchange: Exchange | undefined, log: Log): Reply {
  if (error instanceof UnknownHostError) return jsonReply(error.status, { routes: error.routes }); // compat C1
  if (error instanceof RegistryError) {
    if (exchange !== undefined) exchange.notes.error = error.code;
    if (exchange !== undefined && isTrouble(error)) exchange.notes.reason = reasonOf(error);
    if (error.cause !== undefined) log.debug({ id: exchange?.id, cause: error.cause }, error.message);
    return errorReply(error);
  }
  if (exchange?.signal.aborted === true) {
    return errorReply(new RegistryError("UNAVAILABLE", "the client left", { status: 499 })); // nobody reads it; the log does
  }
  log.error({ id: exchange?.id, err: error }, "a request failed in a way nobody expected");
  if (exchange !== undefined) exchange.notes.error = "UNKNOWN";
  return errorReply(
    new RegistryError("UNKNOWN", "something went wrong here: the log says what, under this request's id"),
  );
}
