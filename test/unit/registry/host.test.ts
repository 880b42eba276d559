import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isIpLiteral, parseHost } from "../../../src/registry/host.ts";

describe("parseHost()", () => {
  test.each([
    ["ghcr.io", "ghcr.io", undefined],
    ["GHCR.io", "ghcr.io", undefined],
    ["localhost:5000", "localhost", 5000],
    ["reg.example:1", "reg.example", 1],
    ["a-b.example:65535", "a-b.example", 65535],
    ["192.0.2.1:80", "192.0.2.1", 80],
    ["2130706433", "2130706433", undefined],
    ["[::1]", "[::1]", undefined],
    ["[::1]:5000", "[::1]", 5000],
    ["[2001:DB8::7]:443", "[2001:db8::7]", 443],
    ["[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7:8]", undefined],
    ["[::]", "[::]", undefined],
    ["host:05000", "host", 5000],
  ])("[R17, R256] reads %s", (text, name, port) => {
    expect(parseHost(text)).toEqual({ name, port, text: port === undefined ? name : `${name}:${port}` });
  });

  test.each([
    ["nothing", ""],
    ["a path", "a/b"],
    ["a path that looks like ours", "a/v2/x?"],
    ["a query", "a?b"],
    ["a fragment", "a#b"],
    ["userinfo", "u@a"],
    ["userinfo with password", "u:p@a"],
    ["an empty port", "a:"],
    ["port 0", "a:0"],
    ["port 65536", "a:65536"],
    ["a long port", "a:000080"],
    ["a port in letters", "a:http"],
    ["a signed port", "a:+80"],
    ["two ports", "a:1:2"],
    ["a port only", ":80"],
    ["a zone id", "[fe80::1%eth0]"],
    ["an encoded zone id", "[fe80::1%25eth0]"],
    ["an unclosed bracket", "[::1"],
    ["text behind the bracket", "[::1]x"],
    ["an empty bracket", "[]"],
    ["IPv6 without brackets", "::1"],
    ["two double colons", "[1::2::3]"],
    ["three colons", "[:::]"],
    ["too many groups", "[1:2:3:4:5:6:7:8:9]"],
    ["too few groups", "[1:2:3]"],
    ["a double colon for nothing", "[1:2:3:4:5:6:7:8::]"],
    ["a long group", "[12345::]"],
    ["a mapped address with dots", "[::ffff:192.0.2.1]"],
    ["an empty label", "a..b"],
    ["a leading dot", ".a"],
    ["a trailing dot", "a."],
    ["a leading dash", "-a.b"],
    ["a trailing dash", "a-.b"],
    ["an underscore", "a_b.c"],
    ["a blank", "a b"],
    ["a tab", "a\tb"],
    ["a line break", "a\r\nX: y"],
    ["a trailing line break", "a\n"],
    ["a NUL", "a\0"],
    ["a backslash", "a\\b"],
    ["an umlaut", "ä.example"],
    ["a letter that lower-cases to ASCII (Kelvin)", "\u212a.example"],
    ["full-width dots", "a\uff0eb"],
    ["percent-encoding", "a%2eb"],
    ["a star", "*.a"],
    ["a label of 64", `${"a".repeat(64)}.b`],
    ["a name of 254", `${"a.".repeat(126)}aa`],
    ["a megabyte", "a".repeat(1_000_000)],
  ])("[R17, R109, R256] refuses %s", (_, text) => {
    expect(parseHost(text)).toBeUndefined();
  });

  test("[R17] gives only what can stand in a URL as a host, whatever comes", () => {
    const hostile = fc.string({ unit: fc.constantFrom(..."aZ0.-:[]/@?#%\\ \t\n_é") });
    fc.assert(
      fc.property(hostile, (text) => {
        const host = parseHost(text);
        if (host === undefined) return;
        expect(host.text).toMatch(/^(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[1-9][0-9]*)?$/);
        expect(parseHost(host.text)).toEqual(host);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("isIpLiteral()", () => {
  test.each([
    ["192.0.2.1", true],
    ["192.0.2.1:80", true],
    ["[::1]:5000", true],
    ["2852039166", true],
    ["0xa9fea9fe", true],
    ["0xA9.254", true],
    ["127.1", true],
    ["0251.0376.0251.0376", true],
    ["0x", true],
    ["ghcr.io", false],
    ["localhost", false],
    ["1.example", false],
    ["a0x1", false],
  ])("[T18] %s → %j", (text, expected) => {
    const host = parseHost(text);
    expect(host && isIpLiteral(host)).toBe(expected);
  });
});
