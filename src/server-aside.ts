/**
 * The listeners beside the registry API: the admin socket for our own commands, and the address of its own for metrics. Plain
 * HTTP, a few paths, no access log.
 */
import { randomUUID } from "node:crypto";
import type { CacheSettings, ListenAddress } from "./config/settings.ts";
import type { ListenSpec } from "./front/listen.ts";
import { createListener } from "./front/listener.ts";
import { type HttpServerOptions, createHttpServer } from "./http/adapter.ts";
import { type About, createAdminHandler } from "./http/admin.ts";
import { type Observed, createMetricsHandler } from "./http/metrics.ts";
import type { Log } from "./log.ts";
import type { Exchange, Reply } from "./proxy/exchange.ts";
import { type OpenedCache, adminSocketIn } from "./server-cache.ts";

/** Its clients are our own commands; an answer may take as long as a disk is hashed. */
const ADMIN_LIMITS = {
  headersTimeoutMs: 10_000,
  keepAliveTimeoutMs: 10_000,
  idleTimeoutMs: 60 * 60_000,
  bodyTimeoutMs: 10_000,
  maxHeaderBytes: 16 * 1024,
};

/** Scrapers ask every few seconds over one connection, and take an answer of some kilobytes at once. */
const MONITOR_LIMITS = {
  headersTimeoutMs: 10_000,
  keepAliveTimeoutMs: 75_000,
  idleTimeoutMs: 10_000,
  bodyTimeoutMs: 10_000,
  maxHeaderBytes: 16 * 1024,
};

/** The admin socket. Where it cannot be had, pulls go on, and the commands open the directory themselves. */
export async function openAdmin(
  settings: CacheSettings | undefined,
  cache: OpenedCache | undefined,
  { log, about }: { log: Log; about: () => About },
): Promise<Aside | undefined> {
  if (settings === undefined || cache === undefined) return undefined;
  const spec = { kind: "unix" as const, path: adminSocketIn(settings.directory), mode: 0o600 };
  const answer = createAdminHandler({ upkeep: cache.upkeep, about, log });
  try {
    return await openAside(spec, { limits: ADMIN_LIMITS, answer, flag: "--cache-dir" }, log);
  } catch (error) {
    log.warn({ path: spec.path, err: error }, "no admin socket: cache commands open the directory beside this server");
    return undefined;
  }
}

/** The address of its own for metrics; it stays while the others drain. */
export async function openMonitor(
  spec: ListenAddress | undefined,
  observed: Observed,
  log: Log,
): Promise<Aside | undefined> {
  if (spec === undefined) return undefined;
  const answer = createMetricsHandler(observed);
  const monitor = await openAside(spec, { limits: MONITOR_LIMITS, answer, flag: "--metrics-listen" }, log);
  log.info({ address: monitor.address }, "metrics");
  return monitor;
}

export interface Aside {
  readonly address: string;
  close(): Promise<void>;
}

interface AsideOptions {
  readonly limits: HttpServerOptions;
  readonly answer: (exchange: Exchange) => Promise<Reply>;
  /** The setting that named the address. */
  readonly flag: string;
}

async function openAside(spec: ListenSpec, { limits, answer, flag }: AsideOptions, log: Log): Promise<Aside> {
  const http = createHttpServer(limits, { answer, newId, finished: () => undefined, refused: () => undefined });
  const options = { handshakeTimeoutMs: limits.headersTimeoutMs, maxHandshakes: 16, flag };
  const listener = await createListener(spec, options, { http, certificate: undefined, log });
  return {
    address: listener.address.text,
    async close() {
      await listener.close();
      await http.drain(0);
    },
  };
}

/** Of a request: 16 hex digits. Of a UUID, whose randomness is drawn for many at once: eight bytes of their own take ten times as long. */
export function newId(): string {
  const uuid = randomUUID();
  return uuid.slice(0, 8) + uuid.slice(-8);
}
