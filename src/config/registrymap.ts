/**
 * From the text of `registrymap.json` to a RegistryMap (product section 3). Everything is checked here, once, and all
 * problems are told together, path by path; files that the map names are read here too.
 */
import { createRegistryMap, type ConfiguredCredential, type Registry, type RegistryMap } from "../registry/registry.ts";
import { chooseDefault, readGroups, type KeyGroup, type MapFields } from "./map-entries.ts";
import { assignHosts } from "./map-hosts.ts";
import { readSecrets, type MapSecrets } from "./map-secrets.ts";
import { ConfigError, type Problem } from "./problem.ts";
import { hostOf } from "./upstream-url.ts";
import { DOCKER_HUB_HOST, hasSingleNames, hostsOfKey, isDockerHubOrigin } from "./well-known.ts";

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
  const meant = chooseDefault(fields, named, { ...reading, option: options.defaultRegistry });
  const groups = meant === undefined || named.includes(meant) ? named : [...named, meant];
  const hosts = assignHosts(groups, reading);
  const secrets = await Promise.all(
    groups.map((group) => readSecrets(group, { ...reading, readFile: (path) => options.readFile(path) })),
  );
  if (problems.length > 0 || meant === undefined) throw new ConfigError(problems);

  const registries = groups.map((group, i) => {
    const parts = { group, hosts: hosts.get(group) ?? [], secrets: secrets[i] ?? { credentials: [], tls: {} } };
    return registryOf(parts, options);
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
  readonly group: KeyGroup;
  readonly hosts: readonly string[];
  readonly secrets: MapSecrets;
}

function registryOf({ group, hosts, secrets }: Parts, options: ParseMapOptions): Registry {
  const { keys, entry } = group;
  const [first, ...others] = entry.upstreams;
  if (first === undefined) throw new RangeError("a registry without upstreams passed the schema");
  const isDockerHub = hosts.includes(DOCKER_HUB_HOST);
  const credentials =
    isDockerHub && secrets.credentials.length === 0 ? hubCredentials(group, options) : secrets.credentials;
  return {
    key: keys[0],
    keys,
    upstreams: [first, ...others],
    hosts,
    isDockerHub,
    singleNames: hasSingleNames([...entry.upstreams.map(hostOf), ...keys.flatMap(hostsOfKey)]),
    login: entry.login ?? (credentials.length > 0 ? "proxy" : "relay"),
    credentials,
    allow: entry.allow,
    deny: entry.deny,
    tags: entry.tags.map(({ match, ttl }) => ({ match, ttlMs: ttl })),
    proxy: entry.proxy,
    trustedRealms: entry.trustedRealms,
    push: entry.push ?? false,
    allowAddresses: entry.allowAddresses,
    tls: { ...secrets.tls, insecureSkipVerify: entry.tls?.insecureSkipVerify === true || options.verifyTls === false },
  };
}

/**
 * The credential of the environment is Docker Hub's: a map that somebody else serves cannot lead it elsewhere by calling
 * another host docker.io. In a map of the operator's own, a registry that stands in for Docker Hub gets it.
 */
function hubCredentials({ entry }: KeyGroup, { dockerHub, source }: ParseMapOptions): ConfiguredCredential[] {
  const origins = entry.upstreams.map(({ origin }) => origin);
  const origin = origins.find(isDockerHubOrigin) ?? (source === "url" ? undefined : origins[0]);
  return dockerHub === undefined || origin === undefined ? [] : [{ origin, repositories: [], ...dockerHub }];
}
