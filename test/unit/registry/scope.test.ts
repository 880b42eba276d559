import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatScope, parseScopes } from "../../../src/registry/scope.ts";

describe("parseScopes()", () => {
  test.each([
    ["repository:library/nginx:pull", [["repository", "library/nginx", "pull"]]],
    ["repository:localhost:5000/a/b:pull,push", [["repository", "localhost:5000/a/b", "pull,push"]]],
    ["repository:[::1]:5000/a:pull", [["repository", "[::1]:5000/a", "pull"]]],
    ["repository(plugin):a/b:pull", [["repository(plugin)", "a/b", "pull"]]],
    ["registry:catalog:*", [["registry", "catalog", "*"]]],
    [
      "repository:a:pull repository:b:pull,push",
      [
        ["repository", "a", "pull"],
        ["repository", "b", "pull,push"],
      ],
    ],
    ["  repository:a:pull  ", [["repository", "a", "pull"]]],
    ["", []],
  ])("[R100] reads %j", (text, expected) => {
    expect(parseScopes(text).map((scope) => [scope.type, scope.name, scope.actions.join(",")])).toEqual(expected);
  });

  test.each([
    "repository",
    "repository:",
    "repository:pull",
    "repository::pull",
    "repository:a:",
    "repository:a:pull,",
    "repository:a:PULL",
    "Repository:a:pull",
    ":a:pull",
    "::",
    'repository:a"b:pull',
    "repository:a\nb:pull",
    "repository:a%2fb:pull",
  ])("[R100] drops %j and keeps its neighbour", (text) => {
    expect(parseScopes(`${text} repository:kept:pull`).map(formatScope)).toEqual(["repository:kept:pull"]);
  });

  test("[R100] drops names and actions of endless length", () => {
    expect(parseScopes(`repository:${"a".repeat(512)}:pull repository:a:${"x".repeat(33)}`)).toEqual([]);
  });

  test("[R100] reads a hundred scopes and no more", () => {
    expect(parseScopes("repository:a:pull ".repeat(200))).toHaveLength(100);
  });

  test("[R100] never throws, and formatScope() writes what was read", () => {
    const text = fc.string({ unit: fc.constantFrom(..."ab:,/() *[]5") });
    fc.assert(
      fc.property(text, (scopes) => {
        const read = parseScopes(scopes);
        expect(parseScopes(read.map(formatScope).join(" "))).toEqual(read);
      }),
      { numRuns: 2000 },
    );
  });
});
