/**
 * The application: every route of the program in one Elysia app, as a function from Exchange to Reply.
 *
 * Elysia chooses the route and knows nothing of bodies or raw headers: an Exchange travels beside its Request and a Reply
 * beside its Response, so that lines stay lines, lengths stay exact and nothing is parsed twice.
 */
import { Elysia } from "elysia";
import { RegistryError } from "../errors.ts";
import type { Log } from "../log.ts";
import { UnknownHostError } from "../registry/route.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { DOCS_PATH, createDocsRoutes, withOwnScript } from "./docs.ts";
import type { RegistryHandler } from "./registry.ts";
import { errorReply, jsonReply } from "./reply.ts";
import { type SystemDependencies, type SystemOptions, createSystemRoutes } from "./system.ts";
import type { TokenHandler } from "./token.ts";

export interface AppDependencies extends SystemDependencies {
  readonly registry: RegistryHandler;
  readonly token: TokenHandler;
  readonly log: Log;
}

/** Never rejects: what goes wrong becomes a Reply. */
export type Answer = (exchange: Exchange) => Promise<Reply>;

/** Requests get this authority whatever their Host says: no URL is ever built from what a client sends. */
const BASE = "http://layover.internal";

export function createApp(options: SystemOptions, dependencies: AppDependencies): Answer {
  const exchanges = new WeakMap<Request, Exchange>();
  const replies = new WeakMap<Response, Reply>();

  function carry(reply: Reply): Response {
    const response = new Response(null, { status: reply.status });
    replies.set(response, reply);
    return response;
  }

  async function answerRegistry(request: Request): Promise<Response> {
    const exchange = exchanges.get(request);
    if (exchange === undefined) throw new Error("a request came in without its exchange");
    const reply = (await dependencies.token(exchange)) ?? (await dependencies.registry(exchange)) ?? notFound();
    return carry(reply);
  }

  const route = ({ request }: { request: Request }) => answerRegistry(request);
  const app = new Elysia({ handler: { standardHostname: false } })
    .onError(({ error, request }) => carry(replyOfError(error, exchanges.get(request), dependencies.log)))
    .use(createSystemRoutes(options, dependencies))
    .use(createDocsRoutes(options.version))
    .get("/token", route, { parse: "none", detail: { summary: "Token of this host's registry", tags: ["token"] } })
    .get("/token/:registry", route, { parse: "none", detail: { summary: "Token of one registry", tags: ["token"] } })
    .get("/v2/", route, {
      parse: "none",
      detail: { summary: "Ping: 200, or 401 with a challenge", tags: ["registry"] },
    })
    .get("/v2/*", route, {
      parse: "none",
      detail: {
        summary: "Manifests, blobs, tags and referrers, as the OCI distribution specification has them",
        tags: ["registry"],
      },
    })
    // Registries before /v2 (`/quay/v2/…`), raw paths, every other method, and what is not found.
    .all("/*", route, { parse: "none", detail: { hide: true } });

  return async function answer(exchange) {
    const url = `${BASE}${exchange.path}${exchange.query === "" ? "" : `?${exchange.query}`}`;
    const request = new Request(url, { method: exchange.method, headers: exchange.headers });
    exchanges.set(request, exchange);
    const response = await app.handle(request);
    const reply = replies.get(response);
    if (reply !== undefined) return reply;
    return replyOf(exchange.path === DOCS_PATH && exchange.method === "GET" ? await withOwnScript(response) : response);
  };
}

/** A system route's Response: small, so its body is taken whole. */
async function replyOf(response: Response): Promise<Reply> {
  const headers = [...response.headers.entries()];
  return { status: response.status, headers, body: response.body === null ? null : await response.bytes() };
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

/** Elysia would send an error's message as the body of a 500: only what was meant for clients goes out. */
function replyOfError(error: unknown, exchange: Exchange | undefined, log: Log): Reply {
  if (error instanceof UnknownHostError) return jsonReply(error.status, { routes: error.routes }); // compat C1
  if (error instanceof RegistryError) {
    if (exchange !== undefined) exchange.notes.error = error.code;
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
