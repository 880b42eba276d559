/**
 * The one place that decides which registry a request or a token scope means (product section 1; protocol R16, R40, R109,
 * R126, R127, R170, R171, R190, R191). What can name a registry:
 *
 *     Host: ghcr.io | ghcr.<suffix>      one registry, everything under it is its own
 *     /<registry>/v2/…                   the same
 *     ?ns=<host>                         the same
 *     /v2/<registry>/<name>/…            only where none of the above did
 *
 * They must agree. A request leads to a registry of the map or nowhere: no host that a client names is ever dialled.
 */
import { RegistryError } from "../errors.ts";
import { type Host, parseHost } from "./host.ts";
import { isHostLike, registryNamed, registryOfHost, registryOfHostText, registryOfOwnHost } from "./lookup.ts";
import { componentsBehindKey, nameUnder, repositoryAt, splitName } from "./naming.ts";
import type { Registry, RegistryMap } from "./registry.ts";

export interface RouteRequest {
  /** The Host the client asked; undefined when it sent none. */
  readonly host: Host | undefined;
  /** What stood before `/v2`, as `parseEndpoint` gives it. */
  readonly before: string | undefined;
  /** The name as written behind `/v2/`. */
  readonly name: string;
  /** Every value of `ns`, percent-decoded, in order. */
  readonly namespaces: readonly string[];
}

export interface RoutingOptions {
  /** Lower case, without leading dot or port: `"example.com"`. */
  readonly domainSuffix: string | undefined;
  /** True: hosts that name nothing are refused with the list of routes (compat C1). */
  readonly strictHosts: boolean;
}

export interface Route {
  readonly registry: Registry;
  /** The name there, with `library/` where Docker Hub needs it, without the upstream's `namePrefix`. */
  readonly repository: string;
  /** The name as the client wrote it behind `/v2/`: what lists must call themselves (protocol R48). */
  readonly requested: string;
  /** What stood before `/v2` in the client's path: `""` or `"/quay"`. Emitted URLs start with it. */
  readonly pathPrefix: string;
  /** The `ns` that led here, as written, to be echoed in `OCI-Namespace` (protocol R40). */
  readonly namespace: string | undefined;
}

/** The registries that requests on this host, prefix or `ns` can reach. */
export interface Reachable {
  readonly registries: readonly Registry[];
  /** The one that is meant whatever the name; undefined where the name decides. */
  readonly only: Registry | undefined;
  /** The one a name leads to when it selects no other. */
  readonly default: Registry;
}

export interface ScopeRoute {
  readonly registry: Registry;
  readonly repository: string;
}

/**
 * The host leads to no registry and hosts are strict: 404 NAME_UNKNOWN. `http` answers the body `{"routes":[…]}` made from
 * `routes` (compat C1); `detail` holds the same object.
 */
export class UnknownHostError extends RegistryError {
  /** Hosts that would have led somewhere: `"ghcr.example.com"`. */
  readonly routes: readonly string[];

  constructor(host: string, routes: readonly string[]) {
    super("NAME_UNKNOWN", notFoundMessage(host), { detail: { routes } });
    this.name = "UnknownHostError";
    this.routes = routes;
  }
}

/**
 * Leads a request to its registry.
 * @throws RegistryError NAME_UNKNOWN (404) when it names a registry that the map lacks, NAME_INVALID (400) when it names
 *   two, repeats `ns`, or leaves no repository name; UnknownHostError (404) for a host that strict hosts refuse
 */
export function routeFor(request: RouteRequest, map: RegistryMap, options: RoutingOptions): Route {
  return routeWithin(request, registriesReachable(request, map, options), map);
}

/** The same, where it is known already what can be reached. @throws RegistryError as `routeFor` for the name */
export function routeWithin(request: RouteRequest, reachable: Reachable, map: RegistryMap): Route {
  const { registry, name } = selectRegistry(request.name, reachable, map);
  const repository = repositoryAt(registry, name);
  if (repository === undefined) throw invalid("expected a repository name behind the registry");
  const pathPrefix = request.before === undefined ? "" : `/${request.before}`;
  return { registry, repository, requested: request.name, pathPrefix, namespace: request.namespaces[0] };
}

/**
 * What can be reached without a name, for the ping: one registry under its own host, prefix or `ns`, else all.
 * @throws RegistryError as `routeFor` does for host, prefix and `ns`
 */
export function registriesReachable(
  request: Omit<RouteRequest, "name">,
  map: RegistryMap,
  options: RoutingOptions,
): Reachable {
  const atHost = registryAtHost(request.host, map, options);
  const named = [atHost.only, registryBefore(request.before, map), registryOfNamespace(request.namespaces, map)];
  const [only, ...others] = named.filter((registry) => registry !== undefined);
  if (only === undefined) return { registries: map.registries, only, default: atHost.default };
  if (others.some((other) => other !== only)) throw invalid("host, path prefix and ns name different registries");
  return { registries: [only], only, default: only };
}

/**
 * The registry and repository of a scope's name, on the realm that a host of several registries answers its ping with.
 * Only a host in front selects a registry here, as podman writes it: containerd makes scopes from the image's own name
 * and hands its secrets to mirrors, so a bare word that happens to be a key must not decide where they go (product section 5).
 * @returns undefined for a name that means no repository reachable here: such a scope is ignored
 * @throws RegistryError as `routeFor` does for the host
 */
