import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type ByteRange,
  formatContentRange,
  formatRange,
  parseContentRange,
  parseRange,
  singleRange,
} from "../../../src/registry/range.ts";

const whole = { kind: "whole" } as const;
const unsatisfiable = { kind: "unsatisfiable" } as const;

function ranges(...pairs: [number, number][]) {
  return { kind: "ranges" as const, ranges: pairs.map(([first, last]) => ({ first, last })) };
}

describe("parseRange()", () => {
  test.each([
    ["bytes=500-1499", ranges([500, 1499])],
    ["bytes=500-", ranges([500, 2047])],
    ["bytes=-500", ranges([1548, 2047])],
    ["bytes=2000-5000", ranges([2000, 2047])],
    ["bytes=0-0", ranges([0, 0])],
    ["bytes=2047-", ranges([2047, 2047])],
    ["bytes=-5000", ranges([0, 2047])],
    ["BYTES=1-2", ranges([1, 2])],
    [" bytes= 1-2 ", ranges([1, 2])],
    ["bytes=0-99999999999999999999999", ranges([0, 2047])],
  ])("[R265, R89] %s of 2048 bytes is one range, clipped to the end", (header, expected) => {
    expect(parseRange(header, 2048)).toEqual(expected);
  });

  test("[R267] bytes=0- is a range, not the whole", () => {
    expect(parseRange("bytes=0-", 2048)).toEqual(ranges([0, 2047]));
  });

  test.each([
    ["bytes=2048-", 2048],
    ["bytes=5000-10000", 2048],
    ["bytes=99999999999999999999999-", 2048],
    ["bytes=-0", 2048],
    ["bytes=3000-,-0", 2048],
    ["bytes=0-", 0],
    ["bytes=0-0", 0],
    ["bytes=-0", 0],
  ])("[R266] %s of %i bytes cannot be satisfied", (header, total) => {
    expect(parseRange(header, total)).toEqual(unsatisfiable);
  });

  test("[R266] the last bytes of an empty blob are the whole of it", () => {
    expect(parseRange("bytes=-5", 0)).toEqual(whole);
    expect(parseRange("bytes=0-0,-5", 0)).toEqual(whole);
  });

  test("[R268] a last before its first cannot be satisfied, in a set neither", () => {
    expect(parseRange("bytes=500-0", 2048)).toEqual(unsatisfiable);
    expect(parseRange("bytes=0-1,500-0", 2048)).toEqual(unsatisfiable);
  });

  test.each([
    null,
    undefined,
    "",
    "items=0-1",
    "bytes",
    "bytes=",
    "bytes=,",
    "bytes=a-b",
    "bytes=-",
    "bytes=1",
    "bytes=1-2-3",
    "bytes=--1",
    "bytes=+1-2",
    "bytes=0x1-2",
    "bytes=1-2;3-4",
    "bytes=0-1,x",
    "bytes =0-1",
    "bytes=１-２",
    "bytes=0-1\nX: y",
  ])("[R268] ignores %j", (header) => {
    expect(parseRange(header, 2048)).toEqual(whole);
  });

  test("[R269] keeps several ranges in their order, drops those beyond the end and empty elements", () => {
    expect(parseRange("bytes=10-19, 0-4,,-3", 100)).toEqual(ranges([10, 19], [0, 4], [97, 99]));
    expect(parseRange("bytes=0-1,200-300", 100)).toEqual(ranges([0, 1]));
  });

  test("[R269] gives the whole for ranges that overlap beyond reason", () => {
    expect(parseRange("bytes=0-,0-", 100)).toEqual(whole);
    expect(parseRange("bytes=0-49,50-99", 100)).toEqual(ranges([0, 49], [50, 99]));
    expect(parseRange("bytes=0-49,49-99", 100)).toEqual(whole);
  });

  test("[R269] gives the whole for more than a thousand ranges or an endless header", () => {
    const many = (count: number) => `bytes=${Array.from({ length: count }, (_, at) => `${at}-${at}`).join(",")}`;
    expect(parseRange(many(1000), 10_000)).toMatchObject({ kind: "ranges" });
    expect(parseRange(many(1001), 10_000)).toEqual(whole);
    expect(parseRange(`bytes=0-1${",".repeat(1_000_000)}`, 10_000)).toEqual(whole);
  });

  test("[R265, R269] gives ranges that lie within the total and are together no longer, whatever comes", () => {
    const number = fc.oneof(fc.nat(200), fc.bigInt({ min: 0n, max: 10n ** 30n }));
    const spec = fc.oneof(
      fc.tuple(number, number).map(([first, last]) => `${first}-${last}`),
      number.map((first) => `${first}-`),
      number.map((suffix) => `-${suffix}`),
      fc.string({ maxLength: 5 }),
    );
    const header = fc.array(spec, { minLength: 1, maxLength: 5 }).map((specs) => `bytes=${specs.join(",")}`);
    fc.assert(
      fc.property(header, fc.oneof(fc.nat(100), fc.maxSafeNat()), (value, total) => {
        const result = parseRange(value, total);
        if (result.kind !== "ranges") return;
        expect(result.ranges.length).toBeGreaterThan(0);
        expect(result.ranges.every((range) => isWithin(range, total))).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });
});

function isWithin({ first, last }: ByteRange, total: number): boolean {
  return Number.isSafeInteger(first) && Number.isSafeInteger(last) && 0 <= first && first <= last && last < total;
}

describe("singleRange()", () => {
  test.each([
    ["bytes=0-", { first: 0, last: undefined }],
    ["bytes=5-9", { first: 5, last: 9 }],
    ["bytes=-5", { suffix: 5 }],
    ["bytes=5-9,", { first: 5, last: 9 }],
  ])("[R270] reads %s without knowing the total", (header, expected) => {
    expect(singleRange(header)).toEqual(expected);
  });

  test.each([
    null,
    undefined,
    "",
    "bytes=0-1,5-9",
    "bytes=9-5",
    "bytes=x",
    "items=1-2",
    "bytes=0-9007199254740992",
    "bytes=-99999999999999999999",
    "bytes=0-1\r\nX: y",
  ])("[R141, R268, R270] gives nothing to send upstream for %j", (header) => {
    expect(singleRange(header)).toBeUndefined();
  });

  test("[R270] formatRange() writes what was read", () => {
    for (const header of ["bytes=0-", "bytes=5-9", "bytes=-5"]) {
      const range = singleRange(header);
      expect(range && formatRange(range)).toBe(header);
    }
  });
});

describe("parseContentRange()", () => {
  test.each([
    ["bytes 0-9/100", { first: 0, last: 9, total: 100 }],
    ["Bytes 0-9/*", { first: 0, last: 9, total: undefined }],
    [" bytes 99-99/100 ", { first: 99, last: 99, total: 100 }],
  ])("[R272] reads %j", (value, expected) => {
    expect(parseContentRange(value)).toEqual(expected);
  });

  test.each([
    null,
    "",
    "bytes */100",
    "bytes 0-9",
    "bytes 9-0/100",
    "bytes 0-100/100",
    "bytes 0-9/x",
    "bytes=0-9/100",
    "items 0-9/100",
    "0-9",
    "bytes -9/100",
    "bytes 0-9/99999999999999999999",
    "bytes 0-99999999999999999999/*",
  ])("[R272] refuses %j", (value) => {
    expect(parseContentRange(value)).toBeUndefined();
  });
});

test("[R265, R266] formatContentRange() writes digits for the total, and a star for a range that cannot be", () => {
  expect(formatContentRange({ first: 0, last: 9 }, 100)).toBe("bytes 0-9/100");
  expect(formatContentRange(undefined, 100)).toBe("bytes */100");
});
