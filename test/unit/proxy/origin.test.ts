import { describe, expect, test } from "bun:test";
import { createOriginReader, type OriginOptions } from "../../../src/proxy/origin.ts";
import { exchangeWith } from "../../support/exchange.ts";

const NOBODY: OriginOptions = { publicUrl: undefined, domainSuffix: undefined, trustedProxies: [], forceHttp: false };
const PROXY = { ...NOBODY, trustedProxies: ["10.0.0.0/8", "fd00::/8", "unix"] };

describe("originOf() without trusted proxies", () => {
  const originOf = createOriginReader(NOBODY);
  const forged = {
    forwarded: "for=1.2.3.4;proto=https;host=evil.test",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.test",
    "x-forwarded-for": "1.2.3.4",
  };

  test("[R119, R229, R231, T29] takes nothing from forwarding headers", () => {
    const origin = originOf(exchangeWith({ host: "reg.test:5000", peer: "192.0.2.1", headers: forged }));
    expect(origin).toMatchObject({ base: "http://reg.test:5000", secure: false, client: "192.0.2.1" });
  });

  test("[R229] says https where TLS was ended here, and keeps the port", () => {
    expect(originOf(exchangeWith({ host: "[::1]:8443", secure: true })).base).toBe("https://[::1]:8443");
  });
});

describe("originOf() behind a trusted proxy", () => {
  const originOf = createOriginReader(PROXY);
  const rows: [title: string, headers: Record<string, string>, expected: object][] = [
    [
      "X-Forwarded",
      { "x-forwarded-proto": "https", "x-forwarded-host": "reg.test", "x-forwarded-for": "1.2.3.4" },
      { base: "https://reg.test", client: "1.2.3.4" },
    ],
    [
      "a forged entry in front of the proxy's own",
      {
        "x-forwarded-for": "6.6.6.6, 1.2.3.4",
        "x-forwarded-proto": "http, https",
        "x-forwarded-host": "evil.test, reg.test",
      },
      { base: "https://reg.test", client: "1.2.3.4" },
    ],
    [
      "two proxies of ours",
      { "x-forwarded-for": "6.6.6.6, 1.2.3.4, 10.0.0.9", "x-forwarded-proto": "https" },
      { base: "https://own.test:5000", client: "1.2.3.4" },
    ],
    [
      "Forwarded",
      { forwarded: 'for=6.6.6.6;host=evil.test, for="[2001:db8::1]:4711";proto=https;host="reg.test:8443"' },
      { base: "https://reg.test:8443", client: "2001:db8::1" },
    ],
    [
      "Forwarded before X-Forwarded",
      { forwarded: "for=1.2.3.4;proto=https;host=reg.test", "x-forwarded-host": "other.test" },
      { base: "https://reg.test" },
    ],
    ["a host with a path in it", { "x-forwarded-host": "a/v2/x?" }, { base: "http://own.test:5000" }],
    ["a scheme that is none", { "x-forwarded-proto": "javascript" }, { base: "http://own.test:5000" }],
    [
      "empty values",
      { "x-forwarded-for": "", "x-forwarded-proto": "", "x-forwarded-host": "" },
      { base: "http://own.test:5000", client: "10.1.2.3" },
    ],
    ["garbage", { forwarded: ";;==,,,;for" }, { base: "http://own.test:5000" }],
  ];
  test.each(rows)("[R229, R231] %s", (_title, headers, expected) => {
    expect(originOf(exchangeWith({ host: "own.test:5000", peer: "10.1.2.3", headers }))).toMatchObject(expected);
  });

  test("[R231] knows IPv4 peers of dual-stack listeners and unix sockets", () => {
    const headers = { "x-forwarded-proto": "https" };
    expect(originOf(exchangeWith({ host: "a.test", peer: "::ffff:10.0.0.1", headers })).secure).toBe(true);
    expect(originOf(exchangeWith({ host: "a.test", peer: "unix", headers })).secure).toBe(true);
    expect(originOf(exchangeWith({ host: "a.test", peer: "11.0.0.1", headers })).secure).toBe(false);
  });
});

describe("originOf() with a public URL", () => {
  const originOf = createOriginReader({ ...NOBODY, publicUrl: "https://reg.test:8443", domainSuffix: "example.test" });

  test("[R229, C28] uses it instead of a host that is not ours", () => {
    expect(originOf(exchangeWith({ host: "evil.test" })).base).toBe("https://reg.test:8443");
    expect(originOf(exchangeWith({ host: "evilexample.test" })).base).toBe("https://reg.test:8443");
    expect(originOf(exchangeWith({ host: undefined })).base).toBe("https://reg.test:8443");
  });

  test("keeps a host under the domain suffix, with the public scheme and port", () => {
    expect(originOf(exchangeWith({ host: "ghcr.example.test:5000" })).base).toBe("https://ghcr.example.test:8443");
  });
});
