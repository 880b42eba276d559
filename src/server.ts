/**
 * The composition root: builds every part in order, hands each its options, and closes them in reverse.
 * The only place that knows all levels.
 */
import { type RunningServer, type ServerDependencies, type Settings, StartError } from "./config/settings.ts";
import type { Downloads } from "./download/download.ts";
import { createDownloads } from "./download/downloads.ts";
import { type WatchedCertificate, watchCertificate } from "./front/certificate.ts";
import { createListener } from "./front/listener.ts";
import { createRedirectListener } from "./front/redirect.ts";
import { createAccessLog } from "./http/access-log.ts";
import { type HttpServer, createHttpServer } from "./http/adapter.ts";
import { createApp } from "./http/app.ts";
import { type Observed, isFromThisMachine } from "./http/metrics.ts";
import { createRegistryHandler } from "./http/registry.ts";
import { createTokenHandler } from "./http/token.ts";
import { createAccess } from "./proxy/access.ts";
import { createClientLimits } from "./proxy/client-limits.ts";
import { createClients } from "./proxy/client.ts";
import { openToAll } from "./proxy/grants.ts";
import { createLoginService } from "./proxy/login.ts";
import { type OriginReader, createOriginReader } from "./proxy/origin.ts";
import { type Sealer, createSealer } from "./proxy/seal.ts";
import { createUploadLocations } from "./proxy/upload-location.ts";
import { type State, openState } from "./proxy/state.ts";
import { createPull } from "./proxy/pull.ts";
import { createPush } from "./proxy/push.ts";
import type { Registry } from "./registry/registry.ts";
import type { RoutingOptions } from "./registry/route.ts";
import { type Aside, newId, openAdmin, openMonitor } from "./server-aside.ts";
import { type OpenedAccess, openAccess } from "./server-access.ts";
import { type OpenedCache, openCache } from "./server-cache.ts";
import { type Metrics, createMetrics } from "./server-metrics.ts";
import {
  type UpstreamClient,
  type UpstreamNotice,
  type UpstreamOptions,
  createUpstreamClient,
} from "./upstream/client.ts";
import { type CredentialNotice, type Credentials, createCredentials } from "./upstream/credentials.ts";

/** From a request to its header block (product section 4; containerd gives up after 30 s, protocol R174). */
export const HEADER_BUDGET_MS = 25_000;
/** Longest request head; clients send tokens of some KiB (protocol R104). */
const MAX_HEADER_BYTES = 64 * 1024;
/** Connections that have not said yet whether they speak TLS. A busy farm opens some hundred at once. */
const MAX_HANDSHAKES = 4096;

