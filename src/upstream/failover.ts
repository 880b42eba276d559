/**
 * The upstreams of a registry, in turn (protocol R142, R262): those that answer in the map's order, each once; if none had
 * the answer, those whose failure may pass again after a short, uneven wait, three times at most and only before the deadline.
 * Upstreams that are known dead are not waited for (health.ts):
 *
 *     closed ones first ─▶ then those whose moment has come ─▶ none may be asked: refused at once
 *         └─▶ meanwhile an open one whose moment has come is looked at beside it, so that no client waits for the news
 */
import { UpstreamError } from "../errors.ts";
import type { Upstream } from "../registry/registry.ts";
import { discardBody } from "./body.ts";
import type { Health, Turn } from "./health.ts";
import type { HttpResponse } from "./http.ts";
import { isFailure, type Outcome, rank, tell, type Trial, troubleIn, tryOnce, type Wanted } from "./outcome.ts";
import { askedPauseMs, pauseBeforeRound } from "./retry.ts";
import { remainingMs } from "./wait.ts";

export interface FailoverOptions {
  readonly upstreams: readonly Upstream[];
  readonly health: Health;
  /** @param seen told undefined when the upstream itself is asked, and its status when it answers */
  readonly ask: (upstream: Upstream, seen: (status: number | undefined) => void) => Promise<HttpResponse>;
  /** Finds out, beside the request and without end for it, how an upstream is; ends the turn. Must not throw. */
  readonly look: (upstream: Upstream, turn: Turn) => void;
  readonly wanted: Wanted;
  /** The origin whose credential the request has: another upstream's 401 is not the last word before that one was asked. */
  readonly credentialOrigin: string | undefined;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly random: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Told of trouble before the next upstream or the next round. */
  readonly onFailure: (upstream: Upstream, trouble: string) => void;
  /** Told when nobody was asked because all are known dead. */
  readonly onRefusal: () => void;
}

export interface Answered {
  readonly upstream: Upstream;
  readonly response: HttpResponse;
}

/** What one request has found out so far. */
interface Progress {
  readonly outcomes: Map<Upstream, Outcome>;
  readonly turns: Map<Upstream, Turn>;
  /** Failures that may pass at the next try, and are told of when there is none. */
  readonly untold: Map<Upstream, Trial>;
}

/**
 * The first answer that settles the matter, else the most telling of those that do not: 404 only if every upstream said so,
 * because one that failed might have had it.
 * @throws UpstreamError when errors are all there is to tell; at once when no upstream may be asked. With `retryAfter` when none
 * may be asked now, also when it was this request that found it out
 */
export async function askInTurn(options: FailoverOptions): Promise<Answered> {
  const progress: Progress = { outcomes: new Map(), turns: new Map(), untold: new Map() };
  try {
    return await askInRounds(options, progress);
  } catch (error) {
    endTurns(options, progress);
    throw error instanceof UpstreamError ? withMoment(error, options) : error;
  } finally {
    endTurns(options, progress);
  }
}

function endTurns({ wanted }: FailoverOptions, { turns, untold }: Progress): void {
  for (const [upstream, trial] of untold) tell(turns.get(upstream), trial, wanted);
  untold.clear();
  for (const turn of turns.values()) turn.left();
}

/** The error as those get it who ask next. */
function withMoment(error: UpstreamError, { upstreams, health }: FailoverOptions): UpstreamError {
  const { kind, message, status, reach, cause } = error;
  if (error.retryAfter !== undefined || upstreams.length === 0 || upstreams.some(health.mayAsk)) return error;
  const { retryAfter } = health.refusal(upstreams);
  return new UpstreamError(kind, message, {
    reach,
    cause,
    ...(status !== undefined && { status }),
    ...(retryAfter !== undefined && { retryAfter }),
  });
}

async function askInRounds(options: FailoverOptions, progress: Progress): Promise<Answered> {
  const { outcomes, turns } = progress;
  let pending = inOrder(options);
  for (let round = 0; ; round++) {
    for (const [index, upstream] of pending.entries()) {
      const outcome = await askOne(upstream, options, progress);
      await keep(outcomes, upstream, outcome);
      if (isGood(outcome)) return pick(outcomes, upstream);
      if (isDenied(outcome) && moreTelling(upstream, pending.slice(index + 1), options).length === 0)
        return pick(outcomes, mostTelling(outcomes, options));
      const trouble = troubleIn(outcome);
      if (turns.has(upstream) && trouble !== undefined) options.onFailure(upstream, trouble);
    }
    if (turns.size === 0 && pending.length > 0) return refuse(options);
    const again = pending.flatMap((upstream) => mayAskAgain(upstream, options, progress));
    pending = again.map(({ upstream }) => upstream);
    const askedMs = Math.max(0, ...again.map(({ pauseMs }) => pauseMs));
    const remaining = remainingMs(options.deadlineMs);
    const pauseMs = pauseBeforeRound({ round, askedMs, remainingMs: remaining, random: options.random() });
    if (pending.length === 0 || pauseMs === undefined) return pick(outcomes, mostTelling(outcomes, options));
    await options.sleep(pauseMs, options.signal);
  }
}

