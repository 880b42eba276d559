/**
 * The upstreams of a registry, in turn (protocol R142, R262). Each is asked once; if none had the answer, those whose failure
 * may pass are asked again after a short, uneven wait, twice at most and only before the deadline.
 */
import { UpstreamError } from "../errors.ts";
import type { Upstream } from "../registry/registry.ts";
import { discardBody } from "./body.ts";
import type { HttpResponse } from "./http.ts";

export interface FailoverOptions {
  readonly upstreams: readonly Upstream[];
  readonly ask: (upstream: Upstream) => Promise<HttpResponse>;
  /** The origin whose credential the request has: another upstream's 401 is not the last word before that one was asked. */
  readonly credentialOrigin: string | undefined;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly random: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Told before the next upstream or the next round. */
  readonly onFailure: (upstream: Upstream, outcome: string) => void;
}

export interface Answered {
  readonly upstream: Upstream;
  readonly response: HttpResponse;
}

type Outcome =
  | { readonly kind: "answer"; readonly response: HttpResponse }
  | { readonly kind: "error"; readonly error: UpstreamError };

/** Waits of about 0.1 and 0.2 seconds: long enough for a restarted process, short against a client's patience. */
const RETRY_DELAYS_MS = [100, 200];

/**
 * The first answer that settles the matter, else the most telling of those that do not: 404 only if every upstream said so,
 * because one that failed might have had it.
 * @throws UpstreamError when errors are all there is to tell
 */
export async function askInTurn(options: FailoverOptions): Promise<Answered> {
  const outcomes = new Map<Upstream, Outcome>();
  let pending = options.upstreams;
  for (let round = 0; ; round++) {
    for (const upstream of pending) {
      const outcome = await tryOnce(upstream, options.ask);
      await keep(outcomes, upstream, outcome);
      if (isSettled(outcome, laterUpstreams(upstream, options))) return pick(outcomes, upstream);
      if (!isLimit(outcome)) options.onFailure(upstream, describe(outcome));
    }
    pending = pending.filter((upstream) => mayPass(outcomes.get(upstream)));
    const delayMs = (RETRY_DELAYS_MS[round] ?? Infinity) * (0.5 + options.random());
    if (pending.length === 0 || performance.now() + delayMs >= options.deadlineMs) break;
    await options.sleep(delayMs, options.signal);
  }
  return pick(outcomes, mostTelling(outcomes));
}

async function tryOnce(upstream: Upstream, ask: FailoverOptions["ask"]): Promise<Outcome> {
  try {
    return { kind: "answer", response: await ask(upstream) };
  } catch (error) {
    if (error instanceof UpstreamError) return { kind: "error", error };
    throw error;
  }
}

/** Told once when it begins, and then true of every request. */
function isLimit(outcome: Outcome): boolean {
  return outcome.kind === "error" && outcome.error.kind === "limited";
}

/** The latest outcome counts, but an answer tells more than the failure of a later try. */
async function keep(outcomes: Map<Upstream, Outcome>, upstream: Upstream, outcome: Outcome): Promise<void> {
  const before = outcomes.get(upstream);
  if (before?.kind === "answer" && outcome.kind === "error") return;
  outcomes.set(upstream, outcome);
  if (before?.kind === "answer") await discardBody(before.response.body);
}

function isSettled(outcome: Outcome, later: readonly Upstream[]): boolean {
  if (outcome.kind === "error") return false;
  const { status } = outcome.response;
  if (status === 401 || status === 403) return later.length === 0;
  return status !== 404 && status !== 429 && status < 500;
}

/** The upstreams behind this one that know the client better than this one did. */
function laterUpstreams(upstream: Upstream, { upstreams, credentialOrigin }: FailoverOptions): readonly Upstream[] {
  if (upstream.origin === credentialOrigin) return [];
  return upstreams.slice(upstreams.indexOf(upstream) + 1).filter(({ origin }) => origin === credentialOrigin);
}

/** What may be gone at the next try. 429 and Retry-After ask for more patience than a client has. */
function mayPass(outcome: Outcome | undefined): boolean {
  if (outcome?.kind === "answer") {
    const { status, headers } = outcome.response;
    return [500, 502, 503, 504].includes(status) && !headers.has("retry-after");
  }
  switch (outcome?.error.kind) {
    case "connect":
      return true;
    case "token":
      return outcome.error.retryAfter === undefined && (outcome.error.status ?? 500) >= 500;
    // Storage that refused a signed URL: a fresh one may do.
    case "bad-answer":
      return outcome.error.status !== undefined;
    default:
      return false;
  }
}

function mostTelling(outcomes: ReadonlyMap<Upstream, Outcome>): Upstream {
  const ranked = [...outcomes].toSorted(([, a], [, b]) => rank(a) - rank(b));
  const [first] = ranked[0] ?? [];
  if (first === undefined) throw new UpstreamError("connect", "the registry has no upstream");
  return first;
}

/** Low tells more. */
function rank(outcome: Outcome): number {
  if (outcome.kind === "error") return isLimit(outcome) ? 1 : 3;
  const { status } = outcome.response;
  if (status === 401 || status === 403) return 0;
  if (status === 429) return 1;
  return status === 404 ? 4 : 2;
}

async function pick(outcomes: Map<Upstream, Outcome>, upstream: Upstream): Promise<Answered> {
  const chosen = outcomes.get(upstream);
  for (const other of outcomes.values()) {
    if (other !== chosen && other.kind === "answer") await discardBody(other.response.body);
  }
  if (chosen?.kind === "answer") return { upstream, response: chosen.response };
  throw chosen?.error ?? new UpstreamError("connect", "the registry has no upstream");
}

function describe(outcome: Outcome): string {
  return outcome.kind === "error" ? outcome.error.message : `answered ${outcome.response.status}`;
}
