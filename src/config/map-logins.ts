/**
 * Accounts that come with a host's name instead of a registry of the map: of docker's `config.json` (`--docker-config`),
 * `AUTH_REGISTRIES` and Docker Hub's variables. Each becomes the credential of the upstream with that host; only in a map
 * of the operator's own does it also go to a registry that merely says it is known by that name.
 */
import type { ConfiguredCredential } from "../registry/registry.ts";
import type { HostLogin } from "./docker-config.ts";
import type { KeyGroup } from "./map-entries.ts";
import { DOCKER_HUB_HOST, isDockerHubOrigin } from "./well-known.ts";

export interface LoginPlace {
  readonly group: KeyGroup;
  /** Names clients know the registry by. */
  readonly hosts: readonly string[];
  readonly source: "file" | "url" | "built in";
}

/** The credentials that these accounts are for this registry. */
export function credentialsFor(logins: readonly HostLogin[], place: LoginPlace): ConfiguredCredential[] {
  return logins.flatMap(({ host, repositories, source }) => {
    const origin = originFor(host, place);
    return origin === undefined ? [] : [{ origin, repositories, source }];
  });
}

/**
 * The upstream an account of this host belongs to. A map that somebody else serves cannot lead it elsewhere by calling
 * another host by that name, nor over plain http.
 */
export function originFor(host: string, { group, hosts, source }: LoginPlace): string | undefined {
  const origins = group.entry.upstreams.map(({ origin }) => origin);
  const own = origins.find((origin) => isOriginOf(origin, host) && (source !== "url" || origin.startsWith("https:")));
  if (own !== undefined) return own;
  return source !== "url" && hosts.includes(host) ? origins[0] : undefined;
}

function isOriginOf(origin: string, host: string): boolean {
  return host === DOCKER_HUB_HOST ? isDockerHubOrigin(origin) : new URL(origin).host === host;
}

/**
 * The same for an account of `AUTH_REGISTRIES`, which may be named by the host that gives out the tokens: GitLab's own domain
 * means the registry beside it.
 */
export function gitLoginsFor(logins: readonly HostLogin[], place: LoginPlace): ConfiguredCredential[] {
  return logins.flatMap(({ host, repositories, source }) => {
    const origin = originFor(host, place) ?? originFor(`registry.${host}`, place) ?? originBeside(host, place);
    return origin === undefined ? [] : [{ origin, repositories, source }];
  });
}

/** In a map of the operator's own: on another port of that host, as GitLab has it, or trusting it with credentials. */
function originBeside(host: string, { group, source }: LoginPlace): string | undefined {
  if (source === "url") return undefined;
  const { upstreams, trustedRealms } = group.entry;
  const origins = upstreams.map(({ origin }) => origin);
  return (
    origins.find((origin) => new URL(origin).hostname === host) ??
    (trustedRealms.includes(host) ? origins[0] : undefined)
  );
}