/** Closed ones first. An open one whose moment has come is looked at beside the request, where another can serve it. */
function inOrder({ upstreams, health, look }: FailoverOptions): readonly Upstream[] {
  const closed = upstreams.filter((upstream) => health.isClosed(upstream));
  const others = upstreams.filter((upstream) => !closed.includes(upstream));
  for (const upstream of closed.length === 0 ? [] : others) {
    const turn = health.enter(upstream);
    if (turn !== undefined) look(upstream, turn);
  }
  return [...closed, ...others];
}

/** One try, or the news that it must not be made now. */
async function askOne(upstream: Upstream, options: FailoverOptions, { turns, untold }: Progress): Promise<Outcome> {
  const turn = turns.get(upstream) ?? options.health.enter(upstream);
  if (turn === undefined) return { kind: "error", error: options.health.refusal([upstream]) };
  turns.set(upstream, turn);
  const trial = await tryOnce((seen) => options.ask(upstream, seen));
  untold.delete(upstream);
  if (mayPass(turn, trial.outcome, options) !== undefined && isFailure(trial)) untold.set(upstream, trial);
  else tell(turn, trial, options.wanted);
  return trial.outcome;
}

/** After how long a try more is worth it; never for the one that finds out for all who wait, nor for what nobody waits for. */
function mayPass(
  turn: Turn | undefined,
  outcome: Outcome | undefined,
  { wanted }: FailoverOptions,
): number | undefined {
  if (turn === undefined || turn.isProbe || wanted === "extra") return undefined;
  return askedPauseMs(outcome, { isBlob: wanted === "blob", now: Date.now() });
}

function mayAskAgain(upstream: Upstream, options: FailoverOptions, { turns, outcomes }: Progress) {
  const pauseMs = mayPass(turns.get(upstream), outcomes.get(upstream), options);
  // Others may have found out meanwhile that it is dead.
  return pauseMs === undefined || !options.health.isClosed(upstream) ? [] : [{ upstream, pauseMs }];
}

function refuse({ health, upstreams, onRefusal }: FailoverOptions): never {
  onRefusal();
  throw health.refusal(upstreams);
}

/** The latest outcome counts, but an answer tells more than the failure of a later try. */
async function keep(outcomes: Map<Upstream, Outcome>, upstream: Upstream, outcome: Outcome): Promise<void> {
  const before = outcomes.get(upstream);
  if (before?.kind === "answer" && outcome.kind === "error") return;
  outcomes.set(upstream, outcome);
  if (before?.kind === "answer") await discardBody(before.response.body);
}

/** An answer that no other upstream could better. */
function isGood(outcome: Outcome): boolean {
  if (outcome.kind === "error") return false;
  const { status } = outcome.response;
  return ![401, 403, 404, 429].includes(status) && status < 500;
}

function isDenied(outcome: Outcome): boolean {
  return outcome.kind === "answer" && (outcome.response.status === 401 || outcome.response.status === 403);
}

/** Of those still to be asked, who could say yes where this one said no: for a blob anybody, else who knows the client better. */
function moreTelling(
  upstream: Upstream,
  later: readonly Upstream[],
  { credentialOrigin, wanted }: FailoverOptions,
): readonly Upstream[] {
  if (wanted !== "small") return later;
  return upstream.origin === credentialOrigin ? [] : later.filter(({ origin }) => origin === credentialOrigin);
}

/** Of equals the one that knows the client, else the first. */
function mostTelling(outcomes: ReadonlyMap<Upstream, Outcome>, { credentialOrigin }: FailoverOptions): Upstream {
  const knows = ({ origin }: Upstream) => (origin === credentialOrigin ? 0 : 1);
  const ranked = [...outcomes].toSorted(([one, a], [other, b]) => rank(a) - rank(b) || knows(one) - knows(other));
  const [first] = ranked[0] ?? [];
  if (first === undefined) throw new UpstreamError("connect", "the registry has no upstream");
  return first;
}

async function pick(outcomes: Map<Upstream, Outcome>, upstream: Upstream): Promise<Answered> {
  const chosen = outcomes.get(upstream);
  for (const other of outcomes.values()) {
    if (other !== chosen && other.kind === "answer") await discardBody(other.response.body);
  }
  if (chosen?.kind === "answer") return { upstream, response: chosen.response };
  throw chosen?.error ?? new UpstreamError("connect", "the registry has no upstream");
}
