/**
 * From the text of `registrymap.json` to a RegistryMap (product section 3). Everything is checked here, once, and all
 * problems are told together, path by path; files that the map names are read here too.
 */
import { createRegistryMap, type Registry, type RegistryMap } from "../registry/registry.ts";
import type { HostLogin } from "./docker-config.ts";
import { chooseDefault, readGroups, type MapFields } from "./map-entries.ts";
import { assignHosts } from "./map-hosts.ts";
import { checkStandIns } from "./map-stand-ins.ts";
import { credentialsFor, gitLoginsFor, type LoginPlace } from "./map-logins.ts";
import { readDockerConfig, readSecrets, type MapSecrets } from "./map-secrets.ts";
import { ConfigError, type Problem } from "./problem.ts";
import { hostOf } from "./upstream-url.ts";
import { DOCKER_HUB_HOST, hasSingleNames, hostsOfKey } from "./well-known.ts";

export interface ParseMapOptions {
  /** A map from a URL may hold only URLs, hosts, tags, allow and deny (product section 3). */
  readonly source: "file" | "url" | "built in";
  /** What problems name as their place: a path or a URL without its query. Default: the source. */
  readonly name?: string;
  /** The text of a file that the map names; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
  /** A key or a URL; wins over the map's `default`. */
  readonly defaultRegistry?: string | undefined;
  /** Laid over the Docker Hub registry when the map gives it no credentials of its own. */
  readonly dockerHub?: Login | undefined;
  /** Accounts of `AUTH_REGISTRIES`, laid over the registries of their hosts in the same way; clients' own logins win over them. */
  readonly authRegistries?: readonly HostLogin[];
  /** docker's `config.json`, whose accounts are laid over the registries of their hosts. */
  readonly dockerConfig?: string | undefined;
  /** Our environment, for passwords in it. Default: empty. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told of each file that holds a secret. */
  readonly onSecretFile?: (path: string) => void;
  /** False accepts any certificate of any upstream. Default true. */
  readonly verifyTls?: boolean;
}

interface Login {
  readonly username: string;
  readonly password: string;
}

/**
 * Parses and checks a map.
 * @throws ConfigError with every problem of the map
 */
export async function parseRegistryMap(text: string, options: ParseMapOptions): Promise<RegistryMap> {
  const problems: Problem[] = [];
  const reading = { source: options.source, name: options.name ?? options.source, problems };
  const fields = readFields(text, reading.name);
  const named = readGroups(fields, reading);
  checkStandIns(fields, named, reading);
  const meant = chooseDefault(fields, named, { ...reading, option: options.defaultRegistry });
  const groups = meant === undefined || named.includes(meant) ? named : [...named, meant];
  const hosts = assignHosts(groups, reading);
  const { env = {}, onSecretFile = () => undefined, source } = options;
  const files = { ...reading, env, onSecretFile, readFile: (path: string) => options.readFile(path) };
  const places = groups.map((group) => ({ group, hosts: hosts.get(group) ?? [], source }));
  const secrets = await Promise.all(places.map((place) => readSecrets(place, files)));
  const general = options.dockerConfig === undefined ? [] : await readDockerConfig(options.dockerConfig, files);
  if (problems.length > 0 || meant === undefined) throw new ConfigError(problems);

  const registries = places.map((place, i) => {
    return registryOf({ place, secrets: secrets[i] ?? { credentials: [], tls: {} }, general }, options);
  });
  const defaultRegistry = registries[groups.indexOf(meant)];
  if (defaultRegistry === undefined)
    throw new ConfigError([{ from: reading.name, what: "expected at least one registry" }]);
  return createRegistryMap(registries, defaultRegistry);
}

function readFields(text: string, name: string): MapFields {
  const what = "expected a JSON object of keys and URLs";
  try {
    const root: unknown = Bun.JSONC.parse(text);
    if (typeof root === "object" && root !== null && !Array.isArray(root)) return { ...root };
  } catch (error) {
    // The parser's message alone does not say which file it read.
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([{ from: name, what: `${what}: ${reason}` }]);
  }
  throw new ConfigError([{ from: name, what }]);
}

interface Parts {
  readonly place: LoginPlace;
  readonly secrets: MapSecrets;
  /** Accounts of --docker-config. */
  readonly general: readonly HostLogin[];
}

function registryOf({ place, secrets, general }: Parts, options: ParseMapOptions): Registry {
  const { group, hosts } = place;
  const { keys, entry } = group;
  const [first, ...others] = entry.upstreams;
  if (first === undefined) throw new RangeError("a registry without upstreams passed the schema");
  const isDockerHub = hosts.includes(DOCKER_HUB_HOST);
  const inherited = gitLoginsFor(options.authRegistries ?? [], place);
  const configured =
    secrets.credentials.length > 0 ? secrets.credentials : credentialsFor([...hubLogins(options), ...general], place);
  const credentials = secrets.credentials.length > 0 ? configured : [...inherited, ...configured];
  return {
    key: keys[0],
    keys,
    upstreams: [first, ...others],
    hosts,
    isDockerHub,
    singleNames: hasSingleNames([...entry.upstreams.map(hostOf), ...keys.flatMap(hostsOfKey)]),
    login: entry.login ?? (configured.length > 0 ? "proxy" : "relay"),
    credentials,
    allow: entry.allow,
    deny: entry.deny,
    tags: entry.tags.map(({ match, ttl }) => ({ match, ttlMs: ttl })),
    proxy: entry.proxy,
    trustedRealms: entry.trustedRealms,
    standIns: entry.alsoAt.map(({ at, repositories }) => ({ ...at, repositories })),
    push: entry.push ?? false,
    allowAddresses: entry.allowAddresses,
    tls: { ...secrets.tls, insecureSkipVerify: entry.tls?.insecureSkipVerify === true || options.verifyTls === false },
  };
}

function hubLogins({ dockerHub }: ParseMapOptions): HostLogin[] {
  if (dockerHub === undefined) return [];
  return [{ host: DOCKER_HUB_HOST, repositories: [], source: { kind: "password", ...dockerHub } }];
}
