import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatBasicChallenge, formatBearerChallenge, parseChallenges } from "../../../src/registry/challenge.ts";

/** A plain picture of what was read: `[scheme, parameters, token68]`. */
function read(header: string): [string, Record<string, string>, string?][] {
  return parseChallenges(header).map((challenge) => {
    const parameters = Object.fromEntries(challenge.parameters);
    return challenge.token68 === undefined
      ? [challenge.scheme, parameters]
      : [challenge.scheme, parameters, challenge.token68];
  });
}

describe("parseChallenges()", () => {
  const bearer = { realm: "https://auth.test/token", service: "reg.test" };

  test.each<[string, string, ReturnType<typeof read>]>([
    ["quoted values", 'Bearer realm="https://auth.test/token",service="reg.test"', [["bearer", bearer]]],
    ["blanks around commas", 'Bearer realm="https://auth.test/token" , service="reg.test"', [["bearer", bearer]]],
    ["blanks around equals", 'Bearer realm = "https://auth.test/token",service\t=\t"reg.test"', [["bearer", bearer]]],
    ["unquoted values", "Bearer realm=https://auth.test/token,service=reg.test", [["bearer", bearer]]],
    ["a lower-case scheme", 'bearer realm="r"', [["bearer", { realm: "r" }]]],
    ["upper-case names", 'BEARER REALM="r",Service="S"', [["bearer", { realm: "r", service: "S" }]]],
    ["a tab behind the scheme", 'Bearer\trealm="r"', [["bearer", { realm: "r" }]]],
    ["no comma between parameters", 'Bearer realm="r" service="s"', [["bearer", { realm: "r", service: "s" }]]],
    ["escaped quotes", String.raw`Bearer realm="a\"b\\c\d"`, [["bearer", { realm: 'a"b\\cd' }]]],
    ["an empty value", 'Bearer realm="",service="s"', [["bearer", { realm: "", service: "s" }]]],
    [
      "a value that looks like a challenge",
      'Bearer realm="x, Basic realm=y"',
      [["bearer", { realm: "x, Basic realm=y" }]],
    ],
    ["the first of a repeated name", 'Bearer realm="a",realm="b"', [["bearer", { realm: "a" }]]],
    ["a scheme alone", "Negotiate", [["negotiate", {}]]],
    ["a token68", "Negotiate YWJj/+-._~==", [["negotiate", {}, "YWJj/+-._~=="]]],
    [
      "a token68 before another scheme",
      'Negotiate abc=, Basic realm="r"',
      [
        ["negotiate", {}, "abc="],
        ["basic", { realm: "r" }],
      ],
    ],
    [
      "two schemes in one line",
      'Basic realm="b", Bearer realm="r",service="s"',
      [
        ["basic", { realm: "b" }],
        ["bearer", { realm: "r", service: "s" }],
      ],
    ],
    [
      "a bare scheme before another",
      'Negotiate, Bearer realm="r"',
      [
        ["negotiate", {}],
        ["bearer", { realm: "r" }],
      ],
    ],
    ["empty elements", ', ,Bearer realm="r",,service="s",,', [["bearer", { realm: "r", service: "s" }]]],
    ["nothing", "", []],
    ["commas only", " , ,\t,", []],
  ])("[R92] reads %s", (_, header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  test("[R281] keeps the commas of a quoted scope", () => {
    const header = 'Bearer realm="https://a.test/t",service="s",scope="repository:a/b:pull,push repository:c:pull"';
    expect(read(header)).toEqual([
      ["bearer", { realm: "https://a.test/t", service: "s", scope: "repository:a/b:pull,push repository:c:pull" }],
    ]);
  });

  test("[R38] reads several header lines that were joined by a comma", () => {
    const lines = ['Basic realm="b"', 'Bearer realm="r",scope="repository:a:pull,push"', "Negotiate"];
    expect(read(lines.join(", ")).map(([scheme]) => scheme)).toEqual(["basic", "bearer", "negotiate"]);
  });

  test.each<[string, string, ReturnType<typeof read>]>([
    [
      "a value without its closing quote is dropped",
      'Bearer service="s",realm="https://evil',
      [["bearer", { service: "s" }]],
    ],
    ["a quote escaped at the end", String.raw`Bearer service="s",realm="x\"`, [["bearer", { service: "s" }]]],
    ["a missing value", "Bearer service=s,realm=,", [["bearer", { service: "s" }]]],
    ["a parameter without scheme", 'realm="r"', []],
    ["an equals sign alone", "=", []],
    ["a quoted text alone", '"Bearer realm=r"', []],
    ["a quoted text with a challenge in it", '"a, Bearer realm=r"', []],
    [
      "a word that follows a value",
      'Bearer service=my registry,realm="r"',
      [["bearer", { service: "my", realm: "r" }]],
    ],
    ["brackets", '{"errors":[]}', []],
    ["control characters", 'Bearer \0realm="r"', [["bearer", { realm: "r" }]]],
  ])("[R92] survives %s", (_, header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  test("[R92, T29] reads nothing from a header longer than 64 KiB, and never more than 32 challenges", () => {
    expect(parseChallenges(`Bearer realm="${"r".repeat(65_536)}"`)).toEqual([]);
    expect(read(`Bearer realm="${"r".repeat(65_000)}"`)[0]?.[1]["realm"]).toHaveLength(65_000);
    expect(parseChallenges("a,".repeat(30_000))).toHaveLength(32);
  });

  test.each([
    ["open quotes", '"'.repeat(65_535)],
    ["escapes", `Bearer a="${"\\".repeat(65_000)}`],
    ["equals signs", `Bearer ${"=".repeat(65_000)}`],
    ["near token68s", `Bearer ${"a=".repeat(32_000)}!`],
    ["blanks", `Bearer a${" ".repeat(65_000)}b`],
    ["words", `Bearer a="b" ${"c ".repeat(32_000)}`],
    ["parameters", `Bearer ${"a=b,".repeat(16_000)}`],
  ])("[R92, T29] is done at once with 64 KiB of %s", (_, header) => {
    const startMs = performance.now();
    parseChallenges(header);
    expect(performance.now() - startMs).toBeLessThan(500);
  });

  test("[R92] never throws, whatever comes", () => {
    const grammatical = fc.array(
      fc.constantFrom(
        "Bearer",
        "Basic",
        "realm",
        "=",
        '"',
        "\\",
        ",",
        " ",
        "\t",
        "abc==",
        "https://a.test/t",
        ";",
        "\0",
        "é",
      ),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          grammatical.map((parts) => parts.join("")),
        ),
        (header) => {
          for (const { scheme } of parseChallenges(header)) expect(scheme).toBe(scheme.toLowerCase());
        },
      ),
      { numRuns: 3000 },
    );
  });
});

describe("formatBearerChallenge()", () => {
  test("[R90] quotes every value, realm and service first", () => {
    const challenge = {
      realm: "https://layover.test/token/ghcr",
      service: "layover.test",
      scope: "repository:org/app:pull,push",
      error: "invalid_token",
    } as const;
    expect(formatBearerChallenge(challenge)).toBe(
      'Bearer realm="https://layover.test/token/ghcr",service="layover.test",scope="repository:org/app:pull,push",error="invalid_token"',
    );
  });

  test("[R121] makes one challenge of one scheme, without what was not given", () => {
    expect(formatBearerChallenge({ realm: "r", service: "s", scope: undefined, error: undefined })).toBe(
      'Bearer realm="r",service="s"',
    );
  });

  test("[R92, T29] escapes quotes and lets no line break into a header", () => {
    expect(formatBearerChallenge({ realm: 'a"b\\c\r\nSet-Cookie: x', service: "s\0" })).toBe(
      String.raw`Bearer realm="a\"b\\cSet-Cookie: x",service="s"`,
    );
  });

  test("[R90, R92, R121] is read back as it was written", () => {
    const text = fc.string({ unit: fc.constantFrom(...'abc:/,;="\\ é') });
    const error = fc.constantFrom("invalid_token" as const, "insufficient_scope" as const, undefined);
    fc.assert(
      fc.property(text, text, fc.option(text, { nil: undefined }), error, (realm, service, scope, reason) => {
        const [challenge, ...more] = parseChallenges(formatBearerChallenge({ realm, service, scope, error: reason }));
        expect(more).toEqual([]);
        expect(challenge?.scheme).toBe("bearer");
        const { parameters } = challenge ?? { parameters: new Map<string, string>() };
        expect(["realm", "service", "scope", "error"].map((name) => parameters.get(name))).toEqual([
          realm,
          service,
          scope,
          reason,
        ]);
      }),
    );
  });
});

test("[R92] formatBasicChallenge() is read back as it was written", () => {
  expect(formatBasicChallenge('lay "over"')).toBe(String.raw`Basic realm="lay \"over\""`);
  expect(read(formatBasicChallenge('lay "over"'))).toEqual([["basic", { realm: 'lay "over"' }]]);
});
