import { describe, expect, test } from "bun:test";
import { compileTagPattern, createTagRules } from "../../../src/cache/tag-rules.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

describe("createTagRules()", () => {
  const tiers = createTagRules([
    { match: "(stable|nightly|production|test)", ttlMs: 10 * MINUTE },
    { match: String.raw`(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+`, ttlMs: 60 * DAY },
  ]);

  test.each([
    ["stable", 10 * MINUTE],
    ["stable-alpine", 10 * MINUTE],
    ["nightly-2026.11.20", 10 * MINUTE],
    ["unstable", undefined],
    ["Stable", undefined],
    ["1.2.3", 60 * DAY],
    ["v1.27.0-alpine3.19", 60 * DAY],
    ["release-20261120", 60 * DAY],
    ["1.2", 60 * DAY],
    ["12", undefined],
    ["v1", undefined],
    ["latest", undefined],
    ["", undefined],
    ["9".repeat(128), 60 * DAY],
    [`${"a".repeat(126)}12`, undefined],
  ])("the tiers of older settings give the tag %p its time", (tag, ttlMs) => {
    expect(tiers(tag)?.ttlMs).toBe(ttlMs);
  });

  test("the first rule that matches counts", () => {
    const ruleFor = createTagRules([
      { match: "v1", ttlMs: 1 },
      { match: "v", ttlMs: 2 },
      { match: ".", ttlMs: 0 },
    ]);
    expect(["v1.0", "v2", "x", ""].map((tag) => ruleFor(tag)?.ttlMs)).toEqual([1, 2, 0, undefined]);
  });

  test.each(["", "(?:)"])("an empty pattern (%p) switches its rule off", (match) => {
    expect(createTagRules([{ match, ttlMs: 1 }])("latest")).toBeUndefined();
  });

  test("no rules match nothing", () => {
    expect(createTagRules([])("latest")).toBeUndefined();
  });

  test("throws for a pattern that is none, and names it", () => {
    expect(() => createTagRules([{ match: "(", ttlMs: 1 }])).toThrow('got "("');
  });
});

describe("compileTagPattern()", () => {
  test.each([
    ["latest", "latest", true],
    ["latest", "latest-1", true],
    ["latest", "not-latest", false],
    ["latest$", "latest-1", false],
    ["^latest", "latest", true],
    ["a|b", "b", true],
    ["a|b", "cb", false],
    [".*-rc", "v1-rc2", true],
    [String.raw`\d+`, "7", true],
    [String.raw`\d+`, "v7", false],
    [String.raw`(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+`, "v1.2.3-alpine", true],
    ["(?i)rc", "RC1", true],
  ])("%p over the tag %p: %p", (pattern, tag, matches) => {
    expect(compileTagPattern(pattern)?.test(tag)).toBe(matches);
  });

  test.each(["(", "a)|(b", "[z-a]", "*", "x".repeat(201), "(?=v)", "(?<!v)1", String.raw`(a)\1`])(
    "refuses %p",
    (pattern) => {
      expect(compileTagPattern(pattern)).toBeUndefined();
    },
  );

  test.each(["(.{0,1000}){1000}", "(?:.?){1000}".repeat(16)])(
    "refuses %p, which few characters make long",
    (pattern) => {
      expect(compileTagPattern(pattern)).toBeUndefined();
    },
  );

  test.each(["(a+)+b", "(a|a)*b", "(.*a){40}b", "((a?){20}){20}b", String.raw`(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+x`])(
    "%p takes no longer for the longest tag than for others",
    (pattern) => {
      const compiled = compileTagPattern(pattern);
      const startedMs = performance.now();
      for (const tag of ["a".repeat(128), "1".repeat(128)]) expect(compiled?.test(tag)).toBe(false);
      expect(performance.now() - startedMs).toBeLessThan(1000); // an engine that backtracks takes seconds
    },
  );
});
