import { expect, test } from "bun:test";
import { matchesEtag, passedDown, readableRetryAfter } from "../../../src/proxy/headers.ts";

test.each([
  ["120", "120"],
  ["0", "0"],
  ["Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"],
  ["-1", undefined],
  ["1e9", undefined],
  ["9".repeat(10), undefined],
  ["x".repeat(150_000), undefined],
  ["", undefined],
  [null, undefined],
] as const)("[R39] readableRetryAfter(%#) passes on what clients can read", (value, expected) => {
  expect(readableRetryAfter(value)).toBe(expected);
});

test("[R220] passedDown() gives only what is named, and warnings a line each", () => {
  const headers = new Headers({
    "oci-filters-applied": "artifactType",
    "set-cookie": "a=b",
    "x-amz-id-2": "x",
    "retry-after": "5",
  });
  headers.append("warning", '299 - "one"');
  headers.append("warning", '299 - "two"');
  expect(passedDown(headers)).toEqual([
    ["OCI-Filters-Applied", "artifactType"],
    ["Warning", '299 - "one"'],
    ["Warning", '299 - "two"'],
  ]);
});

test.each([
  ['"sha256:a"', true],
  ['W/"sha256:a"', true],
  ['"x", "sha256:a"', true],
  ["*", true],
  ['"sha256:b"', false],
  ["sha256:a", false],
  [null, false],
] as const)("[R44] matchesEtag(%p) is %p", (value, expected) => {
  expect(matchesEtag(value, "sha256:a")).toBe(expected);
});