/** Starts everything; resolves when each address is bound. @throws StartError with one line for the operator */
export async function startServer(settings: Settings, dependencies: ServerDependencies): Promise<RunningServer> {
  const { log } = dependencies;
  const state = await openState(settings.stateDir, log);
  const sealer = createSealer(state.tokenKey);
  const originOf = originReader(settings);
  const access = await openAccess(settings.access, { log, maps: dependencies.maps, sealer, originOf });
  const metrics = createMetrics(dependencies.build);
  const notice = ({ message, ...facts }: CredentialNotice | UpstreamNotice) => log.warn(facts, message);
  const credentials = createCredentials({ notice });
  const upstream = createUpstreamClient(upstreamOptions(settings, dependencies.build.version), {
    notice,
    refused: credentials.refused,
    meter: metrics.upstream,
  });
  const downloads = createDownloads(settings.upstream);
  const cache =
    settings.cache === undefined
      ? undefined
      : await openCache(settings.cache, {
          log,
          map: () => dependencies.maps.current(),
          downloads,
          mayAsk: upstream.mayAsk,
          isShort: upstream.quota.isShort,
          meter: metrics.cache,
        });
  const serving = { ready: false };
  const observed: Observed = {
    isReady: () => serving.ready,
    metrics: metrics.text,
    registries: () => metrics.states(dependencies.maps.current(), upstream.health, upstream.quota.readings()),
  };
  const parts: Parts = { state, sealer, originOf, access, upstream, credentials, downloads, cache, metrics, observed };
  const http = createApplication(settings, dependencies, parts);
  metrics.watch({
    http,
    cache: cache?.readings,
    transfers: upstream.transfers,
    downloads,
    health: upstream.health,
    quota: upstream.quota,
    map: dependencies.maps.current,
  });
  const opened: Opened = { listeners: [], certificate: undefined, monitor: undefined };
  // First, so that whoever reads "listening" may use it.
  const admin = await openAdmin(settings.cache, cache, {
    log,
    about: () => ({ version: dependencies.build.version, addresses: opened.listeners.map(({ url }) => url) }),
  });
  try {
    opened.monitor = await openMonitor(settings.metricsListen, observed, log);
    await openListeners(settings, { http, log: dependencies.log, opened });
  } catch (error) {
    await admin?.close();
    await closeListeners(opened);
    await opened.monitor?.close();
    await cache?.close();
    credentials.close();
    await upstream.close();
    access.close();
    throw new StartError(error instanceof Error ? error.message : String(error), { cause: error });
  }
  serving.ready = true;

  return {
    addresses: opened.listeners.map((listener) => listener.url),
    async reload() {
      await Promise.all([opened.certificate?.reload(), access.reload()]);
    },
    async close(graceMs) {
      serving.ready = false;
      access.close();
      await admin?.close();
      await closeListeners(opened);
      await http.drain(graceMs);
      await cache?.close();
      credentials.close();
      await upstream.close();
      metrics.close();
      await opened.monitor?.close(); // last: until here it says "not ready"
    },
  };
}

interface Parts {
  readonly state: State;
  readonly sealer: Sealer;
  readonly originOf: OriginReader;
  readonly access: OpenedAccess;
  readonly upstream: UpstreamClient;
  readonly credentials: Credentials;
  readonly downloads: Downloads;
  readonly cache: OpenedCache | undefined;
  readonly metrics: Metrics;
  readonly observed: Observed;
}

function createApplication(settings: Settings, { log, maps, build }: ServerDependencies, parts: Parts): HttpServer {
  const { state, sealer, originOf, upstream, credentials, downloads, cache, metrics, observed } = parts;
  const { guard, limit } = parts.access;
  const map = () => maps.current();
  const routing = (): RoutingOptions => ({
    domainSuffix: settings.hosts.domainSuffix,
    strictHosts: settings.hosts.strict,
  });
  const clients = createClients({ sealer, map, now: Date.now, users: guard?.users });
  const takesWrites = ({ push: takes }: Registry) => settings.allowPush || takes;
  const standIns = {
    registryOf: (key: string) => maps.current().byKey.get(key),
    isOpenToAll: openToAll(cache?.cache),
    takesWrites,
    answered: metrics.stoodIn,
  };
  const access = createAccess(
    { sharePrivate: settings.sharePrivate, pseudonym: state.pseudonym },
    { upstream, credentialOf: credentials.current, fingerprint: sealer.fingerprint, standIns },
  );
  const pull = createPull({
    access,
    downloads,
    cache: cache?.cache,
    takesWrites,
  });
  const push = createPush(
    { allowPush: settings.allowPush, pseudonym: state.pseudonym },
    { access, upstream, map, locations: createUploadLocations(sealer), changed: pull.changed },
  );
  const limits = createClientLimits(settings.clientLimits, () => performance.now());
  const budget = { headerBudgetMs: HEADER_BUDGET_MS };
  const registry = createRegistryHandler(
    { ...budget, pseudonym: state.pseudonym },
    { map, routing, originOf, clients, access, pull, push, limits, loginLimit: limit, guard },
  );
  const login = createLoginService(
    { pseudonym: state.pseudonym },
    { clients, upstream, map, limit, users: guard?.users },
  );
  const token = createTokenHandler(
    { ...budget, pseudonym: state.pseudonym },
    { map, routing, originOf, login, gate: guard?.gate, knownRealm: upstream.knownRealm },
  );
  const answer = createApp(
    { version: build.version, rootLeadsToApi: settings.hosts.rootLeadsToApi },
    {
      map,
      registry,
      token,
      observed,
      maySee: (exchange) => settings.metricsListen === undefined && isFromThisMachine(exchange),
      refusalOfPage: guard === undefined ? undefined : (exchange) => guard.gate.refusalOfPage(exchange, clients),
      log,
    },
  );
  const accessLog = createAccessLog(log, originOf);
  return createHttpServer(
    {
      headersTimeoutMs: settings.client.headerTimeoutMs,
      keepAliveTimeoutMs: settings.client.keepAliveTimeoutMs,
      idleTimeoutMs: settings.client.sendTimeoutMs,
      bodyTimeoutMs: settings.client.bodyTimeoutMs,
      maxHeaderBytes: MAX_HEADER_BYTES,
    },
    {
      async answer(exchange) {
        const reply = await answer(exchange);
        metrics.answered(exchange);
        return reply;
      },
      newId,
      finished(exchange, outcome) {
        limits.leave(exchange);
        accessLog.finished(exchange, outcome);
        metrics.finished(exchange, outcome);
      },
      refused(refusal) {
        accessLog.refused(refusal);
        metrics.malformed();
      },
    },
  );
}

