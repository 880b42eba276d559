/**
 * Everything under /v2/, in all its spellings, as one readable list of decisions; docs/request-handling.md is its prose.
 * Reads the raw path of the Exchange, never a URL made of it.
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { formatBearerChallenge } from "../registry/challenge.ts";
import { type Endpoint, parseEndpoint } from "../registry/endpoint.ts";
import { matchesAny } from "../registry/pattern.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { type Route, type RoutingOptions, registriesReachable, routeFor } from "../registry/route.ts";
import type { Access, RegistryRequest } from "../proxy/access.ts";
import type { Client, Clients, SharedHost } from "../proxy/client.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { API_VERSION, NEVER_KEPT } from "../proxy/headers.ts";
import { serveReferrers, serveTags } from "../proxy/listing.ts";
import type { Origin, OriginReader } from "../proxy/origin.ts";
import type { Pull } from "../proxy/pull.ts";
import type { Push } from "../proxy/push.ts";
import { refuseLoop } from "../proxy/via.ts";
import { jsonReply } from "./reply.ts";

export interface RegistryHandlerOptions {
  /** Our name in `Via`: a request that has it already went in a circle. */
  readonly pseudonym: string;
  /** From the request to its header block: access, token, redirects and retries together. 25 s, below containerd's 30 s. */
  readonly headerBudgetMs: number;
}

export interface RegistryHandlerDependencies {
  readonly map: () => RegistryMap;
  readonly routing: () => RoutingOptions;
  readonly originOf: OriginReader;
  readonly clients: Clients;
  readonly access: Access;
  readonly pull: Pull;
  readonly push: Push;
}

/** Answers a registry request; undefined when the path is none. @throws RegistryError */
export type RegistryHandler = (exchange: Exchange) => Promise<Reply | undefined>;

export function createRegistryHandler(
  options: RegistryHandlerOptions,
  { map, routing, originOf, clients, access, pull, push }: RegistryHandlerDependencies,
): RegistryHandler {
  return async function answer(exchange) {
    const endpoint = parseEndpoint(exchange.path);
    if (endpoint === undefined) return undefined;
    exchange.notes.endpoint = endpoint.kind;
    const registries = map(); // once: it may be replaced while this request waits
    refuseLoop(exchange.headers.get("via"), options.pseudonym);
    const origin = originOf(exchange);
    const namespaces = new URLSearchParams(exchange.query).getAll("ns");
    if (endpoint.kind === "ping") return ping(exchange, origin, endpoint, namespaces);
    if (endpoint.kind === "catalog")
      throw new RegistryError("UNSUPPORTED", "there is no catalog here", { status: 404 });

    const target = { host: origin.host, before: endpoint.before, name: endpoint.name, namespaces };
    const route = routeFor(target, registries, routing());
    exchange.notes.registry = route.registry.key;
    exchange.notes.repository = route.repository;
    const isWriting = isWrite(exchange, endpoint);
    if (isWriting && !push.isAllowed(route.registry)) throw readOnly();
    refuseByPattern(route);

    const reachable = registriesReachable(target, registries, routing());
    const sharedHost: SharedHost = reachable.only === undefined ? "shared" : "own";
    const client = identify({ exchange, origin, route, sharedHost });
    const deadlineMs = exchange.receivedAtMs + options.headerBudgetMs;
    const request: RegistryRequest = { exchange, origin, endpoint, route, client, sharedHost, deadlineMs };
    return withApiLines(await (isWriting ? push.serve(request) : serve(request)), route);
  };

  function serve(request: RegistryRequest): Promise<Reply> {
    const { endpoint } = request;
    switch (endpoint.kind) {
      case "manifest":
        return pull.manifest(request, endpoint);
      case "blob":
        return pull.blob(request, endpoint);
      case "tags":
        return serveTags(access, request);
      case "referrers":
        return serveReferrers(access, request, endpoint);
      default:
        throw new RegistryError("UNSUPPORTED", "this is a read-only proxy", { headers: [["Allow", "GET, HEAD"]] });
    }
  }

  function identify(place: Pick<RegistryRequest, "exchange" | "origin" | "route" | "sharedHost">): Client {
    try {
      const authorization = place.exchange.headers.get("authorization");
      return clients.identify(authorization, place.route.registry, place.sharedHost);
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== "UNAUTHORIZED") throw error;
      throw new RegistryError("UNAUTHORIZED", error.message, { headers: [access.challenge(place, "invalid_token")] });
    }
  }

  /** At once and without any upstream: dockerd waits for it, podman reads challenges nowhere else (protocol R3, R117, R152). */
  function ping(exchange: Exchange, origin: Origin, endpoint: Endpoint, namespaces: readonly string[]): Reply {
    if (exchange.method !== "GET" && exchange.method !== "HEAD") throw readOnly();
    const { registries, only } = registriesReachable(
      { host: origin.host, before: endpoint.before, namespaces },
      map(),
      routing(),
    );
    const wantsLogin = registries.some((registry) => registry.login === "relay");
    const authorization = exchange.headers.get("authorization");
    if (!wantsLogin || clients.holdsToken(authorization) || /^basic /i.test(authorization ?? "")) {
      return jsonReply(200, {}, { headers: [NEVER_KEPT, API_VERSION] });
    }
    const challenge = formatBearerChallenge({
      realm: `${origin.base}/token${only === undefined ? "" : `/${only.key}`}`,
      service: origin.host?.text ?? "layover",
      ...(authorization === null ? {} : { error: "invalid_token" as const }),
    });
    throw new RegistryError("UNAUTHORIZED", "log in, or ask for an anonymous token", {
      headers: [["WWW-Authenticate", challenge]],
    });
  }
}

/** The state of an upload is asked with GET, and is part of writing it. */
function isWrite(exchange: Exchange, endpoint: Endpoint): boolean {
  return endpoint.kind === "upload" || (exchange.method !== "GET" && exchange.method !== "HEAD");
}

function readOnly(): RegistryError {
  return new RegistryError("UNSUPPORTED", "this is a read-only proxy: push to the registry itself", {
    headers: [["Allow", "GET, HEAD"]],
  });
}

function refuseByPattern({ registry, repository }: Route): void {
  const isAllowed = registry.allow.length === 0 || matchesAny(registry.allow, repository);
  if (isAllowed && !matchesAny(registry.deny, repository)) return;
  throw new RegistryError("DENIED", "this repository is not served here");
}

function withApiLines(reply: Reply, route: Route): Reply {
  const namespace: HeaderLine[] = route.namespace === undefined ? [] : [["OCI-Namespace", route.namespace]];
  return { ...reply, headers: [...reply.headers, API_VERSION, ...namespace] };
}
