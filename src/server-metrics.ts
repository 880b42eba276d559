/**
 * What is counted, in one table: names, labels, and who tells of it. The modules below know only small meters of their own;
 * here their words become metrics. docs/operations.md explains each; a test compares.
 */
import type { StoreMeter } from "./cache/metered-store.ts";
import { FILL_ENDS, type FillEnd } from "./cache/metered-fills.ts";
import type { BuildInfo } from "./config/settings.ts";
import { createCounter, createHistogram, createInfo, exposition, type Metric } from "./metrics.ts";
import type { Exchange } from "./proxy/exchange.ts";
import type { RegistryMap } from "./registry/registry.ts";
import { createLoopMonitor, processMetrics } from "./server-process.ts";
import { type HealthOf, type Readings, readingsOf } from "./server-readings.ts";
import type { UpstreamHealth } from "./upstream/health.ts";
import type { UpstreamMeter, UpstreamOutcome } from "./upstream/meter.ts";
import type { QuotaReading } from "./upstream/quota.ts";

/** What a request's end tells; the HTTP server's Outcome has it. */
export interface Ended {
  readonly status: number;
  readonly bytesSent: number;
  readonly broken?: string | undefined;
}

export interface CacheMeter extends StoreMeter {
  /** Content was damaged on disk, and is moved aside. */
  damaged(): void;
  filled(end: FillEnd): void;
}

/** How a registry's upstreams did last; `last` is a word for it. */
export interface RegistryState {
  readonly last: UpstreamOutcome | "not asked yet";
  readonly secondsAgo?: number;
  readonly upstreams: readonly UpstreamHealth[];
  /** Whom it counts, where it was asked: configured accounts and nobody. */
  readonly accounts: readonly Omit<QuotaReading, "registry">[];
}

export interface Metrics {
  /** The reply is known: its header block goes out now. */
  answered(exchange: Exchange): void;
  /** The answer ended or broke. */
  finished(exchange: Exchange, ended: Ended): void;
  /** A request that was none. */
  malformed(): void;
  readonly upstream: UpstreamMeter;
  /** A stand-in, `by`, gave what `registry` could not; both are keys of the map. */
  stoodIn(registry: string, by: string): void;
  readonly cache: CacheMeter;
  /** How the registries of the map did last and how their upstreams are, by key. */
  states(
    map: RegistryMap,
    healthOf: HealthOf,
    accounts: readonly QuotaReading[],
  ): Readonly<Record<string, RegistryState>>;
  /** Adds what is read from parts that are made later than this. */
  watch(readings: Readings): void;
  /** All metrics, for documents and tests. */
  all(): readonly Metric[];
  /** What Prometheus reads. */
  text(): string;
  close(): void;
}

/** From a hit in the store to the last moment of the header budget, seconds. */
const HEADER_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25];
const NONE = "none";

export function createMetrics(build: BuildInfo): Metrics {
  const counters = createCounters();
  const loop = createLoopMonitor();
  // One for each registry that ever was in the map.
  const lastAnswers = new Map<string, { readonly outcome: UpstreamOutcome; readonly atMs: number }>();
  let all: Metric[] = [...Object.values(counters), ...loop.metrics, ...processMetrics(), buildInfo(build)];

  return {
    answered({ notes, receivedAtMs }) {
      const seconds = (performance.now() - receivedAtMs) / 1000;
      counters.headerSeconds.observe(seconds, notes.endpoint ?? NONE, notes.cache ?? NONE);
    },
    finished({ notes }, { status, bytesSent, broken }) {
      const { registry = NONE, endpoint = NONE, cache = NONE, error } = notes;
      counters.requests.add(1, registry, endpoint, classOf(status), cache);
      if (bytesSent > 0) counters.responseBytes.add(bytesSent, registry, endpoint, cache);
      if (error !== undefined) counters.errors.add(1, registry, error);
      if (broken !== undefined) counters.broken.add(1, broken);
    },
    malformed: () => counters.malformed.add(1),
    upstream: {
      answered(registry, outcome, elapsedMs) {
        counters.upstreamRequests.add(1, registry, outcome);
        counters.upstreamSeconds.observe(elapsedMs / 1000, registry);
        if (outcome !== "aborted") lastAnswers.set(registry, { outcome, atMs: performance.now() });
      },
      notAsked: (registry) => counters.notAsked.add(1, registry),
      tokenAnswered: (registry, outcome) => counters.upstreamTokens.add(1, registry, outcome),
      received: (registry, bytes) => counters.upstreamBytes.add(bytes, registry),
      refused: (registry, fault) => counters.refusedContent.add(1, registry, fault),
    },
    stoodIn: (registry, by) => counters.standIns.add(1, registry, by),
    cache: {
      failed: (failure) => counters.cacheFailures.add(1, failure),
      damaged: () => counters.damaged.add(1),
      filled: (end) => counters.fills.add(1, end),
    },
    states: ({ registries }, healthOf, accounts) =>
      Object.fromEntries(
        registries.map((registry) => [
          registry.key,
          {
            ...stateOf(lastAnswers.get(registry.key)),
            upstreams: healthOf(registry),
            accounts: accounts.flatMap(({ registry: key, ...account }) => (key === registry.key ? [account] : [])),
          },
        ]),
      ),
    watch(readings) {
      all = [...all, ...readingsOf(readings)];
    },
    all: () => all,
    text() {
      loop.asked();
      return exposition(all);
    },
    close: loop.stop,
  };
}