export function routeScope(
  name: string,
  host: Host | undefined,
  map: RegistryMap,
  options: RoutingOptions,
): ScopeRoute | undefined {
  const { only, default: otherwise } = registriesReachable({ host, before: undefined, namespaces: [] }, map, options);
  const { first, rest } = splitName(name);
  if (only !== undefined || !isHostLike(first, map)) return scopeWithin(otherwise, name, map);
  const registry = registryOfHostText(first, map);
  return registry === undefined ? undefined : scopeOf(registry, rest);
}

/**
 * The repository of a scope's name inside one registry, for the realm `/token/<key>`: the registry's own key or host in
 * front is stripped as in paths.
 * @returns undefined for a name that begins with another registry's host: a foreign scope, to be ignored
 */
export function scopeWithin(registry: Registry, name: string, map: RegistryMap): ScopeRoute | undefined {
  const within = nameUnder(registry, name, map);
  return within === undefined ? undefined : scopeOf(registry, within);
}

function scopeOf(registry: Registry, name: string): ScopeRoute | undefined {
  const repository = repositoryAt(registry, name);
  return repository === undefined ? undefined : { registry, repository };
}

/** What the Host alone says: one registry, or which one is meant when nothing else names one. */
function registryAtHost(
  host: Host | undefined,
  map: RegistryMap,
  options: RoutingOptions,
): { only: Registry | undefined; default: Registry } {
  const { domainSuffix: suffix, strictHosts } = options;
  if (suffix !== undefined && host?.name === suffix) return { only: undefined, default: map.default };
  const own = host === undefined ? undefined : registryOfOwnHost(host, map);
  if (own !== undefined) return { only: own, default: own };
  const key = suffix === undefined ? undefined : keyUnder(suffix, host);
  const keyed = key === undefined ? undefined : map.byKey.get(key);
  if (keyed !== undefined) return { only: keyed, default: keyed };
  const text = host?.text ?? "no host";
  if (strictHosts) throw new UnknownHostError(text, routesOf(map, suffix));
  if (key !== undefined) throw unknownRegistry(text);
  return { only: undefined, default: map.default };
}

/** `"ghcr"` of `ghcr.example.com`; undefined when the host is not under the suffix, which only a dot before it makes it. */
function keyUnder(suffix: string, host: Host | undefined): string | undefined {
  return host?.name.endsWith(`.${suffix}`) ? host.name.slice(0, -suffix.length - 1) : undefined;
}

function registryBefore(before: string | undefined, map: RegistryMap): Registry | undefined {
  if (before === undefined) return undefined;
  const registry = registryNamed(before, map);
  if (registry === undefined) throw unknownRegistry(before);
  return registry;
}

/** `ns` is a host and nothing else, so that what is echoed in a header is inside the host grammar. */
function registryOfNamespace(namespaces: readonly string[], map: RegistryMap): Registry | undefined {
  const [namespace, ...more] = namespaces;
  if (namespace === undefined) return undefined;
  // The last of several would win in one parser and the first in another (protocol R170).
  if (more.length > 0) throw invalid("expected one ns, got several");
  const host = parseHost(namespace);
  if (host === undefined) throw invalid("expected a host as ns, such as quay.io");
  const registry = registryOfHost(host, map);
  if (registry === undefined) throw unknownRegistry(host.text);
  return registry;
}

/**
 * The registry a name leads to and the name there. Where nothing but the name can say which one is meant, a host in front
 * must be known and a key needs enough behind it: `docker/dockerfile` on Docker Hub stays reachable.
 */
function selectRegistry(name: string, reachable: Reachable, map: RegistryMap): Selection {
  if (reachable.only !== undefined) {
    const within = nameUnder(reachable.only, name, map);
    if (within === undefined) throw invalid("the name begins with another registry than the one asked");
    return { registry: reachable.only, name: within };
  }
  const { first, rest, following } = splitName(name);
  if (isHostLike(first, map)) {
    const registry = registryOfHostText(first, map);
    if (registry === undefined) throw unknownRegistry(first);
    return { registry, name: rest };
  }
  const registry = map.byKey.get(first);
  const isNamed = registry !== undefined && following >= componentsBehindKey(registry);
  return isNamed ? { registry, name: rest } : { registry: reachable.default, name };
}

interface Selection {
  readonly registry: Registry;
  readonly name: string;
}

/** Names in messages have been read as hosts, keys or repository names: nothing else is repeated to the client. */
function notFoundMessage(name: string): string {
  return `registry not found: ${name}, please visit /help for available registries`;
}

function unknownRegistry(name: string): RegistryError {
  return new RegistryError("NAME_UNKNOWN", notFoundMessage(name));
}

function invalid(message: string): RegistryError {
  return new RegistryError("NAME_INVALID", message);
}

function routesOf(map: RegistryMap, suffix: string | undefined): string[] {
  return suffix === undefined ? [...map.byHost.keys()] : [...map.byKey.keys()].map((key) => `${key}.${suffix}`);
}
