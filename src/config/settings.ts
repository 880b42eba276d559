/**
 * What the program runs with: plain data, parsed and checked by `config/load`, with every unit in its name.
 * `server.ts` hands each part to the module that needs it; nothing below level 4 imports this file.
 */
import type { Log, LogOptions } from "../log.ts";
import type { RegistryMap, TagRule } from "../registry/registry.ts";
import type { RequestRate } from "../registry/request-rate.ts";
import type { OutgoingProxies } from "../upstream/proxy.ts";
import type { HostLogin } from "./docker-config.ts";

/** `:5000`, `127.0.0.1:5000`, `[::1]:5000`. */
export interface TcpAddress {
  readonly kind: "tcp";
  /** An IP literal without brackets, or a host name; undefined for all addresses of both families (dual-stack). */
  readonly host: string | undefined;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** `unix:/run/layover.sock`. */
export interface UnixAddress {
  readonly kind: "unix";
  readonly path: string;
}

export type ListenAddress = TcpAddress | UnixAddress;

/** Our own certificate. Files are read by whoever terminates TLS, at start and again when they change. */
export interface TlsSettings {
  readonly certFile: string;
  readonly keyFile: string;
  readonly passphraseFile: string | undefined;
  /** Authorities whose certificates clients may show; undefined: clients are not asked for any. */
  readonly clientCaFile: string | undefined;
}

/** Who may use the proxy (product section 5, client access). */
export interface AccessSettings {
  readonly htpasswdFile: string | undefined;
  /** CIDRs, and `"unix"`, whose clients need no login. */
  readonly allowFrom: readonly string[];
  /** Clients may show certificates of `tls.clientCaFile`. */
  readonly hasCertificates: boolean;
  readonly rulesFile: string | undefined;
}

/** Whether anything says who may use the proxy; else everybody may. */
export function isGuarded({ htpasswdFile, allowFrom, hasCertificates, rulesFile }: AccessSettings): boolean {
  return htpasswdFile !== undefined || allowFrom.length > 0 || hasCertificates || rulesFile !== undefined;
}

/** Whether clients can be users of ours, by password or certificate. */
export function hasUsers({ htpasswdFile, hasCertificates }: AccessSettings): boolean {
  return htpasswdFile !== undefined || hasCertificates;
}

/** Which hosts we answer to and what our own URLs look like. */
export interface HostSettings {
  /** Lower case, no leading or trailing dot, no port: `"example.com"`. */
  readonly domainSuffix: string | undefined;
  /** Hosts outside the suffix get 404 with the routes instead of the default registry. */
  readonly strict: boolean;
  /** Origin, no slash at the end: `"https://registry.example:8443"`. */
  readonly publicUrl: string | undefined;
  /** URLs we hand out are http whatever the connection says (old `MODE=debug`). */
  readonly forceHttp: boolean;
  /** `GET /` of others than browsers leads to `/v2/` (compat C2: `CUSTOM_DOMAIN` or `MODE` is set). */
  readonly rootLeadsToApi: boolean;
}

export interface UpstreamSettings {
  /** A registry's own `proxy` wins over these. */
  readonly proxies: OutgoingProxies;
  readonly connectTimeoutMs: number;
  readonly headerTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Blobs at once from one registry; 0 is no bound. */
  readonly maxTransfers: number;
  /** For one blob at once, at most. */
  readonly maxConnections: number;
  /** 4 or 6: names of upstreams lead to addresses of that version only; 0 takes both. */
  readonly family: 0 | 4 | 6;
  /** `"10.0.0.53:53"`, `"[fd00::53]:53"`: asked for names of upstreams; none: the system is. */
  readonly resolvers: readonly string[];
}

/** How long we wait for clients. */
export interface ClientSettings {
  /** From the start of a connection or request to the end of its header block. */
  readonly headerTimeoutMs: number;
  /** Between two pieces of a request body. */
  readonly bodyTimeoutMs: number;
  /** Without any byte taken by the client while an answer is being sent. */
  readonly sendTimeoutMs: number;
  /** Between two requests of one connection. */
  readonly keepAliveTimeoutMs: number;
}

export type MapLocation =
  | { readonly kind: "built-in" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "url"; readonly url: string };

/** Where the registry map comes from and what is laid over it. */
export interface MapSettings {
  readonly location: MapLocation;
  /** How often a map from a URL is asked again. */
  readonly refreshMs: number;
  /** A key or a URL; wins over the map's `default`. */
  readonly defaultRegistry: string | undefined;
  /** Credential of the Docker Hub registry (old `DOCKER_HUB_USERNAME` and `DOCKER_HUB_PASSWORD`). */
  readonly dockerHub: { readonly username: string; readonly password: string } | undefined;
  /** Accounts by host (old `AUTH_REGISTRIES`). */
  readonly authRegistries: readonly HostLogin[];
  /** docker's `config.json`, whose accounts are for the registries of their hosts. */
  readonly dockerConfig: string | undefined;
  /** False accepts any certificate of any upstream (old `VERIFY_SSL=false`). */
  readonly verifyTls: boolean;
}

/** What is kept, where, and for how long. */
export interface CacheSettings {
  readonly directory: string;
  readonly maxBytes: number;
  readonly minFreeBytes: number;
  readonly maxIdleMs: number;
  /** 0 asks upstream each time. */
  readonly tagTtlMs: number;
  /** Rules for every registry, behind its own (old `MANIFEST_CACHE_*`). */
  readonly tagTiers: readonly TagRule[];
  readonly staleIfErrorMs: number;
  /** How long an accepted credential's grant holds. */
  readonly grantTtlMs: number;
  /** Answers say what the cache did as docker-registry-proxy did, too (compat C16). */
  readonly registryProxyHeaders: boolean;
}

export interface Settings {
  readonly listen: readonly [ListenAddress, ...ListenAddress[]];
  readonly tls: TlsSettings | undefined;
  /** Address that redirects to https. */
  readonly httpRedirect: TcpAddress | undefined;
  /** Folder with `.well-known/acme-challenge/` below it, served by the redirect address. */
  readonly acmeWebroot: string | undefined;
  /** Address of its own for metrics; undefined: the other addresses answer them to programs of this machine. */
  readonly metricsListen: ListenAddress | undefined;
  readonly hosts: HostSettings;
  /** CIDRs, and `"unix"`, whose forwarding headers are believed. */
  readonly trustedProxies: readonly string[];
  readonly access: AccessSettings;
  readonly map: MapSettings;
  /** Undefined: no cache. */
  readonly cache: CacheSettings | undefined;
  readonly upstream: UpstreamSettings;
  readonly client: ClientSettings;
  /** Configured credentials fetch private repositories for everybody (product section 5). */
  readonly sharePrivate: boolean;
  /** Writes are passed through to every registry. */
  readonly allowPush: boolean;
  /** How much one client may ask for; undefined: as much as it likes. */
  readonly clientLimits: { readonly requests: RequestRate | undefined; readonly transfers: number | undefined };
  /** Folder for the token key and the `Via` pseudonym; made with mode 0700 by whoever writes there first. */
  readonly stateDir: string;
  /** How long the first SIGTERM waits for running transfers. */
  readonly drainTimeoutMs: number;
  readonly log: LogOptions;
}

/** The map in force, kept up to date by `config/map-source`. */
export interface MapSource {
  /** The map in force. It may change between two calls: take it once per request. */
  current(): RegistryMap;
  /** Reads the map again. A bad map is logged and the old one stays: never rejects. */
  reload(): Promise<void>;
  /** Stops watching and refreshing. */
  close(): void;
}

/** What `layover version` prints; baked in by the build. */
export interface BuildInfo {
  readonly version: string;
  readonly commit: string;
  /** ISO 8601, or `"unknown"`. */
  readonly builtAt: string;
  readonly bun: string;
}

export interface ServerDependencies {
  readonly log: Log;
  /** Loaded already; closed by the caller after the server. */
  readonly maps: MapSource;
  readonly build: BuildInfo;
}

export interface RunningServer {
  /** Where it listens, with real ports, as a person writes it: `"http://[::]:5000"`, `"unix:/run/layover.sock"`. */
  readonly addresses: readonly string[];
  /** Reads certificate, users and access rules again (the map is the caller's). A bad one is logged, the old one stays. */
  reload(): Promise<void>;
  /** Stops accepting, waits up to `graceMs` for running transfers, then cuts them off. Resolves when all is closed. */
  close(graceMs: number): Promise<void>;
}

/**
 * `startServer` of `server.ts`.
 * @throws StartError with one line for the operator when a listener, key or folder cannot be had
 */
export type StartServer = (settings: Settings, dependencies: ServerDependencies) => Promise<RunningServer>;

/** The program cannot start for a reason outside its configuration: port in use, unreadable key. Exit code 1. */
export class StartError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StartError";
  }
}
