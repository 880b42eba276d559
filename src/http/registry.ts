/**
 * Everything under /v2/, in all its spellings, as one readable list of decisions; docs/request-handling.md is its prose.
 * Reads the raw path of the Exchange, never a URL made of it.
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { type Endpoint, parseEndpoint } from "../registry/endpoint.ts";
import { isServed } from "../registry/pattern.ts";
import type { RegistryMap } from "../registry/registry.ts";
import {
  type Route,
  type RouteRequest,
  type RoutingOptions,
  type Reachable,
  registriesReachable,
  routeWithin,
} from "../registry/route.ts";
import type { Access, RegistryRequest } from "../proxy/access.ts";
import type { Admission, Gate } from "../proxy/admission.ts";
import type { ClientLimits } from "../proxy/client-limits.ts";
import type { Clients, SharedHost } from "../proxy/client.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { API_VERSION } from "../proxy/headers.ts";
import { serveReferrers, serveTags } from "../proxy/listing.ts";
import type { LoginLimit } from "../proxy/login-limit.ts";
import type { Origin, OriginReader } from "../proxy/origin.ts";
import type { Pull } from "../proxy/pull.ts";
import type { Push } from "../proxy/push.ts";
import { type Users, rightToAsk } from "../proxy/users.ts";
import { refuseLoop } from "../proxy/via.ts";
import { type Visit, type Visitor, enter, limited, withChallenge, withRight } from "./entry.ts";
import { answerPing, hostChallenge } from "./ping.ts";

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
  readonly limits: ClientLimits;
  /** Failed logins. */
  readonly loginLimit: LoginLimit;
  /** Undefined without client access: then everybody may come in. */
  readonly guard?: Guard | undefined;
}

/** Client access: who may come in, and what users may do. */
export interface Guard {
  readonly gate: Gate;
  readonly users: Users;
}

/** Answers a registry request; undefined when the path is none. @throws RegistryError */
export type RegistryHandler = (exchange: Exchange) => Promise<Reply | undefined>;

export function createRegistryHandler(
  options: RegistryHandlerOptions,
  { map, routing, originOf, clients, access, pull, push, limits, loginLimit, guard }: RegistryHandlerDependencies,
): RegistryHandler {
  return async function answer(exchange) {
    const endpoint = parseEndpoint(exchange.path);
    if (endpoint === undefined) return undefined;
    exchange.notes.endpoint = endpoint.kind;
    const registries = map(); // once: it may be replaced while this request waits
    refuseLoop(exchange.headers.get("via"), options.pseudonym);
    const origin = originOf(exchange);
    const namespaces = exchange.query === "" ? [] : new URLSearchParams(exchange.query).getAll("ns");
    const target = {
      host: origin.host,
      before: endpoint.before,
      name: "name" in endpoint ? endpoint.name : "",
      namespaces,
    };
    const admission = guard?.gate.admit(exchange, origin) ?? OPEN;
    const challenge: Visit["challenge"] = (error) => challengeFor({ exchange, origin, endpoint, target }, error);
    const visitor = await enter({ exchange, origin, admission, challenge }, clients, guard?.users);
    if (endpoint.kind === "ping") return ping(exchange, origin, target, visitor);
    if (endpoint.kind === "catalog")
      throw new RegistryError("UNSUPPORTED", "there is no catalog here", { status: 404 });

    const reachable = registriesReachable(target, registries, routing());
    const route = routeWithin(target, reachable, registries);
    exchange.notes.registry = route.registry.key;
    exchange.notes.repository = route.repository;
    const isWriting = isWrite(exchange, endpoint);
    if (isWriting && !push.isAllowed(route.registry)) throw readOnly();
    refuseByPattern(route);

    const sharedHost = sharedHostOf(reachable);
    const at = { registry: route.registry, sharedHost, address: origin.client };
    const authorization = exchange.headers.get("authorization");
    const identified = visitor.client ?? (await withChallenge(() => clients.identify(authorization, at), challenge));
    if (identified.kind === "user") exchange.notes.user = identified.name;
    const right = rightToAsk(exchange.method, endpoint);
    const client = withRight({ admission, client: identified, right, where: route, challenge }, guard?.users);
    const deadlineMs = exchange.receivedAtMs + options.headerBudgetMs;
    const request: RegistryRequest = { exchange, origin, endpoint, route, client, sharedHost, deadlineMs };
    limits.enter(request);
    const reply = await limited(request, loginLimit, () => (isWriting ? push.serve(request) : serve(request)));
    return withApiLines(reply, route);
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

  /** The registry's challenge; the host's where no registry is meant. */
  function challengeFor({ exchange, origin, endpoint, target }: Challenging, error?: ChallengeError): HeaderLine {
    try {
      if (endpoint.kind === "ping" || endpoint.kind === "catalog")
        return hostChallenge(origin, registriesReachable(target, map(), routing()).only, error);
      const registries = map();
      const reachable = registriesReachable(target, registries, routing());
      const route = routeWithin(target, reachable, registries);
      return access.challenge({ exchange, origin, route, sharedHost: sharedHostOf(reachable) }, error);
    } catch (failure) {
      // What is wrong with the name is told to who is known; to others it is a name like any other.
      if (failure instanceof RegistryError) return hostChallenge(origin, undefined, error);
      throw failure;
    }
  }

  function ping(exchange: Exchange, origin: Origin, target: RouteRequest, { client }: Visitor): Reply {
    if (exchange.method !== "GET" && exchange.method !== "HEAD") throw readOnly();
    return answerPing({ exchange, origin, reachable: registriesReachable(target, map(), routing()), client }, clients);
  }
}

const OPEN: Admission = { kind: "open" };

type ChallengeError = "invalid_token" | "insufficient_scope";

interface Challenging {
  readonly exchange: Exchange;
  readonly origin: Origin;
  readonly endpoint: Endpoint;
  readonly target: RouteRequest;
}

function sharedHostOf({ only }: Reachable): SharedHost {
  return only === undefined ? "shared" : "own";
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
  if (isServed(registry, repository)) return;
  throw new RegistryError("DENIED", "this repository is not served here");
}

function withApiLines(reply: Reply, route: Route): Reply {
  const namespace: HeaderLine[] = route.namespace === undefined ? [] : [["OCI-Namespace", route.namespace]];
  return { status: reply.status, headers: [...reply.headers, API_VERSION, ...namespace], body: reply.body };
}
