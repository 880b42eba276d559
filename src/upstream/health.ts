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
 * once; an answer closes whatever was open. Who had a turn always ends it, or nobody would get the next one. An upstream that
 * answers, but badly, is open to those repositories alone that it failed in this window; each other one finds out for itself,
 * so that nobody closes it to all by asking for what makes it fail.
 */
import type { UpstreamError } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import { addFailing, type Away, type Failure, refusalOf, seconds, stateOf, type UpstreamHealth } from "./away.ts";

export type { Failure, UpstreamHealth } from "./away.ts";

/** One request's leave to ask an upstream. */
export interface Turn {
  /** Whether it finds out, for all or for its repository: it is tried once. */
  readonly isProbe: boolean;
  /** The upstream gave a sign of life. */
  answered(): void;
  failed(failure: Failure): void;
  /** Nothing was found out: another may have the turn. Nothing after one of the others. */
  left(): void;
}

export interface HealthChange {
  /** Key of the registry whose request found it out. */
  readonly registry: string;
  readonly upstream: Upstream;
  readonly to: "open" | "closed";
  readonly message: string;
}

/** How the upstreams of one registry are, for who asks for one repository. */
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

interface Opening {
  /** How it was away until now, if it was. */
  readonly before: Away | undefined;
  readonly failing: Away["failing"];
}

/** Who asks whom for what. */
interface Asker {
  readonly registry: string;
  readonly upstream: Upstream;
  readonly repository: string;
}

interface Entry {
  /** Of the failures since the last answer, and whom they met: not more than the weight. */
  weight: number;
  failing: Set<string>;
  /** Undefined while closed. */
  away: Away | undefined;
}

/**
 * @returns the health of a registry's upstreams for one repository; default: for any that they did not fail. Other registries may
 * come to them another way, or trust them otherwise. It ends with the map: what a new one says about proxies and certificates may
 * have mended what failed.
 */
export function createHealth({
  now,
  random,
  changed,
}: HealthDependencies): (registry: Named, repository?: string) => Health {
  // One entry per upstream of a registry, as long as its map is in use.
  const registries = new WeakMap<Named, Map<string, Entry>>();

  function open(entry: Entry, failure: Failure, { before, failing }: Opening): Away {
    const windowMs = before === undefined ? FIRST_WINDOW_MS : Math.min(before.windowMs * 2, MAX_WINDOW_MS);
    const askedMs = Math.min(failure.retryAfterMs ?? 0, MAX_ASKED_MS);
    const untilMs = now() + Math.max(windowMs * (1 - random() / 5), askedMs);
    const sinceMs = before?.sinceMs ?? now();
    entry.away = { sinceMs, windowMs, untilMs, failure, probe: undefined, failing };
    return entry.away;
  }

  function turnFor(entry: Entry, { registry, upstream, repository }: Asker): Turn {
    const isProbe = entry.away !== undefined;
    let isSettled = false;

    function close(): void {
      const { away } = entry;
      Object.assign(entry, newEntry());
      if (away === undefined) return;
      const message = `the upstream answers again, after ${seconds(now() - away.sinceMs)}`;
      changed({ registry, upstream, to: "closed", message });
    }

    function count(failure: Failure): void {
      const weight = WEIGHTS[failure.kind];
      entry.weight += weight;
      if (weight > 0) entry.failing.add(repository);
      if (entry.weight < LIMIT) return;
      const failing = failure.kind === "broken" ? entry.failing : undefined;
      const { untilMs } = open(entry, failure, { before: undefined, failing });
      const left = seconds(untilMs - now());
      const what =
        failing === undefined ? `gives no answer and is not asked for ${left}` : `fails and is spared for ${left}`;
      const message = `the upstream ${what}: ${failure.why}`;
      changed({ registry, upstream, to: "open", message });
    }

    const turn: Turn = {
      isProbe,
      answered() {
        isSettled = true;
        close();
      },
      failed(failure) {
        isSettled = true;
        const { away } = entry;
        if (away === undefined) return count(failure);
        if (away.probe !== turn) return join(entry, away, { failure, repository });
        const isForAll = failure.kind !== "broken" && (failure.kind !== "unclear" || away.failing === undefined);
        open(entry, failure, { before: away, failing: isForAll ? undefined : new Set([repository]) });
      },
      left() {
        const { away } = entry;
        if (away?.probe === turn) entry.away = { ...away, probe: undefined };
        else if (isProbe && !isSettled) away?.failing?.delete(repository);
      },
    };
    return turn;
  }

  function healthOf(registry: Named, repository = ""): Health {
    const entries = registries.get(registry) ?? new Map<string, Entry>();
    registries.set(registry, entries);

    function entryOf(upstream: Upstream): Entry {
      const key = keyOf(upstream);
      const entry = entries.get(key) ?? newEntry();
      entries.set(key, entry);
      return entry;
    }

    function awayOf(upstream: Upstream): Away | undefined {
      return entries.get(keyOf(upstream))?.away;
    }

    function isDue(away: Away): boolean {
      return away.probe === undefined && now() >= away.untilMs;
    }

    function mayAsk(upstream: Upstream): boolean {
      const away = awayOf(upstream);
      return away === undefined || isDue(away) || away.failing?.has(repository) === false;
    }

    return {
      enter(upstream) {
        if (!mayAsk(upstream)) return undefined;
        const entry = entryOf(upstream);
        const turn = turnFor(entry, { registry: registry.key, upstream, repository });
        const { away } = entry;
        if (away !== undefined && isDue(away)) entry.away = { ...away, probe: turn };
        else if (away?.failing !== undefined) addFailing(away.failing, repository);
        return turn;
      },
      isClosed: (upstream) => awayOf(upstream) === undefined,
      mayAsk,
      refusal: (upstreams) =>
        refusalOf(
          upstreams.flatMap((upstream) => awayOf(upstream) ?? []),
          now(),
        ),
      stateOf: (upstream) => stateOf(nameOf(upstream), awayOf(upstream), now()),
    };
  }

  return healthOf;
}

function newEntry(): Entry {
  return { weight: 0, failing: new Set(), away: undefined };
}

/** A failure beside the probe, of who asked before it opened or for a repository of its own. */
function join(entry: Entry, away: Away, { failure, repository }: { failure: Failure; repository: string }): void {
  if (away.failing === undefined) return; // known already
  if (WEIGHTS[failure.kind] === LIMIT) entry.away = { ...away, failure, failing: undefined };
  else if (WEIGHTS[failure.kind] > 0) addFailing(away.failing, repository);
}

/** As the map names it: two paths of one host are two upstreams. */
function keyOf({ origin, basePath }: Upstream): string {
  return `${origin}${basePath}`;
}

function nameOf({ origin, basePath }: Upstream): string {
  return `${new URL(origin).host}${basePath}`;
}
