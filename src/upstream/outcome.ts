/** How one try at one upstream ended, what it says about that upstream's health, and which of several outcomes tells most. */
import { UpstreamError } from "../errors.ts";
import type { Failure, Turn } from "./health.ts";
import type { HttpResponse } from "./http.ts";
import { retryAfterMs } from "./quota-headers.ts";

export type Outcome =
  | { readonly kind: "answer"; readonly response: HttpResponse }
  | { readonly kind: "error"; readonly error: UpstreamError };

export interface Trial {
  readonly outcome: Outcome;
  /** The upstream's own last answer, before a redirect too; undefined when it was asked and did not answer, or was not asked. */
  readonly lastStatus: number | undefined;
}

/**
 * What was asked for: a `blob`; an `extra` connection for one that comes anyway, which fails for having been one too many as well;
 * or something `small`.
 */
export type Wanted = "blob" | "extra" | "small";

/** What a registry answers when it, or what stands behind it, fails. */
const FAILURE_STATUSES = new Set([500, 502, 503, 504]);

export function isFailureStatus(status: number): boolean {
  return FAILURE_STATUSES.has(status);
}

/** Asks once. @throws what is no UpstreamError: the signal's reason */
export async function tryOnce(
  ask: (seen: (status: number | undefined) => void) => Promise<HttpResponse>,
): Promise<Trial> {
  let lastStatus: number | undefined;
  const seen = (status: number | undefined) => {
    lastStatus = status;
  };
  try {
    const response = await ask(seen);
    return { outcome: { kind: "answer", response }, lastStatus };
  } catch (error) {
    if (error instanceof UpstreamError) return { outcome: { kind: "error", error }, lastStatus };
    throw error;
  }
}

/**
 * Passes on what a try found out. Any answer but a failure is a sign of life, also 401, 404, 429, and a redirect to a storage that
 * fails. A try that did not get as far as the upstream gives the turn to another, and so does an extra connection that failed.
 */
export function tell(turn: Turn | undefined, trial: Trial, wanted: Wanted): void {
  if (!isFailure(trial)) return turn?.answered();
  // A token server's refusal is an answer for which nobody asked the upstream.
  const wasAsked = trial.lastStatus !== undefined || trial.outcome.kind === "error";
  const failure = wasAsked && wanted !== "extra" ? failureIn(trial.outcome, wanted) : undefined;
  if (failure === undefined) turn?.left();
  else turn?.failed(failure);
}

export function isFailure({ lastStatus }: Trial): boolean {
  return lastStatus === undefined || isFailureStatus(lastStatus);
}

function failureIn(outcome: Outcome, wanted: Wanted): Failure | undefined {
  if (outcome.kind === "answer") {
    const { status, headers } = outcome.response;
    const askedMs = retryAfterMs(headers.get("retry-after"), Date.now());
    return { kind: "broken", why: `it answered ${status}`, as: "bad-answer", retryAfterMs: askedMs };
  }
  const { kind: as, message: why, reach, status } = outcome.error;
  switch (as) {
    case "limited":
    case "overload":
      return undefined;
    case "connect":
    case "tls":
    case "bad-answer":
      return { kind: reach === "unreached" ? "unreached" : "broken", why, as };
    case "timeout":
      if (reach === "unreached") return { kind: "unreached", why, as };
      // One large blob that its registry has to fetch itself may be that slow, all layers of an image at once (lesson T4).
      return { kind: reach === "silent" && wanted === "small" ? "silent" : "unclear", why, as };
    case "token":
      // One account's limit, or a question that the token server refuses, and the upstream was not asked.
      return status !== undefined && status < 500 ? undefined : { kind: "unclear", why, as };
    case "refused-address":
      return { kind: "unclear", why, as };
  }
}

/** A quota is told once when it runs out, and then true of every request. */
export function isLimit(outcome: Outcome): boolean {
  return outcome.kind === "error" && outcome.error.kind === "limited";
}

/** Low tells more. 404 tells least: an upstream that failed might have had it. */
export function rank(outcome: Outcome): number {
  if (outcome.kind === "error") return isLimit(outcome) ? 1 : 3;
  const { status } = outcome.response;
  if (status === 401 || status === 403) return 0;
  if (status === 429) return 1;
  return status === 404 ? 4 : 2;
}

/**
 * What an operator should hear of, though another upstream or the next try may mend it: undefined for an answer that is none of the
 * upstream's failures (404, 405, …) and for limits of accounts, which are told of once when they begin.
 */
export function troubleIn(outcome: Outcome): string | undefined {
  if (outcome.kind === "answer") {
    const { status } = outcome.response;
    return status >= 500 || status === 429 ? `the upstream answered ${status}` : undefined;
  }
  return isLimit(outcome) || outcome.error.status === 429 ? undefined : outcome.error.message;
}
