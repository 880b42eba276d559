/**
 * What a registry says about its limits, read from the headers of an answer: how many pulls an account has left (protocol
 * R207), and when it may ask again. Only Docker Hub's spelling of a quota is known to mean pulls; headers of that name without a window
 * are the bursts of a web front (GitLab's) and say nothing about pulls. What is odd counts as not said.
 */

/** `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 20;w=21600`, `docker-ratelimit-source: 192.0.2.1`. */
export interface ToldQuota {
  /** Pulls in a window, at least 1. */
  readonly limit: number;
  /** Of them left, 0 to `limit`. */
  readonly remaining: number;
  readonly windowMs: number;
  /** Whom the registry counts: an address or the id of an account. */
  readonly source: string | undefined;
}

/** No quota is anywhere near; more is a mistake, and would make sums of metrics worthless. */
const MAX_PULLS = 1_000_000_000;
/** A month: the longest that anybody sells by. */
const MAX_WINDOW_SECONDS = 31 * 24 * 60 * 60;
/** An IPv6 address or a UUID, with room. */
const MAX_SOURCE_CHARACTERS = 64;
/** As seconds it would be thirty years: it is a moment. Docker Hub wrote its own API's limit that way. */
const FIRST_TIMESTAMP = 1_000_000_000;

/** The quota that an answer tells; undefined when it tells none, which means unlimited. */
export function toldQuota(headers: Headers): ToldQuota | undefined {
  const limit = parseAmount(headers.get("ratelimit-limit"));
  const remaining = parseAmount(headers.get("ratelimit-remaining"));
  if (limit === undefined || remaining === undefined || limit.pulls < 1) return undefined;
  return {
    limit: limit.pulls,
    remaining: Math.min(remaining.pulls, limit.pulls),
    windowMs: limit.windowSeconds * 1000,
    source: parseSource(headers.get("docker-ratelimit-source")),
  };
}

function parseAmount(value: string | null): { pulls: number; windowSeconds: number } | undefined {
  const match = /^\s*(\d{1,12})\s*;\s*w=(\d{1,12})\s*$/.exec(value ?? "");
  if (match === null) return undefined;
  const [pulls, windowSeconds] = [Number(match[1]), Number(match[2])];
  if (pulls > MAX_PULLS || windowSeconds < 1 || windowSeconds > MAX_WINDOW_SECONDS) return undefined;
  return { pulls, windowSeconds };
}

function parseSource(value: string | null): string | undefined {
  return value !== null && value.length <= MAX_SOURCE_CHARACTERS && /^[\w.:-]+$/.test(value) ? value : undefined;
}

/**
 * Milliseconds until a Retry-After is over: seconds, an HTTP date (RFC 9110 section 10.2.3) or a Unix time; 0 for a moment
 * that has passed, undefined for none and for what cannot be read.
 * @param nowMs wall clock
 */
export function retryAfterMs(value: string | null | undefined, nowMs: number): number | undefined {
  if (value === null || value === undefined) return undefined;
  if (/^\d{1,12}$/.test(value)) {
    const seconds = Number(value);
    return seconds < FIRST_TIMESTAMP ? seconds * 1000 : Math.max(0, seconds * 1000 - nowMs);
  }
  const isDate = /^[A-Za-z]{3}, \d{2} [A-Za-z]{3} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(value);
  const atMs = isDate ? Date.parse(value) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}
