import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isPattern, matchesAny } from "../../../src/registry/pattern.ts";

describe("matchesAny()", () => {
  test.each([
    ["myorg/app", "myorg/app", true],
    ["myorg/app", "myorg/app2", false],
    ["myorg/app", "myorg/app/x", false],
    ["myorg", "myorg/app", false],
    ["myorg/*", "myorg/app", true],
    ["myorg/*", "myorg/app/x", false],
    ["myorg/*", "myorg", false],
    ["*", "app", true],
    ["*", "myorg/app", false],
    ["**", "app", true],
    ["**", "myorg/app/x", true],
    ["myorg/**", "myorg/app", true],
    ["myorg/**", "myorg/app/x/y", true],
    ["myorg/**", "myorg", false],
    ["myorg/**", "myorganic/app", false],
    ["**/base", "base", true],
    ["**/base", "a/b/base", true],
    ["**/base", "a/b/base/c", false],
    ["a/**/z", "a/z", true],
    ["a/**/z", "a/b/c/z", true],
    ["a/**/z", "a/b/c", false],
    ["a/**/b/**/c", "a/x/b/y/b/c", true],
    ["myorg/secret*", "myorg/secret", true],
    ["myorg/secret*", "myorg/secret-x", true],
    ["myorg/secret*", "myorg/secret-x/y", false],
    ["*/nginx-?.*", "library/nginx-1.25", true],
    ["*/nginx-?.*", "library/nginx-10.1", false],
    ["a*b*c", "aXbYc".toLowerCase(), true],
    ["a*b*c", "axbyd", false],
    ["a.c", "abc", false],
    ["a**c", "abbc", true],
    ["a**c", "ab/bc", false],
    ["", "", false],
    ["(a|b)", "a", false],
  ])("%j on %j is %j", (pattern, name, expected) => {
    expect(matchesAny([pattern], name)).toBe(expected);
  });

  test("asks every pattern, and none matches nothing", () => {
    expect(matchesAny(["a/*", "b/**"], "b/c/d")).toBe(true);
    expect(matchesAny([], "a")).toBe(false);
  });

  test("is done at once with patterns that are all stars", () => {
    const startMs = performance.now();
    expect(matchesAny([`${"*a".repeat(100)}*b`], "a".repeat(255))).toBe(false);
    expect(matchesAny([`${"**/a/".repeat(50)}b`], `${"a/".repeat(127)}c`)).toBe(false);
    expect(performance.now() - startMs).toBeLessThan(200);
  });

  test("agrees with the plain regular expression of short patterns", () => {
    const pattern = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "*", "?"), minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 4,
    });
    const components = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(pattern, components, (parts, words) => {
        const name = words.join("/");
        expect(matchesAny([parts.join("/")], name)).toBe(plainExpression(parts).test(`/${name}`));
      }),
      { numRuns: 2000 },
    );
  });
});

/** The same glob, slow and obvious, for a name with a slash before it. */
function plainExpression(parts: string[]): RegExp {
  const written = parts.map((part, at) => {
    if (part !== "**") return `/${part.replace(/\*+/g, "[^/]*").replaceAll("?", "[^/]")}`;
    return at > 0 && at === parts.length - 1 ? "(?:/[^/]+)+" : "(?:/[^/]+)*";
  });
  return new RegExp(`^${written.join("")}$`);
}

test("isPattern() knows what can match a name", () => {
  for (const text of ["a", "**", "a/*/b?", "my_org/a.b-c"]) expect(isPattern(text)).toBe(true);
  for (const text of ["", "/a", "a/", "a//b", "A", "!a", "{a,b}", "[ab]", "a b", "a".repeat(256)]) {
    expect(isPattern(text)).toBe(false);
  }
});
