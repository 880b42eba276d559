import { describe, expect, test } from "bun:test";
import {
  DOMAIN,
  LISTEN,
  MAP_LOCATION,
  ORIGIN,
  PEER_RANGES,
  PROXY,
  REGISTRY_NAME,
  SWITCH,
  oneOf,
  shownUrl,
  time,
} from "../../../src/config/kinds.ts";

describe("SWITCH", () => {
  test.each([
    ["true", true],
    ["YES", true],
    ["on", true],
    ["1", true],
    ["False", false],
    ["no", false],
    ["off", false],
    ["0", false],
  ])("reads %p as %p", (text, value) => expect(SWITCH.parse(text)).toBe(value));

  test.each(["", "2", "constructor", "y", "truee"])("refuses %p", (text) => {
    expect(() => SWITCH.parse(text)).toThrow("expected true or false");
  });
});

describe("DOMAIN", () => {
  test.each([
    ["Example.COM", "example.com"],
    [".example.com", "example.com"],
    ["*.example.com", "example.com"],
    ["example.com.", "example.com"],
    ["localhost", "localhost"],
    ["München.example", "xn--mnchen-3ya.example"],
  ])("reads %p as %p", (text, domain) => expect(DOMAIN.parse(text)).toBe(domain));

  test.each([
    "",
    ".",
    "https://example.com",
    "example.com:443",
    "example.com/x",
    "a b",
    "a_b.example",
    "-a.example",
    "a..b",
    "192.0.2.1",
    "[::1]",
    `${"a".repeat(64)}.example`,
  ])("refuses %p", (text) => expect(() => DOMAIN.parse(text)).toThrow("expected a domain such as"));
});

describe("ORIGIN", () => {
  test.each([
    ["https://registry.example.com", "https://registry.example.com"],
    ["https://Registry.example.com:443/", "https://registry.example.com"],
    ["http://[::1]:5000", "http://[::1]:5000"],
  ])("reads %p as %p", (text, origin) => expect(ORIGIN.parse(text)).toBe(origin));

  test.each([
    "",
    "registry.example.com",
    "ftp://h",
    "https://h/path",
    "https://h?q",
    "https://h/#",
    "https://u@h",
    "https://",
  ])("refuses %p", (text) => {
    expect(() => ORIGIN.parse(text)).toThrow("expected a URL such as");
  });
});

describe("PROXY", () => {
  test.each([
    ["http://proxy:3128", "http://proxy:3128"],
    ["proxy:3128", "http://proxy:3128"],
    ["socks5h://user:secret@proxy:1080/", "socks5h://user:secret@proxy:1080"],
    ["https://proxy", "https://proxy"],
  ])("reads %p as %p", (text, url) => expect(PROXY.parse(text)).toBe(url));

  test.each(["", "ftp://proxy", "socks4://proxy:1", "http://proxy/path", "http://proxy?x", "http://"])(
    "refuses %p",
    (text) => {
      expect(() => PROXY.parse(text)).toThrow("expected a proxy such as");
    },
  );

  test("never shows a password in its complaint", () => {
    expect(() => PROXY.parse("ftp://user:hunter2@proxy")).toThrow('"ftp://***@proxy"');
  });
});

describe("MAP_LOCATION", () => {
  test("tells files from URLs", () => {
    expect(MAP_LOCATION.parse("maps/registrymap.json")).toEqual({ kind: "file", path: "maps/registrymap.json" });
    expect(MAP_LOCATION.parse("https://h/map.json?x=1")).toEqual({ kind: "url", url: "https://h/map.json?x=1" });
  });

  test.each([
    "http://h/map.json",
    "https://user:pw@h/map.json",
    "https://user@h/x",
    "ftp://h/x",
    "https://",
    "https://h/#x",
  ])("[C38] refuses %p", (text) => {
    expect(() => MAP_LOCATION.parse(text)).toThrow("expected a file or an https URL without credentials");
  });
});

test("REGISTRY_NAME takes keys and URLs only", () => {
  expect(REGISTRY_NAME.parse("k8s-gcr")).toBe("k8s-gcr");
  expect(REGISTRY_NAME.parse("http://127.0.0.1:5000/v2/x")).toBe("http://127.0.0.1:5000/v2/x");
  for (const text of ["", "a_b", "ftp://h", "https://h x", "quay.io/x"])
    expect(() => REGISTRY_NAME.parse(text)).toThrow("expected a key");
});

test("lists take commas, spaces and at least one value", () => {
  expect(PEER_RANGES.parse("10.0.0.0/8, unix ::1")).toEqual(["10.0.0.0/8", "unix", "::1/128"]);
  expect(LISTEN.parse(":1,:2")).toHaveLength(2);
  expect(() => PEER_RANGES.parse(" , ")).toThrow("expected at least one value");
  expect(() => PEER_RANGES.parse("10.0.0.0/8,x")).toThrow('got "x"');
});

test("oneOf() ignores case and lists the words", () => {
  expect(oneOf(["info", "warn"]).parse("WARN")).toBe("warn");
  expect(() => oneOf(["trace", "info", "warn"]).parse("loud")).toThrow('expected trace, info or warn, got "loud"');
});

test("time() keeps within what a timer can hold", () => {
  expect(time(1).parse("24d")).toBe(24 * 86_400_000);
  expect(() => time(1).parse("25d")).toThrow("expected a time from 1ms to 24d");
  expect(() => time(1).parse("0")).toThrow("expected a time from 1ms to 24d");
});

test("shownUrl() drops userinfo and query, however the rest looks", () => {
  expect(shownUrl("https://u:p@h/x?token=y")).toBe('"https://***@h/x?***"');
  expect(shownUrl("u:p@h:1")).toBe('"***@h:1"');
  expect(shownUrl("https://u:p@q@h")).toBe('"https://***@h"');
});
