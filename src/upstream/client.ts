/**
 * The one way out to registries. A request goes through: upstreams in order, but for those known dead → access (challenge,
 * token) → redirects → address rules → one HTTP exchange; the caller sees only the last answer.
 *
 * Promises: credentials leave only for their own upstream's origin and its token server; nothing is dialled that the
 * address rules forbid; every wait has a deadline. It does not verify content, cache answers or filter headers for clients.
 */
import type { Registry, Upstream } from "../registry/registry.ts";
import { sleepFor } from "../sleep.ts";
import { attempt, look } from "./attempt.ts";
import { createAuthorizer } from "./authorize.ts";
import { discardBody } from "./body.ts";
import { createDial, type Dial, type Lookup } from "./dial.ts";
import { askAsEach } from "./each-account.ts";
import { type Answered, askInTurn } from "./failover.ts";
import { type HttpRequest, createHttp } from "./http.ts";
import { NO_METER, type UpstreamMeter, metered } from "./meter.ts";
import { createHealth, type Turn, type UpstreamHealth } from "./health.ts";
import { tell, tryOnce, type Wanted } from "./outcome.ts";
import { createOutlets } from "./outlet.ts";
import type { OutgoingProxies } from "./proxy.ts";
import type { Credential, Identity, UpstreamRequest, UpstreamResponse } from "./request.ts";
import { createQuota, type Quota, type QuotaNotice } from "./quota.ts";
import { createTokens } from "./token.ts";
import { createTransfers, type TransferReading } from "./transfers.ts";
import { type Verdict, type VerifyOptions, verify } from "./verify.ts";
import { type UpstreamWrite, type WriteResponse, write } from "./write.ts";

export type { Lookup } from "./dial.ts";
export type { OutgoingProxies } from "./proxy.ts";
export type { Credential, Identity, UpstreamRequest, UpstreamResponse } from "./request.ts";
export type { ContentFault, UpstreamMeter, UpstreamOutcome } from "./meter.ts";
export type { UpstreamHealth } from "./health.ts";
export type { QuotaReading } from "./quota.ts";
export type { OutgoingBody } from "./outgoing-body.ts";
export type { Location, UpstreamWrite, WriteResponse } from "./write.ts";
export type { TransferReading } from "./transfers.ts";
export type { Verdict, VerifyOptions } from "./verify.ts";

export interface UpstreamOptions {
  /** Of this program, for `User-Agent: layover/<version>`. */
  readonly version: string;
  /** Per TCP connection. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** From the start of one exchange to its response headers. Default 15 s. */
  readonly headerTimeoutMs?: number;
  /** Longest silence of a body that is being read. Default 60 s. */
  readonly idleTimeoutMs?: number;
  /** 4 or 6: names lead to addresses of that version only. Default 0, both. */
  readonly family?: 0 | 4 | 6;
  /** `"10.0.0.53:53"`: asked for names instead of the system. */
  readonly resolvers?: readonly string[] | undefined;
  readonly proxies?: OutgoingProxies;
  /** Blobs at once from one registry; 0: no bound. Default 300. */
  readonly maxTransfers?: number | undefined;
}

/** Replaceable parts; every one has a default. */
export interface UpstreamDependencies {
  readonly lookup?: Lookup;
  /** Chooses addresses in place of the system's names and connections. */
  readonly dial?: Dial;
  /** 0 ≤ x < 1, for the jitter of retries. */
  readonly random?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Wall clock for token expiry, milliseconds. */
  readonly now?: () => number;
  /** Monotonic clock for the health of upstreams, milliseconds. */
  readonly monotonic?: () => number;
  /** Told about what an operator may want to know: a foreign realm, a failure that led to a retry or the next upstream. No secrets. */
  readonly notice?: (event: UpstreamNotice) => void;
  /** Told when a credential's own upstream answered 401 or 403 though it was shown. */
  readonly refused?: (credential: Credential) => void;
  /** Told about each request, for counting. */
  readonly meter?: UpstreamMeter;
}

/** `registry` is its key, `host` the upstream's or realm's; `repository` is there when one request failed. */
export type UpstreamNotice = QuotaNotice & { readonly repository?: string };

