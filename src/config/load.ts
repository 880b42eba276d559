/**
 * From flags, environment and configuration file to Settings. Flag before environment before file before default; within
 * the environment our own names before inherited ones. Every problem is found before any is told.
 */
import { isAbsolute, join } from "node:path";
import type { CommandLine } from "./arguments.ts";
import { findConflicts, findOwnProxies } from "./check.ts";
import { readInherited, type Inherited } from "./compat.ts";
import { readConfigFile } from "./file.ts";
import { problemOf, textOf, type Environment } from "./inherited.ts";
import { OPTIONS, OPTION_NAMES, optionOfFlag, optionOfVariable, variableOf, type OptionName } from "./options.ts";
import type { Option } from "./option.ts";
import { ConfigError, suggestion, type Problem } from "./problem.ts";
import type { ClientSettings, Settings } from "./settings.ts";

/** What the loader asks of the machine. */
export interface LoadDependencies {
  readonly env: Environment;
  /** The text of a file; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
  /** Whether log lines go to a person's terminal. */
  readonly isTerminal: boolean;
  /** IP addresses of this machine, to recognise a proxy that is ourselves. */
  localAddresses(): readonly string[];
}

export interface LoadedSettings {
  readonly settings: Settings;
  /** One line each: old names in force, inherited variables that were not understood. */
  readonly warnings: readonly string[];
}

const FAMILIES = { both: 0, ipv4: 4, ipv6: 6 } as const;

/** As nginx waits for its clients. */
const CLIENT_DEFAULTS: ClientSettings = {
  headerTimeoutMs: 60_000,
  bodyTimeoutMs: 60_000,
  sendTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
};

/**
 * What Kubernetes and docker links put into every container beside one called "layover" (`LAYOVER_PORT_5000_TCP_ADDR`):
 * not ours, and no slip of ours.
 */
const SERVICE_VARIABLE =
  /^LAYOVER_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|NAME|ENV_.*)$/;

/**
 * Reads the settings.
 * @throws ConfigError with all problems at once
 */
export async function loadSettings(line: CommandLine, dependencies: LoadDependencies): Promise<LoadedSettings> {
  const { env, readFile } = dependencies;
  const problems: Problem[] = [...line.problems];
  const flags = layerOf(line.flags, (name) => `flag --${OPTIONS[name].flag}`);
  const own = ownVariables(env, problems);
  const file = await fileLayer(flags.get("config") ?? own.get("config"), { readFile, problems });
  for (const layer of [flags, own, file]) problems.push(...problemsOf(layer));

  const isGiven = (name: OptionName) => flags.has(name) || own.has(name) || file.has(name);
  const canRead = (path: string) => readFile(path).then(Boolean, () => false);
  const inherited = await readInherited({ env, isGiven, canRead });
  const oldName = (name: OptionName) => `inherited variables (${OPTIONS[name].flag})`;
  const layers = [flags, own, layerOf(inherited.values, oldName), file, layerOf(inherited.defaults, oldName)];

  const read = createReader(layers);
  const settings = settingsOf({ read, inherited, dependencies });
  const surroundings = {
    localAddresses: dependencies.localAddresses(),
    fromOf: (name: OptionName) => find(layers, name)?.from,
  };
  problems.push(...findConflicts(settings, surroundings));
  if (problems.length > 0) throw new ConfigError(problems);

  const { proxies, warnings } = findOwnProxies(settings, surroundings);
  const upstream = { ...settings.upstream, proxies };
  return { settings: { ...settings, upstream }, warnings: [...inherited.warnings, ...warnings] };
}

/** A text and where it came from. */
interface Written {
  readonly text: string;
  readonly from: string;
}

type Layer = ReadonlyMap<OptionName, Written>;
type Reader = <T>(option: Option<T>) => T | undefined;

function layerOf(texts: ReadonlyMap<OptionName, string>, fromOf: (name: OptionName) => string): Layer {
  return new Map([...texts].map(([name, text]) => [name, { text, from: fromOf(name) }]));
}

/** Our own variables; an unknown one is a slip. One that is set to nothing counts as absent. */
function ownVariables(env: Environment, problems: Problem[]): Layer {
  const found = new Map<OptionName, Written>();
  for (const variable of Object.keys(env)
    .filter((name) => name.startsWith("LAYOVER_"))
    .sort()) {
    const text = textOf(env, variable);
    const name = optionOfVariable(variable);
    const from = `environment variable ${variable}`;
    if (name !== undefined && text !== undefined) found.set(name, { text, from });
    if (name !== undefined || SERVICE_VARIABLE.test(variable)) continue;
    problems.push({ from, what: `unknown variable${suggestion(variable, OPTION_NAMES.map(variableOf))}` });
  }
  return found;
}

interface FileDependencies {
  readFile(path: string): Promise<string>;
  readonly problems: Problem[];
}

async function fileLayer(config: Written | undefined, { readFile, problems }: FileDependencies): Promise<Layer> {
  if (config === undefined) return new Map();
  const text = await readFile(config.text).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    problems.push({ from: config.from, what: `cannot read the configuration file: ${reason}` });
  });
  if (text === undefined) return new Map();
  const file = readConfigFile(config.text, text);
  problems.push(...file.problems);
  return layerOf(file.values, (name) => `${config.text}: ${name}`);
}

function problemsOf(layer: Layer): Problem[] {
  return [...layer].flatMap(([name, { text, from }]) => {
    const what = problemOf(() => OPTIONS[name].kind.parse(text));
    return what === undefined ? [] : [{ from, what }];
  });
}

