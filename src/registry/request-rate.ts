/** A number of requests in a period, as people write it: `"100/s"`, `"600/m"`, `"5000/h"`. */

export interface RequestRate {
  readonly count: number;
  readonly periodMs: number;
}

const PERIODS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** Undefined for anything else, and for less than one request. */
export function parseRequestRate(text: string): RequestRate | undefined {
  const [, count = "", unit = ""] = /^([1-9]\d{0,8})\/([smh])$/.exec(text.trim().toLowerCase()) ?? [];
  const periodMs = PERIODS_MS[unit];
  return periodMs === undefined ? undefined : { count: Number(count), periodMs };
}