function stateOf(last: { readonly outcome: UpstreamOutcome; readonly atMs: number } | undefined) {
  if (last === undefined) return { last: "not asked yet" as const };
  return { last: last.outcome, secondsAgo: Math.round((performance.now() - last.atMs) / 1000) };
}

function createCounters() {
  const counter = (name: string, labels: string[], help: string, known: string[][] = []) =>
    createCounter({ name: `layover_${name}`, labels, help }, known);
  const histogram = (name: string, labels: string[], help: string) =>
    createHistogram({ name: `layover_${name}`, labels, help }, HEADER_BOUNDS);
  return {
    requests: counter(
      "requests_total",
      ["registry", "endpoint", "status", "cache"],
      "Requests whose answer ended or broke",
    ),
    headerSeconds: histogram(
      "request_header_seconds",
      ["endpoint", "cache"],
      "Time from a request to the header block of its answer",
    ),
    responseBytes: counter(
      "response_bytes_total",
      ["registry", "endpoint", "cache"],
      "Body bytes sent to clients, counted when the answer ended",
    ),
    errors: counter("request_errors_total", ["registry", "code"], "Errors that clients were told"),
    broken: counter("broken_answers_total", ["reason"], "Answers that were not completed", BREAKAGES),
    malformed: counter("malformed_requests_total", [], "Requests that were refused before they were read"),
    upstreamRequests: counter(
      "upstream_requests_total",
      ["registry", "outcome"],
      "Requests to upstreams, with token and redirects one",
    ),
    upstreamSeconds: histogram(
      "upstream_header_seconds",
      ["registry"],
      "Time from a request to an upstream to its final headers, or to its failure",
    ),
    notAsked: counter(
      "upstream_requests_not_sent_total",
      ["registry"],
      "Requests that were refused at once because all upstreams of the registry are known dead",
    ),
    upstreamTokens: counter("upstream_token_requests_total", ["registry", "outcome"], "Requests to token servers"),
    upstreamBytes: counter("upstream_bytes_total", ["registry"], "Body bytes received from upstreams"),
    refusedContent: counter(
      "refused_content_total",
      ["registry", "reason"],
      "Content from upstreams that was wrong, and was neither kept nor passed on whole",
    ),
    standIns: counter("stand_in_answers_total", ["registry", "by"], "Content that another registry of the map gave"),
    fills: counter(
      "fills_total",
      ["result"],
      "Downloads into the cache that ended",
      FILL_ENDS.map((end) => [end]),
    ),
    cacheFailures: counter("cache_failures_total", ["kind"], "Operations that the cache could not do", FAILURES),
    damaged: counter("damaged_content_total", [], "Content that was damaged on disk and was moved aside"),
  };
}

const BREAKAGES = [["client-left"], ["client-stalled"], ["body-failed"], ["wrong-length"]];
const FAILURES = [["full"], ["read-only"], ["broken"]];
function classOf(status: number): string {
  return `${Math.floor(status / 100)}xx`;
}

function buildInfo({ version, commit, bun }: BuildInfo): Metric {
  const text = { name: "layover_build_info", labels: ["version", "commit", "bun"], help: "What runs; always 1" };
  return createInfo(text, [version, commit, bun]);
}
