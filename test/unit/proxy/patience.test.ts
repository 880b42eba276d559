import { expect, test } from "bun:test";
import { sparingTtlMs } from "../../../src/proxy/patience.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

test.each([
  ["ten minutes where tags are asked for each time", 0, 30 * DAY_MS, 10 * MINUTE_MS],
  ["ten minutes at least", MINUTE_MS, 30 * DAY_MS, 10 * MINUTE_MS],
  ["four times the time", 10 * MINUTE_MS, 30 * DAY_MS, 40 * MINUTE_MS],
  ["never beyond what an outage allows", 10 * MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS],
  ["nothing where nothing may be stale", 0, 0, 0],
  ["nothing more than its time where nothing may be stale", MINUTE_MS, 0, MINUTE_MS],
])("[R206] sparingTtlMs() is %s", (_title, ttlMs, staleIfErrorMs, expected) => {
  expect(sparingTtlMs(ttlMs, staleIfErrorMs)).toBe(expected);
});
