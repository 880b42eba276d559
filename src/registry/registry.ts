/**
 * What a registry of the map is, once read and checked: plain data that every level may hold.
 * Parsing and defaults live in `config/registrymap`; who leads a request here lives in `registry/route`.
 */

/** One URL that serves a registry, taken apart (protocol R145). */
export interface Upstream {
  /** `"https://ghcr.io"`, `"http://[::1]:5000"`: scheme, host and non-default port, no slash at the end. */
  readonly origin: string;
  /** What stands before `/v2`: `""` or `"/artifactory/api/docker/hub"`. */
  readonly basePath: string;
  /** What is put before each repository name: `""` or `"project/"`, from `https://harbor.example/v2/project`. */
  readonly namePrefix: string;
}

/** A credential as configured. It belongs to one upstream origin and is never sent to another (product section 5). */
export interface ConfiguredCredential {
  /** The upstream origin it is for. */
  readonly origin: string;
  /** Globs of repository names there (`"myorg/**"`); empty means all. */
  readonly repositories: readonly string[];
  readonly source: CredentialSource;
}

/** Where a credential's secret comes from. */
export type CredentialSource =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A refresh token, for token servers only (protocol R99). */
  | { readonly kind: "identity-token"; readonly token: string }
  /** One of docker's credential helpers: asked for `serverUrl` by its `get`. */
  | ({ readonly kind: "helper"; readonly program: string; readonly serverUrl: string } & ProgramLimits)
  /** A program and its arguments; with a user name its output may be the bare password. */
  | ({
      readonly kind: "exec";
      readonly argv: readonly [string, ...string[]];
      readonly username?: string;
    } & ProgramLimits);

export interface ProgramLimits {
  readonly timeoutMs: number;
  /** Names of variables it gets besides PATH and HOME. */
  readonly env: readonly string[];
}

/** TLS towards a registry's upstreams. PEM texts, already read. */
export interface UpstreamTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly insecureSkipVerify: boolean;
}

/** Where content of a registry may be had besides, by digest: another registry of the map (docs/operations.md, Stand-ins). */
export interface StandIn {
  /** A key of the map. */
  readonly key: string;
  /** What stands before the repository's name there: `""` or `"docker/"`. */
  readonly prefix: string;
  /** Globs of the repositories it stands in for, by their names at home; empty means all. */
  readonly repositories: readonly string[];
}

/** How long tags with such names are served without asking upstream. The first rule that matches counts. */
export interface TagRule {
  /** A regular expression over the tag, anchored at its start only. */
  readonly match: string;
  readonly ttlMs: number;
  /** Which of the two tiers of older settings this is; undefined for a rule of the map. */
  readonly tier?: "primary" | "secondary";
}

export interface Registry {
  /** The map's key, a DNS label: `"docker"`. Keys with equal upstreams are one registry: the first key names it. */
  readonly key: string;
  /** Every key that leads here, `key` included. */
  readonly keys: readonly string[];
  /** At least one, in the order they are asked. */
  readonly upstreams: readonly [Upstream, ...Upstream[]];
  /** Names clients know it by, lower case, with port where not the default: `"ghcr.io"`, `"reg.example:5000"`. */
  readonly hosts: readonly string[];
  /** True for the registry whose hosts include docker.io, whatever its URL: one-word names get `library/` (protocol R127). */
  readonly isDockerHub: boolean;
  /** True where repository names may have one component, so that a bare key needs only one more behind it. */
  readonly singleNames: boolean;
  readonly login: "relay" | "proxy";
  readonly credentials: readonly ConfiguredCredential[];
  /** Globs of repository names there; an empty `allow` allows all, `deny` wins. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly tags: readonly TagRule[];
  /** Outgoing proxy: a URL (http, https, socks5), `false` for never, undefined for the general setting. */
  readonly proxy: string | false | undefined;
  /** Hosts besides the upstream's own domain that may receive credentials as token realm (protocol R106). */
  readonly trustedRealms: readonly string[];
  /** Asked in this order for content that this registry should have and cannot give. */
  readonly standIns: readonly StandIn[];
  /** Writes are passed through to it. */
  readonly push: boolean;
  /** CIDRs where redirects and realms may lead besides public addresses. */
  readonly allowAddresses: readonly string[];
  readonly tls: UpstreamTls;
}

/** A registry that has upstreams and nothing else: open, without names of its own, with every default. */
export function createPlainRegistry(key: string, upstreams: Registry["upstreams"]): Registry {
  return {
    key,
    keys: [key],
    upstreams,
    hosts: [],
    isDockerHub: false,
    singleNames: false,
    login: "relay",
    credentials: [],
    allow: [],
    deny: [],
    tags: [],
    proxy: undefined,
    trustedRealms: [],
    standIns: [],
    push: false,
    allowAddresses: [],
    tls: { insecureSkipVerify: false },
  };
}

/** The map in force: every registry, and which one is meant when nothing names one. */
export interface RegistryMap {
  readonly registries: readonly Registry[];
  readonly default: Registry;
  /** Key or alias → registry. */
  readonly byKey: ReadonlyMap<string, Registry>;
  /** Host name clients know, lower case, with port where given → registry. */
  readonly byHost: ReadonlyMap<string, Registry>;
}

/** Builds the lookups. The first registry of a key or host wins; conflicts are the loader's to refuse. */
export function createRegistryMap(registries: readonly Registry[], defaultRegistry: Registry): RegistryMap {
  const byKey = new Map<string, Registry>();
  const byHost = new Map<string, Registry>();
  for (const registry of registries) {
    for (const key of registry.keys) if (!byKey.has(key)) byKey.set(key, registry);
    for (const host of registry.hosts) if (!byHost.has(host)) byHost.set(host, registry);
  }
  return { registries, default: defaultRegistry, byKey, byHost };
}
