/**
 * Variables of the older tools (compat.md). What has an option of ours becomes its text; the rest becomes a fact of its
 * own. Their names are general ones (`MODE`, `DEBUG`, `KEY_PATH`), set for other programs too: a value that is not
 * understood is one warning and never stops the start.
 */
import { readDocxyNames } from "./compat-docxy.ts";
import { readAuthRegistries } from "./compat-auth-registries.ts";
import { isForRegistryProxy, readTagTiers } from "./compat-registry-proxy.ts";
import {
  adopt,
  problemOf,
  readNginxTime,
  readSwitch,
  textOf,
  type Draft,
  type InheritedDependencies,
} from "./inherited.ts";
import type { HostLogin } from "./docker-config.ts";
import { MAX_TIMER_MS, parseProxyUrl } from "./kinds.ts";
import { OPTIONS, type OptionName } from "./options.ts";
import type { ClientSettings } from "./settings.ts";
import type { TagRule } from "../registry/registry.ts";
import type { OutgoingProxies } from "../upstream/proxy.ts";
import { formatTime, parseNginxTime, quoted } from "./units.ts";

/** What the old names say. */
export interface Inherited {
  /** Texts of our options, known to be valid: after flags and our own variables, before the file. */
  readonly values: ReadonlyMap<OptionName, string>;
  /** Texts that stand in for an option's default: after the file. */
  readonly defaults: ReadonlyMap<OptionName, string>;
  readonly rootLeadsToApi: boolean;
  readonly forceHttp: boolean;
  readonly verifyTls: boolean;
  readonly client: Partial<ClientSettings>;
  readonly proxies: OutgoingProxies;
  readonly dockerHub: { readonly username: string; readonly password: string } | undefined;
  readonly authRegistries: readonly HostLogin[];
  /** Behind the `tags` of each registry (`MANIFEST_CACHE_*`). */
  readonly tagTiers: readonly TagRule[];
  /** Answers carry the header lines of docker-registry-proxy: one of its variables is set (compat C16). */
  readonly registryProxyHeaders: boolean;
  /** One line each. */
  readonly warnings: readonly string[];
}

/** Names without an option of ours, and what they do: for docs/configuration.md. */
export const OTHER_NAMES: Readonly<Record<string, string>> = {
  ENABLE_MANIFEST_CACHE:
    "`true`: tags are served by the tiers that follow, without asking their registry; another value, or a pattern or time that is not understood: each tag is asked for, unless `--tag-ttl` says otherwise",
  MANIFEST_CACHE_PRIMARY_REGEX:
    "names of the first tier, for every registry, behind its `tags` of the map; default `(stable|nightly|production|test)`; empty switches the tier off",
  MANIFEST_CACHE_PRIMARY_TIME: "how long they are served, in nginx's notation; default `10m`",
  MANIFEST_CACHE_SECONDARY_REGEX:
    "names of the second tier; default `(.*)(\\d|\\.)+(.*)(\\d|\\.)+(.*)(\\d|\\.)+`, which is what looks like a version",
  MANIFEST_CACHE_SECONDARY_TIME:
    "default `60d`; the time of all other tags is `MANIFEST_CACHE_DEFAULT_TIME`, default `1h`",
  MODE: "`prod`: as `--strict-hosts`, under a domain suffix; `debug`: not strict, and URLs that we hand out are http",
  DOCKER_HUB_USERNAME: "credential of the Docker Hub registry, with `DOCKER_HUB_PASSWORD`",
  AUTH_REGISTRIES:
    "accounts as `host:user:password`, separated by spaces: credentials of the registries with these hosts; `auth.docker.io` means Docker Hub, GitLab's domain the registry beside it. A client's own login wins over them",
  AUTH_REGISTRIES_DELIMITER: "what stands between two accounts in place of white space",
  AUTH_REGISTRY_DELIMITER: "what stands between host, user and password in place of `:`",
  VERIFY_SSL: "`false`: certificates of upstreams are not verified",
  DISABLE_IPV6: "`true`: upstreams are asked over IPv4 only",
  CLIENT_HEADER_TIMEOUT: "how long a client may take to send the head of a request, in nginx's notation",
  CLIENT_BODY_TIMEOUT: "how long a client may be silent in the middle of a request's body",
  SEND_TIMEOUT: "how long a client may take nothing of an answer",
  KEEPALIVE_TIMEOUT: "how long a connection may be idle between requests",
  DOCXY_HTTPS_ENABLED: "`false`: plain http on `DOCXY_HTTP_PORT`",
};

