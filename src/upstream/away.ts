/**
 * An upstream that is not asked for a while: since when, until when, why and by whom, and how that is told to those who are
 * refused and to people. When it begins and ends health.ts decides.
 */
import { UpstreamError, type UpstreamErrorKind } from "../errors.ts";

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

export interface Away {
  readonly sinceMs: number;
  readonly windowMs: number;
  readonly untilMs: number;
  readonly failure: Failure;
  /** The turn of who finds out whether it is back. */
  readonly probe: object | undefined;
  /** The repositories that it failed in this window, or that find out now; undefined: it fails all. */
  readonly failing: Set<string> | undefined;
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

/** Names of repositories of one window; the oldest may ask again then. Some 100 bytes each. */
const MAX_FAILING = 1000;

/** What is told to who was refused. @param aways at least one */
export function refusalOf(aways: readonly Away[], nowMs: number): UpstreamError {
  const [soonest] = aways.toSorted(bySoonest);
  if (soonest === undefined) return new UpstreamError("connect", "the registry has no upstream");
  const waitMs = Math.max(0, soonest.untilMs - nowMs);
  const since = seconds(nowMs - soonest.sinceMs);
  const next = soonest.probe === undefined ? `asked again in ${seconds(waitMs)}` : "being asked just now";
  return new UpstreamError(
    soonest.failure.as,
    `${soonest.failing === undefined ? "no answer" : "failing"} for ${since}, ${next}: ${soonest.failure.why}`,
    {
      retryAfter: String(Math.max(1, Math.ceil(waitMs / 1000))),
    },
  );
}

/** @param upstream its name for people; @param away undefined while it is asked */
export function stateOf(upstream: string, away: Away | undefined, nowMs: number): UpstreamHealth {
  if (away === undefined) return { upstream, state: "closed" };
  const waitMs = Math.max(0, away.untilMs - nowMs);
  return {
    upstream,
    state: waitMs > 0 ? "open" : "half-open",
    forSeconds: Math.round((nowMs - away.sinceMs) / 1000),
    askedInSeconds: Math.ceil(waitMs / 1000),
    why: away.failure.as,
  };
}

/** Of this window: it is refused until that is over. */
export function addFailing(failing: Set<string>, repository: string): void {
  if (failing.has(repository)) return;
  const [oldest] = failing;
  if (failing.size >= MAX_FAILING && oldest !== undefined) failing.delete(oldest);
  failing.add(repository);
}

function bySoonest(one: Away, other: Away): number {
  return one.untilMs - other.untilMs;
}

/** `"4.2 s"` */
export function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`;
}