function find(layers: readonly Layer[], name: OptionName): Written | undefined {
  return layers.find((layer) => layer.has(name))?.get(name);
}

/** Reads an option from the first layer that has it, else its default. A bad text, told already, reads as absent. */
function createReader(layers: readonly Layer[]): Reader {
  return function read(option) {
    const name = optionOfFlag(option.flag);
    const text = (name === undefined ? undefined : find(layers, name)?.text) ?? option.default;
    if (text === undefined || problemOf(() => option.kind.parse(text)) !== undefined) return undefined;
    return option.kind.parse(text);
  };
}

interface Sources {
  readonly read: Reader;
  readonly inherited: Inherited;
  readonly dependencies: LoadDependencies;
}

function settingsOf({ read, inherited, dependencies }: Sources): Settings {
  return {
    listen: read(OPTIONS.listen) ?? [{ kind: "tcp", host: undefined, port: 5000 }],
    tls: tlsOf(read),
    httpRedirect: read(OPTIONS.httpRedirect),
    acmeWebroot: read(OPTIONS.acmeWebroot),
    metricsListen: read(OPTIONS.metricsListen),
    hosts: {
      domainSuffix: read(OPTIONS.domainSuffix),
      strict: read(OPTIONS.strictHosts) ?? false,
      publicUrl: read(OPTIONS.publicUrl),
      forceHttp: inherited.forceHttp,
      rootLeadsToApi: inherited.rootLeadsToApi,
    },
    trustedProxies: read(OPTIONS.trustedProxies) ?? [],
    access: {
      htpasswdFile: read(OPTIONS.htpasswd),
      allowFrom: read(OPTIONS.allowFrom) ?? [],
      hasCertificates: read(OPTIONS.tlsClientCa) !== undefined,
      rulesFile: read(OPTIONS.accessRules),
    },
    map: {
      location: read(OPTIONS.registryMap) ?? { kind: "built-in" },
      refreshMs: read(OPTIONS.registryMapRefresh) ?? 0,
      defaultRegistry: read(OPTIONS.defaultRegistry),
      dockerHub: inherited.dockerHub,
      authRegistries: inherited.authRegistries,
      dockerConfig: read(OPTIONS.dockerConfig),
      verifyTls: inherited.verifyTls,
    },
    cache: cacheOf(read, inherited),
    upstream: {
      proxies: { ...inherited.proxies, general: read(OPTIONS.upstreamProxy) },
      connectTimeoutMs: read(OPTIONS.connectTimeout) ?? 0,
      headerTimeoutMs: read(OPTIONS.headerTimeout) ?? 0,
      idleTimeoutMs: read(OPTIONS.idleTimeout) ?? 0,
      maxTransfers: read(OPTIONS.upstreamTransfers) ?? 0,
      maxConnections: read(OPTIONS.blobConnections) ?? 1,
      family: FAMILIES[read(OPTIONS.upstreamIp) ?? "both"],
      resolvers: read(OPTIONS.resolver) ?? [],
    },
    client: { ...CLIENT_DEFAULTS, ...inherited.client },
    sharePrivate: read(OPTIONS.sharePrivate) ?? false,
    allowPush: read(OPTIONS.allowPush) ?? false,
    clientLimits: { requests: read(OPTIONS.clientRequests), transfers: read(OPTIONS.clientTransfers) },
    stateDir: read(OPTIONS.stateDir) ?? defaultStateDir(dependencies.env),
    drainTimeoutMs: read(OPTIONS.drainTimeout) ?? 0,
    log: {
      level: read(OPTIONS.logLevel) ?? "info",
      format: read(OPTIONS.logFormat) ?? (dependencies.isTerminal ? "pretty" : "json"),
    },
  };
}

function cacheOf(read: Reader, { tagTiers, registryProxyHeaders }: Inherited): Settings["cache"] {
  const directory = read(OPTIONS.cacheDir);
  if (directory === undefined) return undefined;
  return {
    directory,
    maxBytes: read(OPTIONS.cacheMaxSize) ?? 0,
    minFreeBytes: read(OPTIONS.cacheMinFree) ?? 0,
    maxIdleMs: read(OPTIONS.cacheMaxIdle) ?? 0,
    tagTtlMs: read(OPTIONS.tagTtl) ?? 0,
    tagTiers,
    staleIfErrorMs: read(OPTIONS.staleIfError) ?? 0,
    grantTtlMs: read(OPTIONS.grantTtl) ?? 0,
    registryProxyHeaders,
  };
}

function tlsOf(read: Reader): Settings["tls"] {
  const certFile = read(OPTIONS.tlsCert);
  const keyFile = read(OPTIONS.tlsKey);
  if (certFile === undefined || keyFile === undefined) return undefined;
  const passphraseFile = read(OPTIONS.tlsKeyPassphraseFile);
  return { certFile, keyFile, passphraseFile, clientCaFile: read(OPTIONS.tlsClientCa) };
}

/** systemd's folder, the user's, or the system's. */
function defaultStateDir(env: Environment): string {
  const [systemd] = textOf(env, "STATE_DIRECTORY")?.split(":") ?? [];
  if (systemd !== undefined) return systemd;
  const xdg = textOf(env, "XDG_STATE_HOME");
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, "layover");
  const home = textOf(env, "HOME");
  return home === undefined ? "/var/lib/layover" : join(home, ".local/state/layover");
}