const CLIENT_TIMES = {
  SEND_TIMEOUT: "sendTimeoutMs",
  CLIENT_BODY_TIMEOUT: "bodyTimeoutMs",
  CLIENT_HEADER_TIMEOUT: "headerTimeoutMs",
  KEEPALIVE_TIMEOUT: "keepAliveTimeoutMs",
} as const;

/** Reads all old names at once. */
export async function readInherited(dependencies: InheritedDependencies): Promise<Inherited> {
  const draft: Draft = { ...dependencies, values: new Map(), defaults: new Map(), warnings: [] };
  const mode = readMode(draft);
  readDomain(draft, mode);
  readLogging(draft);
  readUpstreamTimes(draft);
  if (readSwitch(draft, "DISABLE_IPV6", "upstreams are asked over IPv4 only") === true)
    draft.values.set("upstreamIp", "ipv4");
  readPush(draft);
  readCache(draft);
  await readDocxyNames(draft);
  return {
    values: draft.values,
    defaults: draft.defaults,
    rootLeadsToApi: mode !== undefined || draft.values.has("domainSuffix"),
    forceHttp: mode === "debug",
    verifyTls: readSwitch(draft, "VERIFY_SSL", "upstream certificates are verified") ?? true,
    client: readClientTimes(draft),
    proxies: readProxies(draft),
    dockerHub: readDockerHub(draft),
    authRegistries: readAuthRegistries(draft),
    tagTiers: readTagTiers(draft),
    registryProxyHeaders: isForRegistryProxy(draft.env),
    warnings: draft.warnings,
  };
}

/** `MODE` of the FastAPI proxy: `prod` or `debug`. */
function readMode({ env, warnings }: Draft): "prod" | "debug" | undefined {
  const text = textOf(env, "MODE");
  const mode = text?.toLowerCase();
  if (mode === "prod" || mode === "debug") return mode;
  if (text !== undefined) warnings.push(`MODE is ignored: expected prod or debug, got ${quoted(text)}`);
  return undefined;
}

/** `CUSTOM_DOMAIN` alone is strict; `MODE=debug` lifts that, and sends unknown hosts to `TARGET_UPSTREAM`. */
function readDomain(draft: Draft, mode: "prod" | "debug" | undefined): void {
  const domain = textOf(draft.env, "CUSTOM_DOMAIN");
  if (domain !== undefined) adopt(draft, "values", { name: "domainSuffix", text: domain, from: "CUSTOM_DOMAIN" });
  const hasSuffix = draft.values.has("domainSuffix");
  if (mode === "prod" && !hasSuffix && !draft.isGiven("domainSuffix")) {
    draft.warnings.push("MODE=prod is ignored: it needs CUSTOM_DOMAIN or --domain-suffix");
  } else if (mode === "prod" || (mode === undefined && hasSuffix)) {
    const from = mode === "prod" ? "MODE=prod" : "CUSTOM_DOMAIN without MODE=debug";
    adopt(draft, "defaults", { name: "strictHosts", text: "true", from });
  }
  if (mode === "debug") draft.warnings.push('MODE=debug is read as "URLs that we hand out are http"');
  const target = textOf(draft.env, "TARGET_UPSTREAM");
  if (target !== undefined) adopt(draft, "values", { name: "defaultRegistry", text: target, from: "TARGET_UPSTREAM" });
}

