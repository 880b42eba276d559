import { describe, expect, test } from "bun:test";
import { retryAfterMs, toldQuota } from "../../../src/upstream/quota-headers.ts";

const SIX_HOURS_MS = 6 * 60 * 60_000;

function told(limit: string | undefined, remaining: string | undefined, source?: string) {
  const headers = new Headers();
  if (limit !== undefined) headers.set("RateLimit-Limit", limit);
  if (remaining !== undefined) headers.set("RateLimit-Remaining", remaining);
  if (source !== undefined) headers.set("Docker-RateLimit-Source", source);
  return toldQuota(headers);
}

describe("toldQuota()", () => {
  test.each([
    ["100;w=21600", "20;w=21600", 100, 20],
    ["200;w=21600", "200;w=21600", 200, 200],
    ["100;w=21600", "0;w=21600", 100, 0],
    [" 100 ; w=21600 ", "7;w=21600", 100, 7],
    ["100;w=21600", "101;w=21600", 100, 100],
  ] as const)("[R207] reads %s and %s", (limit, remaining, pulls, left) => {
    expect(told(limit, remaining)).toEqual({
      limit: pulls,
      remaining: left,
      windowMs: SIX_HOURS_MS,
      source: undefined,
    });
  });

  test.each([
    [undefined, undefined],
    ["100;w=21600", undefined],
    [undefined, "20;w=21600"],
    ["", ""],
    ["-1;w=21600", "-1;w=21600"],
    ["0;w=21600", "0;w=21600"],
    ["NaN;w=21600", "20;w=21600"],
    ["1e3;w=21600", "20;w=21600"],
    ["100;w=0", "20;w=0"],
    ["100;w=-1", "20;w=-1"],
    ["99999999999999999999;w=21600", "1;w=21600"],
    ["9999999999;w=21600", "1;w=21600"],
    ["100;w=99999999999", "1;w=99999999999"],
    ["100;w=21600, 5;w=1", "20;w=21600"],
    ["600", "599"], // a burst of a web front, not pulls
    ["100;w=21600\u00e9", "20;w=21600"],
  ])("[R207] takes %p and %p for nothing said, which is unlimited", (limit, remaining) => {
    expect(told(limit, remaining)).toBeUndefined();
  });

  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8::1", "2001:db8::1"],
    ["9e3c1bd8-2f0e-4f1b-8f2f-1d0a3a1f0c11", "9e3c1bd8-2f0e-4f1b-8f2f-1d0a3a1f0c11"],
    ["x".repeat(65), undefined],
    ["a b", undefined],
    ['"quoted"', undefined],
  ])("[R207] has the source %p as %p", (source, expected) => {
    expect(told("100;w=21600", "20;w=21600", source)?.source).toBe(expected as string);
  });
});

describe("retryAfterMs()", () => {
  const nowMs = Date.parse("2026-11-21T12:00:00Z");
  test.each([
    ["0", 0],
    ["37", 37_000],
    ["21600", SIX_HOURS_MS],
    ["Sat, 21 Nov 2026 12:01:00 GMT", 60_000],
    ["Sat, 21 Nov 2026 11:59:00 GMT", 0],
    [String(nowMs / 1000 + 90), 90_000],
    [String(nowMs / 1000 - 90), 0],
    [null, undefined],
    [undefined, undefined],
    ["", undefined],
    ["-5", undefined],
    ["1.5", undefined],
    ["soon", undefined],
    ["9999999999999", undefined],
    ["Sat, 99 Nov 2026 12:01:00 GMT", undefined],
  ])("[R211] reads %p as %p", (value, expected) => {
    expect(retryAfterMs(value, nowMs)).toBe(expected as number);
  });
});
