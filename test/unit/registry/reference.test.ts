import { describe, expect, test } from "bun:test";
import { isRepositoryName, isTag, parseReference, referenceText } from "../../../src/registry/reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

describe("isRepositoryName()", () => {
  test.each(["a", "0", "library/nginx", "a__b", "a---b", "a.b/c-d_e", "foo/manifests/bar", "v2", "a/b/c/d/e/f"])(
    "[R7, R8] accepts %s",
    (name) => {
      expect(isRepositoryName(name)).toBe(true);
    },
  );

  test.each([
    "",
    "a..b",
    "a___b",
    "-a",
    "a-",
    "a/",
    "/a",
    "A",
    "a//b",
    "a/-b",
    "a._b",
    "_a",
    "a b",
    "a\n",
    "a%2fb",
    "..",
    "a/../b",
    "é",
    "a:5000/b",
  ])("[R7, R8] refuses %j", (name) => {
    expect(isRepositoryName(name)).toBe(false);
  });

  test("[R8] accepts 255 characters and refuses 256", () => {
    expect(isRepositoryName("a".repeat(255))).toBe(true);
    expect(isRepositoryName("a".repeat(256))).toBe(false);
  });

  test("[R7] answers at once for a long name that fails at its end", () => {
    expect(isRepositoryName(`${"a-".repeat(127)}!`)).toBe(false);
    expect(isRepositoryName("a".repeat(10_000_000))).toBe(false);
  });
});

describe("isTag()", () => {
  test.each(["latest", "_", "1.0", "A-b_C.d"])("[R9] accepts %s", (tag) => {
    expect(isTag(tag)).toBe(true);
  });

  test.each(["", ".a", "-a", "a/b", "a:b", "a b", "a\n", "ä", "a+b", "%41"])("[R9] refuses %j", (tag) => {
    expect(isTag(tag)).toBe(false);
  });
});

test("[R9] isTag() accepts 128 characters and refuses 129", () => {
  expect(isTag("a".repeat(128))).toBe(true);
  expect(isTag("a".repeat(129))).toBe(false);
});

describe("parseReference()", () => {
  test("[R13] takes what has a colon for a digest, and anything else for a tag", () => {
    expect(parseReference("latest")).toEqual({ kind: "tag", tag: "latest" });
    expect(parseReference(digest)).toMatchObject({ kind: "digest", digest: { text: digest } });
    // Fits the grammar of a tag: only the colon makes a digest.
    expect(parseReference("sha256-abc.sig")).toEqual({ kind: "tag", tag: "sha256-abc.sig" });
  });

  test.each(["", "a:b:c", "sha256:ABC", "latest:", ":latest", "a/b", "-"])(
    "[R12, R13] knows %j for neither",
    (text) => {
      expect(parseReference(text)).toBeUndefined();
    },
  );

  test("referenceText() gives back what was read", () => {
    for (const text of ["latest", digest]) {
      const reference = parseReference(text);
      expect(reference && referenceText(reference)).toBe(text);
    }
  });
});