/** Any debug switch wins over `LOG_LEVEL`: it is set by hand when something is wrong. */
function readLogging(draft: Draft): void {
  const level = textOf(draft.env, "LOG_LEVEL")?.toLowerCase();
  const ours =
    level === undefined ? undefined : ({ warning: "warn", critical: "error", fatal: "error" }[level] ?? level);
  if (ours !== undefined) adopt(draft, "values", { name: "logLevel", text: ours, from: "LOG_LEVEL", note: "silent" });
  for (const variable of ["DEBUG", "DEBUG_HUB", "DEBUG_NGINX"]) {
    if (readSwitch(draft, variable, "debug logging") === true) draft.values.set("logLevel", "debug");
  }
}

/** nginx has a time for each direction and for tunnels; where several of one kind are set, the longest holds. */
function readUpstreamTimes(draft: Draft): void {
  for (const name of ["connectTimeout", "idleTimeout"] as const) {
    const times = OPTIONS[name].inherited?.map((variable) => ({ variable, ms: readTime(draft, variable) })) ?? [];
    const longest = times.filter((time) => time.ms !== undefined).sort((a, b) => (b.ms ?? 0) - (a.ms ?? 0))[0];
    if (longest?.ms === undefined) continue;
    adopt(draft, "values", { name, text: formatTime(longest.ms), from: longest.variable });
  }
}

function readPush(draft: Draft): void {
  const text = textOf(draft.env, "ALLOW_PUSH");
  if (text !== undefined) adopt(draft, "values", { name: "allowPush", text, from: "ALLOW_PUSH" });
}

function readCache(draft: Draft): void {
  const size = textOf(draft.env, "CACHE_MAX_SIZE");
  if (size !== undefined) adopt(draft, "values", { name: "cacheMaxSize", text: size, from: "CACHE_MAX_SIZE" });
  const idle = textOf(draft.env, "CACHE_INACTIVE");
  if (idle === undefined) return;
  const problem = problemOf(() => parseNginxTime(idle));
  if (problem !== undefined) return void draft.warnings.push(`CACHE_INACTIVE is ignored: ${problem}`);
  adopt(draft, "values", { name: "cacheMaxIdle", text: formatTime(parseNginxTime(idle)), from: "CACHE_INACTIVE" });
}

function readClientTimes(draft: Draft): Partial<ClientSettings> {
  const found = Object.entries(CLIENT_TIMES).map(([variable, field]) => [field, readTime(draft, variable)] as const);
  const given = found.filter(([, ms]) => ms !== undefined && ms > 0);
  return Object.fromEntries(given);
}

function readTime(draft: Draft, variable: string): number | undefined {
  return readNginxTime(draft, variable, MAX_TIMER_MS);
}

/** Either case, the lower one first, as curl does. */
function readProxies(draft: Draft): OutgoingProxies {
  return {
    http: readProxy(draft, "http_proxy"),
    https: readProxy(draft, "https_proxy"),
    all: readProxy(draft, "all_proxy"),
    none: textOf(draft.env, "no_proxy") ?? textOf(draft.env, "NO_PROXY"),
  };
}

function readProxy(draft: Draft, lower: string): string | undefined {
  const variable = textOf(draft.env, lower) === undefined ? lower.toUpperCase() : lower;
  const text = textOf(draft.env, variable);
  if (text === undefined) return undefined;
  const problem = problemOf(() => parseProxyUrl(text));
  if (problem === undefined) return parseProxyUrl(text);
  draft.warnings.push(`${variable} is ignored: ${problem}`);
  return undefined;
}

function readDockerHub({ env, warnings }: Draft): Inherited["dockerHub"] {
  const username = textOf(env, "DOCKER_HUB_USERNAME");
  const password = textOf(env, "DOCKER_HUB_PASSWORD");
  if (username !== undefined && password !== undefined) {
    warnings.push("DOCKER_HUB_USERNAME and DOCKER_HUB_PASSWORD are read as the credential of Docker Hub");
    return { username, password };
  }
  if (username !== undefined) warnings.push("DOCKER_HUB_USERNAME is ignored: DOCKER_HUB_PASSWORD is not set");
  if (password !== undefined) warnings.push("DOCKER_HUB_PASSWORD is ignored: DOCKER_HUB_USERNAME is not set");
  return undefined;
}
