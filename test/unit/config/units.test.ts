import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  formatListen,
  formatTime,
  parseCidr,
  parseListen,
  parseNginxTime,
  parsePeerRange,
  parseResolver,
  parseSize,
  parseTcpAddress,
  parseTime,
} from "../../../src/config/units.ts";

const DAY_MS = 86_400_000;

describe("parseSize()", () => {
  test.each([
    ["0", 0],
    ["1024", 1024],
    ["1k", 1024],
    ["1.5K", 1536],
    ["512m", 512 * 1024 ** 2],
    ["32g", 32 * 1024 ** 3],
    ["2t", 2 * 1024 ** 4],
  ])("reads %p as %p bytes", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test.each(["", "g", "-1", "1kb", "1 g", "0x10", "1e3", "99999999t", "٣"])(
    "refuses %p and says what it wants",
    (text) => {
      expect(() => parseSize(text)).toThrow("expected a size such as 512m, 32g or 1t");
    },
  );
});

describe("parseTime()", () => {
  test.each([
    ["0", 0],
    ["250ms", 250],
    ["30s", 30_000],
    ["1.5h", 5_400_000],
    ["1h30m", 5_400_000],
    ["60d", 60 * DAY_MS],
    ["1d1ms", DAY_MS + 1],
  ])("reads %p as %p ms", (text, ms) => expect(parseTime(text)).toBe(ms));

  test.each(["", "s", "-1s", "1 s", "1S", "1m1", "1w", "s1", "1..5s", "9".repeat(30) + "d"])("refuses %p", (text) => {
    expect(() => parseTime(text)).toThrow("expected a time such as 30s, 10m or 1h30m");
  });

  test("tells what to write when the unit is missing", () => {
    expect(() => parseTime("30")).toThrow('got "30"; write 30s for seconds');
  });

  test("formatTime() writes what parseTime() reads", () => {
    fc.assert(fc.property(fc.nat({ max: 2 ** 40 }), (ms) => expect(parseTime(formatTime(ms))).toBe(ms)));
  });
});

describe("parseNginxTime()", () => {
  test.each([
    ["60", 60_000],
    ["30s", 30_000],
    ["500ms", 500],
    ["1m 30s", 90_000],
    ["1d12h", 1.5 * DAY_MS],
    ["1w", 7 * DAY_MS],
    ["1M", 30 * DAY_MS],
    ["1y", 365 * DAY_MS],
    ["1m30", 90_000],
  ])("reads %p as %p ms", (text, ms) => expect(parseNginxTime(text)).toBe(ms));

  test.each(["", "x", "60ss", "10 20", "-5", "1.5h", "1 m"])("refuses %p", (text) => {
    expect(() => parseNginxTime(text)).toThrow("expected an nginx time such as 60, 30s or 1d12h");
  });
});

describe("parseListen()", () => {
  test.each([
    [":5000", undefined, 5000],
    ["*:80", undefined, 80],
    ["127.0.0.1:5000", "127.0.0.1", 5000],
    ["0.0.0.0:1", "0.0.0.0", 1],
    ["[::1]:0", "::1", 0],
    ["[fe80::1%eth0]:65535", "fe80::1%eth0", 65535],
    ["LOCALHOST:5000", "localhost", 5000],
  ])("reads %p", (text, host, port) => expect(parseListen(text)).toEqual({ kind: "tcp", host, port }));

  test("reads unix sockets", () => {
    expect(parseListen("unix:/run/a b.sock")).toEqual({ kind: "unix", path: "/run/a b.sock" });
  });

  test.each([
    ["5000", "write :5000"],
    ["::1", "write [::1]:5000"],
    [":65536", "expected an address"],
    ["1.2.3:80", "expected an address"],
    ["256.0.0.1:80", "expected an address"],
    ["[1.2.3.4]:80", "expected an address"],
    ["http://host:80", "expected an address"],
    ["host", "expected an address"],
    ["host:", "expected an address"],
    ["a b:80", "expected an address"],
    ["", "got nothing"],
    ["unix:", "a path of 1 to 107 bytes"],
    [`unix:/${"ü".repeat(60)}`, "a path of 1 to 107 bytes"],
  ])("refuses %p: %s", (text, why) => expect(() => parseListen(text)).toThrow(why));

  test.each([":5000", "127.0.0.1:5000", "[::1]:0", "localhost:80", "unix:/x.sock"])(
    "formatListen() gives %p again",
    (text) => {
      expect(formatListen(parseListen(text))).toBe(text);
    },
  );

  test("parseTcpAddress() knows no unix sockets", () => {
    expect(() => parseTcpAddress("unix:/x")).toThrow("expected an address");
  });
});

describe("parseResolver()", () => {
  test.each([
    ["10.0.0.53", "10.0.0.53:53"],
    ["10.0.0.53:5353", "10.0.0.53:5353"],
    ["fd00::53", "[fd00::53]:53"],
    ["[fd00::53]", "[fd00::53]:53"],
    ["[fd00::53]:5353", "[fd00::53]:5353"],
  ])("reads %p as %p", (text, address) => expect(parseResolver(text)).toBe(address));

  test.each([
    "",
    ":53",
    "dns.example",
    "dns.example:53",
    "10.0.53",
    "010.0.0.53",
    "10.0.0.53:",
    "10.0.0.53:0",
    "10.0.0.53:65536",
    "[10.0.0.53]:53",
    "[fd00::53",
    "fe80::53%eth0",
    "[fe80::53%eth0]:53",
    "udp://10.0.0.53",
  ])("refuses %p", (text) => expect(() => parseResolver(text)).toThrow("expected the address of a DNS server"));
});

describe("parseCidr()", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["192.0.2.7", "192.0.2.7/32"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["2001:DB8::/32", "2001:db8::/32"],
    ["::1", "::1/128"],
  ])("reads %p as %p", (text, range) => expect(parseCidr(text)).toBe(range));

  test.each([
    "",
    "/",
    "/8",
    "10.1/8",
    "010.0.0.1/8",
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
    "fe80::1%e/64",
    "unix",
    "host",
  ])("refuses %p, also where other programs read something else into it", (text) =>
    expect(() => parseCidr(text)).toThrow("expected an address range"),
  );

  test("parsePeerRange() takes unix too, and says so", () => {
    expect(parsePeerRange("unix")).toBe("unix");
    expect(() => parsePeerRange("UNIX")).toThrow("or unix");
  });
});