function originReader({ hosts, trustedProxies }: Settings): OriginReader {
  const { publicUrl, domainSuffix, forceHttp } = hosts;
  return createOriginReader({ publicUrl, domainSuffix, trustedProxies, forceHttp });
}

interface Opened {
  /** In the order of opening, each with the URL a person would type. */
  readonly listeners: { readonly url: string; close(): Promise<void> }[];
  certificate: WatchedCertificate | undefined;
  monitor: Aside | undefined;
}

async function openListeners(
  settings: Settings,
  { http, log, opened }: { http: HttpServer; log: ServerDependencies["log"]; opened: Opened },
): Promise<void> {
  if (settings.tls !== undefined) opened.certificate = await watchCertificate(settings.tls, { log });
  const { certificate } = opened;
  const options = { handshakeTimeoutMs: settings.client.headerTimeoutMs, maxHandshakes: MAX_HANDSHAKES };
  for (const spec of settings.listen) {
    const listener = await createListener(spec, options, { http, certificate, log });
    const scheme = listener.secure ? "https://" : "http://";
    const url = spec.kind === "unix" ? listener.address.text : `${scheme}${listener.address.text}`;
    opened.listeners.push({ url, close: () => listener.close() });
    log.info({ address: url }, "listening");
  }
  if (settings.httpRedirect === undefined) return;
  const redirect = await createRedirectListener(
    settings.httpRedirect,
    {
      acmeWebroot: settings.acmeWebroot,
      domainSuffix: settings.hosts.domainSuffix,
      publicUrl: settings.hosts.publicUrl,
      httpsPort: httpsPort(settings),
    },
    { certificate, log },
  );
  opened.listeners.push({ url: `http://${redirect.address.text}`, close: () => redirect.close() });
  log.info({ address: `http://${redirect.address.text}` }, "redirecting to https");
}

/** The port clients reach https on, as far as we know it. */
function httpsPort(settings: Settings): number {
  const tcp = settings.listen.find((spec) => spec.kind === "tcp");
  return tcp?.kind === "tcp" ? tcp.port : 443;
}

async function closeListeners({ listeners, certificate }: Opened): Promise<void> {
  await Promise.all(listeners.map((listener) => listener.close()));
  certificate?.close();
}

function upstreamOptions({ upstream }: Settings, version: string): UpstreamOptions {
  return { ...upstream, version };
}
