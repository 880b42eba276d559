/**
 * The one table of options: what the command line, the environment and the configuration file know, with defaults and
 * help. Help text, docs/configuration.md and docs/config.schema.json are made from it; an option that is not here does
 * not exist, and one that is here has an effect.
 */
import {
  ADDRESS,
  DOMAIN,
  FILE,
  FOLDER,
  LISTEN,
  MAP_LOCATION,
  ORIGIN,
  PEER_RANGES,
  MAX_AGE_MS,
  ONE_LISTEN,
  COUNT,
  RATE,
  REGISTRY_NAME,
  SIZE,
  SWITCH,
  oneOf,
  time,
} from "./kinds.ts";
import { option, type OptionText } from "./option.ts";
import { UPSTREAM_OPTIONS } from "./options-upstream.ts";

export const OPTIONS = {
  listen: option(LISTEN, {
    group: "Listening",
    flag: "listen",
    inherited: ["DOCXY_HTTPS_PORT", "DOCXY_HTTP_PORT"],
    default: ":5000",
    help: "Address to listen on: :5000 (every address, IPv4 and IPv6), 127.0.0.1:5000, [::1]:5000 or unix:/run/layover.sock. May be repeated.",
  }),
  httpRedirect: option(ADDRESS, {
    group: "Listening",
    flag: "http-redirect",
    inherited: ["DOCXY_HTTP_PORT"],
    help: "Address, such as :80, that redirects to https and serves ACME challenges.",
  }),
  acmeWebroot: option(FOLDER, {
    group: "Listening",
    flag: "acme-webroot",
    help: "Folder whose .well-known/acme-challenge/ is served on the redirect address.",
  }),
  trustedProxies: option(PEER_RANGES, {
    group: "Listening",
    flag: "trusted-proxies",
    inherited: ["DOCXY_BEHIND_PROXY"],
    defaultText: "none",
    help: "Address ranges, and unix for our own sockets, whose Forwarded and X-Forwarded-* headers are believed. May be repeated.",
  }),
  metricsListen: option(ONE_LISTEN, {
    group: "Listening",
    flag: "metrics-listen",
    help: "Address of its own for /metrics, /healthz and /readyz, plain HTTP, for whoever reaches it. Without it /metrics is answered on the other addresses, to programs of this machine only.",
  }),
  config: option(FILE, {
    group: "Registries",
    flag: "config",
    inFile: false,
    help: "Configuration file: YAML, TOML, JSON or JSONC, with the names of the flags in camelCase.",
  }),
  registryMap: option(MAP_LOCATION, {
    group: "Registries",
    flag: "registry-map",
    defaultText: "built in",
    help: "File or https URL of registrymap.json. Read again when it changes and on SIGHUP.",
  }),
  registryMapRefresh: option(time(1000), {
    group: "Registries",
    flag: "registry-map-refresh",
    default: "10m",
    help: "How often a registry map from a URL is asked again.",
  }),
  defaultRegistry: option(REGISTRY_NAME, {
    group: "Registries",
    flag: "default-registry",
    inherited: ["TARGET_UPSTREAM"],
    defaultText: "what the map says",
    help: "Key or URL of the registry that is meant when a request names none. Wins over the map.",
  }),
  clientRequests: option(RATE, {
    group: "Client access",
    flag: "client-requests",
    defaultText: "no limit",
    help: "Registry requests that one client (user or address) may make, such as 100/s, 600/m or 5000/h: so many at once, given back over that time. More get 429.",
  }),
  clientTransfers: option(COUNT, {
    group: "Client access",
    flag: "client-transfers",
    defaultText: "no limit",
    help: "Manifests and blobs that one client may have under way at once. More get 429.",
  }),
  dockerConfig: option(FILE, {
    group: "Registries",
    flag: "docker-config",
    help: "docker's config.json: its accounts, and the credential helpers it names, become the credentials of the registries of their hosts, where the map has none of their own. Read again with the map.",
  }),
  allowPush: option(SWITCH, {
    group: "Registries",
    flag: "allow-push",
    inherited: ["ALLOW_PUSH"],
    default: "false",
    help: "Pass uploads, manifests and deletions through to every registry. Without it only to those whose map entry has push: true.",
  }),
  sharePrivate: option(SWITCH, {
    group: "Registries",
    flag: "share-private",
    default: "false",
    help: "Let everybody pull what configured credentials may read, private repositories too.",
  }),
  htpasswd: option(FILE, {
    group: "Client access",
    flag: "htpasswd",
    help: "File of users who may use the proxy, as htpasswd -B writes it. Credentials that arrive are then theirs and no registry's. Read again when it changes.",
  }),
  allowFrom: option(PEER_RANGES, {
    group: "Client access",
    flag: "allow-from",
    defaultText: "everybody, unless one of the others is given",
    help: "Address ranges, and unix for our own sockets, from where no login is needed. May be repeated.",
  }),
  tlsClientCa: option(FILE, {
    group: "Client access",
    flag: "tls-client-ca",
    help: "PEM file of authorities: who shows a certificate of theirs is the user its common name says. Read again when it changes.",
  }),
  accessRules: option(FILE, {
    group: "Client access",
    flag: "access-rules",
    help: "File (YAML, TOML, JSON or JSONC) that says which users may pull, push and delete where. Without it every user may pull everything and push nothing. Read again when it changes.",
  }),
  domainSuffix: option(DOMAIN, {
    group: "Host names",
    flag: "domain-suffix",
    inherited: ["CUSTOM_DOMAIN"],
    help: "Domain under which <key>.<domain> is that registry and the domain itself the default registry.",
  }),
  strictHosts: option(SWITCH, {
    group: "Host names",
    flag: "strict-hosts",
    inherited: ["MODE"],
    default: "false",
    help: "Answer 404 with the list of routes to hosts outside the domain suffix.",
  }),
  publicUrl: option(ORIGIN, {
    group: "Host names",
    flag: "public-url",
    defaultText: "from the request",
    help: "How clients reach us: scheme, host and port of every URL we hand out.",
  }),
  tlsCert: option(FILE, {
    group: "TLS",
    flag: "tls-cert",
    inherited: ["CERT_PATH", "DOCXY_CERT_PATH"],
    help: "PEM file with our certificate and its chain. A replaced file is picked up without a restart.",
  }),
  tlsKey: option(FILE, {
    group: "TLS",
    flag: "tls-key",
    inherited: ["KEY_PATH", "DOCXY_KEY_PATH"],
    help: "PEM file with its key: RSA, EC or Ed25519; PKCS#1, SEC1 or PKCS#8.",
  }),
  tlsKeyPassphraseFile: option(FILE, {
    group: "TLS",
    flag: "tls-key-passphrase-file",
    help: "File with the passphrase of an encrypted key.",
  }),
  ...UPSTREAM_OPTIONS,
  cacheDir: option(FOLDER, {
    group: "Cache",
    flag: "cache-dir",
    help: "Folder where what was pulled is kept and served from, to who may read it. Empty: no cache.",
  }),
  cacheMaxSize: option(SIZE, {
    group: "Cache",
    flag: "cache-max-size",
    inherited: ["CACHE_MAX_SIZE"],
    default: "32g",
    help: "How many bytes the cache may hold; what was not used for longest goes first.",
  }),
  cacheMinFree: option(SIZE, {
    group: "Cache",
    flag: "cache-min-free",
    default: "1g",
    help: "Free space of the cache's disk that is never used up.",
  }),
  cacheMaxIdle: option(time(60_000, MAX_AGE_MS), {
    group: "Cache",
    flag: "cache-max-idle",
    inherited: ["CACHE_INACTIVE"],
    default: "60d",
    help: "Content that nobody asked for in this long goes.",
  }),
  tagTtl: option(time(0, MAX_AGE_MS), {
    group: "Cache",
    flag: "tag-ttl",
    inherited: ["MANIFEST_CACHE_DEFAULT_TIME"],
    default: "0",
    help: "How long a tag is served without asking its registry; 0 asks each time, by HEAD. A registry's tags in the map win.",
  }),
  grantTtl: option(time(1000, MAX_AGE_MS), {
    group: "Cache",
    flag: "grant-ttl",
    default: "5m",
    help: "How long a credential that its registry accepted for a repository is believed without asking again.",
  }),
  staleIfError: option(time(0, MAX_AGE_MS), {
    group: "Cache",
    flag: "stale-if-error",
    default: "30d",
    help: "How long after its time (--tag-ttl, a registry's tags) a tag is served on when its registry cannot be asked.",
  }),
  stateDir: option(FOLDER, {
    group: "Running",
    flag: "state-dir",
    defaultText: "$STATE_DIRECTORY, $XDG_STATE_HOME/layover or ~/.local/state/layover",
    help: "Folder for the key that seals tokens and for our name towards other proxies.",
  }),
  drainTimeout: option(time(0), {
    group: "Running",
    flag: "drain-timeout",
    default: "30s",
    help: "How long SIGTERM waits for running transfers.",
  }),
  logLevel: option(oneOf(["trace", "debug", "info", "warn", "error"]), {
    group: "Log",
    flag: "log-level",
    inherited: ["LOG_LEVEL", "DEBUG", "DEBUG_HUB", "DEBUG_NGINX"],
    default: "info",
    help: "How much is logged. debug shows the heads of requests and answers, without secrets.",
  }),
  logFormat: option(oneOf(["json", "pretty"]), {
    group: "Log",
    flag: "log-format",
    defaultText: "json; pretty on a terminal",
    help: "One JSON object a line, or lines for people.",
  }),
} as const;

/** The key of an option in the table and in the configuration file: `"listen"`, `"registryMap"`. */
export type OptionName = keyof typeof OPTIONS;

export const OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS).filter(isOptionName);

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

/** `"registryMap"` → `"LAYOVER_REGISTRY_MAP"`. */
export function variableOf(name: OptionName): string {
  return `LAYOVER_${OPTIONS[name].flag.toUpperCase().replaceAll("-", "_")}`;
}

/** The option of a flag (without dashes) or of one of our own variables. */
export function optionOfFlag(flag: string): OptionName | undefined {
  return OPTION_NAMES.find((name) => OPTIONS[name].flag === flag);
}

export function optionOfVariable(variable: string): OptionName | undefined {
  return OPTION_NAMES.find((name) => variableOf(name) === variable);
}

/** Whether the option may stand in a configuration file. */
export function isInFile(name: OptionName): boolean {
  const text: OptionText = OPTIONS[name];
  return text.inFile !== false;
}