export interface UpstreamClient {
  /**
   * Asks the registry's upstreams in order and answers the final response: after the token flow, redirects, retries and
   * next upstreams. A credential goes only to its own origin; other upstreams are asked anonymously.
   * @throws UpstreamError when no upstream gave a usable answer; at once and with `retryAfter` while all are known dead;
   * `overload` when a blob found no place in time
   * @throws the reason of `signal` when it aborted
   */
  send(request: UpstreamRequest): Promise<UpstreamResponse>;
  /**
   * Sends a request that changes something, once, to one upstream.
   * @throws UpstreamError when it gave no usable answer: whether it was done is not known then
   */
  write(request: UpstreamWrite): Promise<WriteResponse>;
  /**
   * Does the credential's own upstream accept it? By its token server or, for a Basic registry, by `/v2/`. Never cached.
   * @throws UpstreamError when there was no verdict
   */
  verify(registry: Registry, credential: Credential, options: VerifyOptions): Promise<Verdict>;
  /** The registry whose upstream named this realm in a challenge lately. A look-up only: nothing is fetched (compat C34). */
  knownRealm(realmUrl: string): Registry | undefined;
  /** How each upstream of the registry is, in the map's order. */
  health(registry: Registry): readonly UpstreamHealth[];
  /** Whether some request to this registry would be sent now: false while all its upstreams are known dead. */
  mayAsk(registry: Registry): boolean;
  /** What accounts have left, and whom to ask as. */
  readonly quota: Pick<Quota, "inTurn" | "isShort" | "readings">;
  /** The blobs that are under way or wait, by registry. */
  transfers(): readonly TransferReading[];
  /** Ends idle connections and the SOCKS bridges. */
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const HEADER_TIMEOUT_MS = 15_000;
const IDLE_TIMEOUT_MS = 60_000;

/** Creates the client. One per process: token cache, connection pool and known challenges live in it. */
export function createUpstreamClient(
  options: UpstreamOptions,
  dependencies: UpstreamDependencies = {},
): UpstreamClient {
  const { random = Math.random, sleep = sleepFor, now = Date.now, notice = () => undefined } = dependencies;
  const { monotonic = () => performance.now() } = dependencies;
  const { meter = NO_METER, refused = () => undefined } = dependencies;
  const {
    connectTimeoutMs = CONNECT_TIMEOUT_MS,
    headerTimeoutMs = HEADER_TIMEOUT_MS,
    idleTimeoutMs = IDLE_TIMEOUT_MS,
  } = options;
  const { family = 0, resolvers } = options;
  const dial = dependencies.dial ?? createDial({ connectTimeoutMs, family, resolvers }, dependencies);
  const outlets = createOutlets({ proxies: options.proxies ?? {}, connectTimeoutMs });
  const http = createHttp({ version: options.version, headerTimeoutMs, idleTimeoutMs }, { dial, outlets, meter });
  const askTokenServer = (request: HttpRequest) =>
    metered(http.exchange(request), (outcome) => meter.tokenAnswered(request.registry.key, outcome));
  const quota = createQuota(options.proxies ?? {}, { now, notice });
  const tokens = createTokens({ quota, exchange: askTokenServer, now, timeoutMs: headerTimeoutMs });
  const onForeignRealm = (registry: Registry, { host }: URL) =>
    notice({
      registry: registry.key,
      host,
      message: "credentials were not sent to a token server outside the registry's domain: trustedRealms may allow it",
    });
  const authorizer = createAuthorizer({ exchange: http.exchange, tokens, onForeignRealm });
  const transfers = createTransfers(options);
  const healthOf = createHealth({
    now: monotonic,
    random,
    changed: ({ registry, upstream, message }) => notice({ registry, host: new URL(upstream.origin).host, message }),
  });

  /** Counted under the registry, until its answer or failure is there. */
  function counted<T extends { readonly status: number }>({ key }: Registry, asking: Promise<T>): Promise<T> {
    const startedAtMs = performance.now();
    return metered(asking, (outcome) => meter.answered(key, outcome, performance.now() - startedAtMs));
  }

  /** Some registries say 403 when what they gave out has expired. */
  function watchRefusal(status: number, identity: Identity, { origin }: Upstream): void {
    if ((status === 401 || status === 403) && identity.kind === "credential" && identity.credential.origin === origin)
      refused(identity.credential);
  }

  async function askUpstreams(request: UpstreamRequest): Promise<Answered & { readonly elapsedMs: number }> {
    const startedAtMs = performance.now();
    const { registry, identity, signal, deadlineMs } = request;
    const told = new Set<string>();
    const answered = await askInTurn({
      upstreams: upstreamsFor(request),
      health: healthOf(registry, request.repository),
      ask(candidate, seen) {
        const asked = { ...request, seen };
        return quota.ofUpstream(candidate, asked, () => counted(registry, attempt(candidate, asked, authorizer)));
      },
      look: (candidate, turn) => void findOut(candidate, request, turn),
      wanted: wantedBy(request),
      credentialOrigin: identity.kind === "credential" ? identity.credential.origin : undefined,
      onFailure(candidate, message) {
        // Each trouble once, however often it is tried again; what opened is told of by its health.
        if (told.has(message) || !healthOf(registry).isClosed(candidate)) return;
        told.add(message);
        notice({
          registry: registry.key,
          host: new URL(candidate.origin).host,
          repository: request.repository,
          message,
        });
      },
      onRefusal: () => meter.notAsked(registry.key),
      signal,
      deadlineMs,
      random,
      sleep,
    });
    watchRefusal(answered.response.status, identity, answered.upstream);
    return { ...answered, elapsedMs: performance.now() - startedAtMs };
  }

  /** What another upstream answers the client meanwhile has no part in it, nor has the client's patience. */
  async function findOut(upstream: Upstream, request: UpstreamRequest, turn: Turn): Promise<void> {
    const { registry } = request;
    const limits = { signal: new AbortController().signal, deadlineMs: performance.now() + 2 * headerTimeoutMs };
    try {
      const trial = await tryOnce((seen) => {
        const asked = { ...request, ...limits, seen };
        return quota.ofUpstream(upstream, asked, () => counted(registry, look(upstream, asked, authorizer)));
      });
      if (trial.outcome.kind === "answer") await discardBody(trial.outcome.response.body);
      tell(turn, trial, wantedBy(request));
    } finally {
      turn.left();
    }
  }

  return {
    async send(request) {
      const { registry, repository } = request;
      const ask = () => askAsEach(request, askUpstreams);
      // Who would be refused at once need not wait for that.
      const mayAsk = upstreamsFor(request).some(healthOf(registry, repository).mayAsk);
      const answered = await (mayAsk ? transfers.carry(request, ask) : ask());
      const { status, headers, body } = answered.response;
      const { upstream, identity, elapsedMs } = answered;
      return {
        status,
        headers,
        body,
        upstream,
        identity,
        elapsedMs,
        refuse: (fault) => meter.refused(registry.key, fault),
      };
    },
    async write(request) {
      const response = await counted(request.registry, write(request, authorizer));
      watchRefusal(response.status, request.identity, response.upstream);
      return response;
    },
    verify: (registry, credential, verifyOptions) =>
      verify({ registry, credential, options: verifyOptions }, { http, tokens }),
    knownRealm: authorizer.knownRealm,
    health: (registry) => registry.upstreams.map((upstream) => healthOf(registry).stateOf(upstream)),
    mayAsk: (registry) => registry.upstreams.some((upstream) => healthOf(registry).mayAsk(upstream)),
    quota,
    transfers: transfers.readings,
    close: outlets.close,
  };
}

function wantedBy({ path, transfer }: UpstreamRequest): Wanted {
  if (!path.startsWith("blobs/")) return "small";
  return transfer === "if-free" ? "extra" : "blob";
}

function upstreamsFor({ registry, onlyOrigin, askLast }: UpstreamRequest): readonly Upstream[] {
  const allowed = registry.upstreams.filter(({ origin }) => onlyOrigin === undefined || origin === onlyOrigin);
  return allowed.toSorted((a, b) => Number(a.origin === askLast) - Number(b.origin === askLast));
}
