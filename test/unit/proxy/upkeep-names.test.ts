import { expect, test } from "bun:test";
import { matchesText } from "../../../src/proxy/upkeep-names.ts";

test.each([
  ["app", "quay.io/org/app:1", true],
  ["", "anything", true],
  ["quay.io/*", "quay.io/org/app:1", true],
  ["quay.io/*", "ghcr.io/org/quay.io/x:1", false],
  ["*:1", "quay.io/org/app:1", true],
  ["*:1", "quay.io/org/app:12", false],
  ["*/org/*:1*", "quay.io/org/app:1.2", true],
  ["a*a", "a", false],
  ["a*a", "aa", true],
  ["a*b*b", "ab", false],
  ["*", "", true],
  ["a.c", "abc", false],
])("matchesText() %j in %j: %p", (pattern, text, expected) => expect(matchesText(pattern, text)).toBe(expected));
