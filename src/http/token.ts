/**
 * The token service's addresses. `/token/<key>` names the registry; `/token`, `/v2/auth` and `/auth/token` mean the one
 * of the host; `/token/<url>` is a look-up key for a realm an upstream announced, and nothing is ever fetched from it
 * (compat C4, C26, C34).
 */
import { RegistryError } from "../errors.ts";
import type { Gate } from "../proxy/admission.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import type { LoginService, TokenTarget } from "../proxy/login.ts";
import type { OriginReader } from "../proxy/origin.ts";
import { refuseLoop } from "../proxy/via.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";
import { type RoutingOptions, registriesReachable } from "../registry/route.ts";

export interface TokenHandlerOptions {
  /** Our name in `Via`: a request that has it already went in a circle. */
  readonly pseudonym: string;
  readonly headerBudgetMs: number;
}

export interface TokenHandlerDependencies {
  readonly map: () => RegistryMap;
  readonly routing: () => RoutingOptions;
  readonly originOf: OriginReader;
  readonly login: LoginService;
  /** Undefined without client access. */
  readonly gate?: Gate | undefined;
  readonly knownRealm: (url: string) => Registry | undefined;
}

/** Answers a token request; undefined when the path is none. @throws RegistryError */
export type TokenHandler = (exchange: Exchange) => Promise<Reply | undefined>;

const HOST_PATHS: ReadonlySet<string> = new Set(["/token", "/token/", "/v2/auth", "/auth/token"]);

export function isTokenPath(path: string): boolean {
  return HOST_PATHS.has(path) || path.startsWith("/token/");
}

export function createTokenHandler(
  { headerBudgetMs, pseudonym }: TokenHandlerOptions,
  { map, routing, originOf, login, gate, knownRealm }: TokenHandlerDependencies,
): TokenHandler {
  function targetOf(exchange: Exchange): TokenTarget | undefined {
    const { path } = exchange;
    if (HOST_PATHS.has(path)) return hostTarget(exchange);
    if (!path.startsWith("/token/")) return undefined;
    const named = path.slice("/token/".length);
    const registry = map().byKey.get(named) ?? registryOfRealm(decodeRealm(named));
    if (registry === undefined) throw new RegistryError("NAME_UNKNOWN", "no registry of this name: see /help");
    return { kind: "registry", registry, isMarked: new URLSearchParams(exchange.query).get("host") === "shared" };
  }

  /** As the map has it now, if it still has it: the realm may have been learnt under an earlier one. */
  function registryOfRealm(url: string): Registry | undefined {
    const learnt = knownRealm(url);
    const current = learnt === undefined ? undefined : map().byKey.get(learnt.key);
    return current?.upstreams[0].origin === learnt?.upstreams[0].origin ? current : undefined;
  }

  function hostTarget(exchange: Exchange): TokenTarget {
    const { only, default: otherwise } = registriesReachable(
      { host: originOf(exchange).host, before: undefined, namespaces: [] },
      map(),
      routing(),
    );
    return only === undefined
      ? { kind: "host", default: otherwise }
      : { kind: "registry", registry: only, isMarked: false };
  }

  return async function answer(exchange) {
    const target = targetOf(exchange);
    if (target === undefined) return undefined;
    exchange.notes.endpoint = "token";
    if (target.kind === "registry") exchange.notes.registry = target.registry.key;
    refuseLoop(exchange.headers.get("via"), pseudonym);
    if (exchange.method !== "GET" && exchange.method !== "HEAD" && exchange.method !== "POST") {
      throw new RegistryError("UNSUPPORTED", "tokens are asked for with GET or POST", {
        headers: [["Allow", "GET, HEAD, POST"]],
      });
    }
    const origin = originOf(exchange);
    const asker = { address: origin.client, mayLogIn: gate?.admit(exchange, origin).kind !== "refused" };
    return login.answer({ exchange, target, asker, deadlineMs: exchange.receivedAtMs + headerBudgetMs });
  };
}

/** Clients write the realm plain or percent-encoded. */
function decodeRealm(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray percent sign: then it is no realm we know either
  }
}
