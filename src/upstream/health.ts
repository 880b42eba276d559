/**
 * Health: whether an upstream may be asked, learnt from how it answered others. Nothing is polled: who asks next finds out.
 *
 *              failures add up                the moment has come
 *     closed ───────────────────▶ open ─────────────────────────────▶ half-open: one request finds out
 *        ▲                         ▲                it failed                │
 *        │                         └─────────────────────────────────────────┤
 *        └───────────────────────── any answer ──────────────────────────────┘
 *
 * Promises: without failures nothing opens; at a half-open upstream one request is under way and the others are refused at
 * once; an answer closes whatever was open. Who had a turn always ends it, or nobody would get the next one.
 */
import { UpstreamError, type UpstreamErrorKind } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";

export interface Failure {
  /**
   * - `unreached`: no connection came about: no such name, refused, no handshake, no answer to SYN
   * - `silent`: a connection, and no header in the whole of `--header-timeout`
   * - `broken`: 500, 502, 503, 504, a reset, or something that is no answer
   * - `unclear`: nothing that says how the upstream is: its token server failed, or the request had no time. It opens nothing,
   *   but a half-open upstream is still not found well
   */
  readonly kind: "unreached" | "silent" | "broken" | "unclear";
  /** One line for people, without a secret. */
  readonly why: string;
  /** As what it is told to those who are refused meanwhile. */
  readonly as: UpstreamErrorKind;
  /** The upstream wants to be left alone so long, milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/** One request's leave to ask an upstream. */
export interface Turn {
  /** Whether it is the one that finds out for all. */
  readonly isProbe: boolean;
  /** The upstream gave a sign of life. */
  answered(): void;
  failed(failure: Failure): void;
  /** Nothing was found out: another may have the turn. Nothing after one of the others. */
  left(): void;
}

/** How an upstream is, for people and metrics. */
export interface UpstreamHealth {
  /** Host and base path: `"mirror.example/ghcr"`. */
  readonly upstream: string;
  readonly state: "closed" | "open" | "half-open";
  /** Seconds since it was last known to answer; absent while closed. */
  readonly forSeconds?: number;
  /** Seconds until it may be asked again, 0 while half-open; absent while closed. */
  readonly askedInSeconds?: number;
  /** A word and no more: the whole reason may name a repository. */
  readonly why?: UpstreamErrorKind;
}

export interface HealthChange {
  /** Key of the registry whose request found it out. */
  readonly registry: string;
  readonly upstream: Upstream;
  readonly to: "open" | "closed";
  readonly message: string;
}

/** How the upstreams of one registry are. */
export interface Health {
  /** Leave to ask; undefined when it must not be asked now. */
  enter(upstream: Upstream): Turn | undefined;
  isClosed(upstream: Upstream): boolean;
  /** Whether `enter` would give a turn now. */
  mayAsk(upstream: Upstream): boolean;
  /** What is told to who was refused. @param upstreams at least one, all of them refused */
  refusal(upstreams: readonly Upstream[]): UpstreamError;
  stateOf(upstream: Upstream): UpstreamHealth;
}

export interface HealthDependencies {
  /** Monotonic, milliseconds. */
  readonly now: () => number;
  /** 0 ≤ x < 1: processes that lost an upstream together do not come back to it together. */
  readonly random: () => number;
  /** Told when an upstream opens and when it closes, and of nothing between. */
  readonly changed: (change: HealthChange) => void;
}

/** Where the failures since the last answer add up to this, an upstream opens. */
const LIMIT = 5;
/**
 * One lost connection is enough: the next would wait as long for nothing. Three silences are, each of which cost somebody the
 * header time-out; fewer could be one slow image. Five answers of 5xx: one broken repository among good ones opens nothing.
 */
const WEIGHTS = { unreached: LIMIT, silent: 2, broken: 1, unclear: 0 } as const;
/** A restarted process is back in this time. */
const FIRST_WINDOW_MS = 5_000;
/** Long enough to spare a dead registry, short enough that nobody notices when it is back. */
const MAX_WINDOW_MS = 30_000;
/** A registry under maintenance may ask for more, up to this: a look in between costs one request. */
const MAX_ASKED_MS = 5 * 60_000;

type Named = Pick<Registry, "key">;

interface Away {
  readonly sinceMs: number;
  readonly windowMs: number;
  readonly untilMs: number;
  readonly failure: Failure;
  /** Who finds out whether it is back. */
  readonly probe: Turn | undefined;
}

interface Entry {
  /** Of the failures since the last answer. */
  weight: number;
  /** Undefined while closed. */
  away: Away | undefined;
}

/**
 * @returns the health of a registry's upstreams: other registries may come to them another way, or trust them otherwise. It ends
 * with the map: what a new one says about proxies and certificates may have mended what failed.
 */
export function createHealth({ now, random, changed }: HealthDependencies): (registry: Named) => Health {
  // One entry per upstream of a registry, as long as its map is in use.
  const registries = new WeakMap<Named, Map<string, Entry>>();

  function open(entry: Entry, failure: Failure, before: Away | undefined): Away {
    const windowMs = before === undefined ? FIRST_WINDOW_MS : Math.min(before.windowMs * 2, MAX_WINDOW_MS);
    const askedMs = Math.min(failure.retryAfterMs ?? 0, MAX_ASKED_MS);
    const untilMs = now() + Math.max(windowMs * (1 - random() / 5), askedMs);
    entry.away = { sinceMs: before?.sinceMs ?? now(), windowMs, untilMs, failure, probe: undefined };
    return entry.away;
  }

  function turnFor(entry: Entry, upstream: Upstream, registry: string): Turn {
    const isProbe = entry.away !== undefined;
    const turn: Turn = {
      isProbe,
      answered() {
        const { away } = entry;
        entry.weight = 0;
        entry.away = undefined;
        if (away === undefined) return;
        const message = `the upstream answers again, after ${seconds(now() - away.sinceMs)}`;
        changed({ registry, upstream, to: "closed", message });
      },
      failed(failure) {
        if (entry.away?.probe === turn) open(entry, failure, entry.away);
        if (entry.away !== undefined) return; // asked before it opened: known already
        entry.weight += WEIGHTS[failure.kind];
        if (entry.weight < LIMIT) return;
        const { untilMs } = open(entry, failure, undefined);
        const what = failure.kind === "broken" ? "fails" : "gives no answer";
        const message = `the upstream ${what} and is not asked for ${seconds(untilMs - now())}: ${failure.why}`;
        changed({ registry, upstream, to: "open", message });
      },
      left() {
        if (entry.away?.probe === turn) entry.away = { ...entry.away, probe: undefined };
      },
    };
    return turn;
  }

  function healthOf(registry: Named): Health {
    const entries = registries.get(registry) ?? new Map<string, Entry>();
    registries.set(registry, entries);

    function entryOf(upstream: Upstream): Entry {
      const key = keyOf(upstream);
      const entry = entries.get(key) ?? { weight: 0, away: undefined };
      entries.set(key, entry);
      return entry;
    }

    function awayOf(upstream: Upstream): Away | undefined {
      return entries.get(keyOf(upstream))?.away;
    }

    function mayAsk(upstream: Upstream): boolean {
      const away = awayOf(upstream);
      return away === undefined || (away.probe === undefined && now() >= away.untilMs);
    }

    return {
      enter(upstream) {
        if (!mayAsk(upstream)) return undefined;
        const entry = entryOf(upstream);
        const turn = turnFor(entry, upstream, registry.key);
        if (entry.away !== undefined) entry.away = { ...entry.away, probe: turn };
        return turn;
      },
      isClosed: (upstream) => awayOf(upstream) === undefined,
      mayAsk,
      refusal: (upstreams) => refusalOf(upstreams.flatMap((upstream) => awayOf(upstream) ?? [])),
      stateOf: (upstream) => stateOf(nameOf(upstream), awayOf(upstream)),
    };
  }

  function refusalOf(aways: readonly Away[]): UpstreamError {
    const [soonest] = aways.toSorted(bySoonest);
    if (soonest === undefined) return new UpstreamError("connect", "the registry has no upstream");
    const waitMs = Math.max(0, soonest.untilMs - now());
    const since = seconds(now() - soonest.sinceMs);
    const next = soonest.probe === undefined ? `asked again in ${seconds(waitMs)}` : "being asked just now";
    return new UpstreamError(soonest.failure.as, `no answer for ${since}, ${next}: ${soonest.failure.why}`, {
      retryAfter: String(Math.max(1, Math.ceil(waitMs / 1000))),
    });
  }

  function stateOf(upstream: string, away: Away | undefined): UpstreamHealth {
    if (away === undefined) return { upstream, state: "closed" };
    const waitMs = Math.max(0, away.untilMs - now());
    return {
      upstream,
      state: waitMs > 0 ? "open" : "half-open",
      forSeconds: Math.round((now() - away.sinceMs) / 1000),
      askedInSeconds: Math.ceil(waitMs / 1000),
      why: away.failure.as,
    };
  }

  return healthOf;
}

/** As the map names it: two paths of one host are two upstreams. */
function keyOf({ origin, basePath }: Upstream): string {
  return `${origin}${basePath}`;
}

function nameOf({ origin, basePath }: Upstream): string {
  return `${new URL(origin).host}${basePath}`;
}

function bySoonest(one: Away, other: Away): number {
  return one.untilMs - other.untilMs;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`;
}
