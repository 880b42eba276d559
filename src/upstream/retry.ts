/**
 * Which outcomes are worth another try at the same upstream, and when (protocol R262). Everything here was GET or HEAD. A
 * Retry-After is waited for or the try is given up: never cut short (R211).
 */
import { isFailureStatus, type Outcome } from "./outcome.ts";
import { retryAfterMs } from "./quota-headers.ts";

/** Of about 0.1, 0.2 and 0.4 s: long enough for a restarted process, short against a client's patience. */
const BACK_OFF_MS = [100, 200, 400];
/** A client waits meanwhile: what asks for more is told to it. */
const MAX_ASKED_MS = 5_000;

export interface RetryFacts {
  /** Their quota is not that of manifests, whose 429 is never answered with another try (compat C11). */
  readonly isBlob: boolean;
  /** Wall clock, milliseconds. */
  readonly now: number;
}

/** How long the upstream wants to be left alone first, 0 mostly; undefined when another try is not worth it. */
export function askedPauseMs(outcome: Outcome | undefined, { isBlob, now }: RetryFacts): number | undefined {
  if (outcome === undefined) return undefined;
  if (outcome.kind === "answer") {
    const { status, headers } = outcome.response;
    const mayPass = isFailureStatus(status) || (status === 429 && isBlob);
    return mayPass ? shortPause(headers.get("retry-after"), now) : undefined;
  }
  const { kind, status, retryAfter } = outcome.error;
  switch (kind) {
    case "connect":
      return 0;
    case "token":
      return (status ?? 500) >= 500 ? shortPause(retryAfter, now) : undefined;
    // Storage that refused a signed URL: a fresh one may do.
    case "bad-answer":
      return status === undefined ? undefined : 0;
    default:
      return undefined;
  }
}

function shortPause(retryAfter: string | null | undefined, now: number): number | undefined {
  if (retryAfter === null || retryAfter === undefined) return 0;
  const askedMs = retryAfterMs(retryAfter, now);
  return askedMs === undefined || askedMs > MAX_ASKED_MS ? undefined : askedMs;
}

export interface RoundFacts {
  /** 0 before the first round of second tries. */
  readonly round: number;
  /** The longest pause that was asked for. */
  readonly askedMs: number;
  /** Until the request's deadline. */
  readonly remainingMs: number;
  /** 0 ≤ x < 1 */
  readonly random: number;
}

/** The wait before another round: growing and uneven; undefined when there is no time for one. */
export function pauseBeforeRound({ round, askedMs, remainingMs, random }: RoundFacts): number | undefined {
  const backOffMs = BACK_OFF_MS[round];
  if (backOffMs === undefined) return undefined;
  // Half of the time stays for the answer.
  if (askedMs > remainingMs / 2) return undefined;
  const pauseMs = Math.max(backOffMs * (0.5 + random), askedMs);
  return pauseMs < remainingMs ? pauseMs : undefined;
}
