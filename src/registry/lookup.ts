/**
 * Looking a name up in the map: which registry a key, or a host that clients know it by, means (protocol R16, R126, R191).
 * A name that is not in the map means nothing; nothing is ever made into a registry here (protocol R109).
 */
import { type Host, parseHost } from "./host.ts";
import type { Registry, RegistryMap } from "./registry.ts";

/** The names of Docker Hub, all one registry: images, credentials, API, web (protocol R126). */
const DOCKER_HUB_HOSTS: ReadonlySet<string> = new Set([
  "docker.io",
  "index.docker.io",
  "registry-1.docker.io",
  "registry.hub.docker.com",
]);

/** The registry that a key (`"quay"`) or a host (`"quay.io"`) names; undefined when the map has neither. */
export function registryNamed(text: string, map: RegistryMap): Registry | undefined {
  return map.byKey.get(text) ?? registryOfHostText(text, map);
}

/** The registry known by this host, port included; undefined when the map has none. */
export function registryOfHost(host: Host, map: RegistryMap): Registry | undefined {
  // `quay.io:443` is `quay.io`: the map writes no default port.
  const name = host.port === 443 ? host.name : host.text;
  const hub = DOCKER_HUB_HOSTS.has(name) ? map.byHost.get("docker.io") : undefined;
  return map.byHost.get(host.text) ?? map.byHost.get(name) ?? hub;
}

/** As `registryOfHost`, from text; undefined also for a text that is no host. */
export function registryOfHostText(text: string, map: RegistryMap): Registry | undefined {
  const host = parseHost(text);
  return host === undefined ? undefined : registryOfHost(host, map);
}

/**
 * The registry whose own host a client asked. In a Host header the port says where we listen, not who is meant; a registry
 * that is known by this very port goes first.
 */
export function registryOfOwnHost(host: Host, map: RegistryMap): Registry | undefined {
  return registryOfHost(host, map) ?? registryOfHost({ name: host.name, port: undefined, text: host.name }, map);
}

/**
 * True for a first component that is a host and no word of the name: it has a dot or a colon, as clients read names
 * themselves (protocol R16); `localhost` only where the map knows it.
 */
export function isHostLike(component: string, map: RegistryMap): boolean {
  return /[.:]/.test(component) || (component === "localhost" && map.byHost.has(component));
}
