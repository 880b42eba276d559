import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { OPTIONS, OPTION_NAMES, isInFile, variableOf, type OptionName } from "../../../src/config/options.ts";
import { load } from "./loading.ts";

const port = fc.integer({ min: 1, max: 65_535 });
const path = fc.stringMatching(/^\/[a-z0-9/_-]{1,20}$/);
const time = fc
  .tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom("s", "m", "h"))
  .map(([n, unit]) => `${n}${unit}`);
const label = fc.stringMatching(/^[a-z][a-z0-9]{0,10}$/);
const origin = fc.tuple(label, port).map(([host, n]) => `https://${host}.example:${n}`);
const size = fc
  .tuple(fc.integer({ min: 1, max: 999 }), fc.constantFrom("", "k", "m", "g", "t"))
  .map(([n, unit]) => `${n}${unit}`);
const toggle = fc.constantFrom("true", "false");

/** Texts that are valid for each option, and what else it needs. */
const TEXTS: Record<OptionName, fc.Arbitrary<string>> = {
  listen: fc
    .uniqueArray(port, { minLength: 1, maxLength: 3 })
    .map((ports) => ports.map((n) => `127.0.0.1:${n}`).join(",")),
  httpRedirect: port.filter((n) => n !== 5000).map((n) => `:${n}`),
  metricsListen: fc.constantFrom(":9100", "127.0.0.1:0", "unix:/run/metrics.sock"),
  acmeWebroot: path,
  trustedProxies: fc.constantFrom("unix", "10.0.0.0/8,unix", "::1", "192.0.2.0/24 2001:db8::/32"),
  config: path,
  registryMap: fc.oneof(
    path,
    origin.map((url) => `${url}/map.json`),
  ),
  registryMapRefresh: time,
  defaultRegistry: fc.oneof(label, origin),
  clientRequests: fc.constantFrom("100/s", "600/m", "1/h"),
  clientTransfers: fc.constantFrom("1", "64"),
  dockerConfig: path,
  allowPush: toggle,
  sharePrivate: toggle,
  htpasswd: path,
  allowFrom: fc.constantFrom("unix", "10.0.0.0/8,unix", "::1", "192.0.2.0/24 2001:db8::/32"),
  tlsClientCa: path,
  accessRules: path,
  domainSuffix: label.map((name) => `${name}.example`),
  strictHosts: toggle,
  publicUrl: origin,
  tlsCert: path,
  tlsKey: path,
  tlsKeyPassphraseFile: path,
  upstreamProxy: fc
    .tuple(fc.constantFrom("http", "https", "socks5", "socks5h"), label)
    .map(([scheme, host]) => `${scheme}://${host}.example:3128`),
  upstreamIp: fc.constantFrom("both", "ipv4", "ipv6"),
  resolver: fc.constantFrom("10.0.0.53", "10.0.0.53:5353,fd00::53", "[fd00::53]:53 192.0.2.1 192.0.2.2"),
  connectTimeout: time,
  headerTimeout: time,
  idleTimeout: time,
  upstreamTransfers: fc.constantFrom("0", "1", "300"),
  blobConnections: fc.integer({ min: 1, max: 64 }).map(String),
  cacheDir: path,
  cacheMaxSize: size,
  cacheMinFree: size,
  cacheMaxIdle: fc.integer({ min: 1, max: 999 }).map((n) => `${n}d`),
  tagTtl: time,
  grantTtl: time,
  staleIfError: time,
  stateDir: path,
  drainTimeout: time,
  logLevel: fc.constantFrom("trace", "debug", "info", "warn", "error"),
  logFormat: fc.constantFrom("json", "pretty"),
};
const COMPANIONS: Partial<Record<OptionName, string[]>> = {
  cacheMaxSize: ["--cache-dir=/d"],
  cacheMinFree: ["--cache-dir=/d"],
  cacheMaxIdle: ["--cache-dir=/d"],
  tagTtl: ["--cache-dir=/d"],
  grantTtl: ["--cache-dir=/d"],
  staleIfError: ["--cache-dir=/d"],
  httpRedirect: ["--tls-cert=/c", "--tls-key=/k"],
  acmeWebroot: ["--tls-cert=/c", "--tls-key=/k", "--http-redirect=:80"],
  strictHosts: ["--domain-suffix=companion.example"],
  tlsClientCa: ["--tls-cert=/c", "--tls-key=/k"],
  tlsCert: ["--tls-key=/k"],
  tlsKey: ["--tls-cert=/c"],
  tlsKeyPassphraseFile: ["--tls-cert=/c", "--tls-key=/k"],
};

describe("every option", () => {
  test.each(OPTION_NAMES.filter(isInFile).map((name) => [name]))(
    "[C31] %s means the same as flag, variable and key of a file",
    async (name) => {
      const { flag, kind } = OPTIONS[name];
      const argv = COMPANIONS[name] ?? [];
      const property = fc.asyncProperty(TEXTS[name], TEXTS[name], async (text, other) => {
        const byFlag = await load({ argv: [...argv, `--${flag}=${text}`] });
        const byVariable = await load({ argv, env: { [variableOf(name)]: text } });
        const files = { "/c.json": JSON.stringify({ [name]: text }) };
        const byFile = await load({ argv: [...argv, "--config=/c.json"], files });
        expect(byVariable).toEqual(byFlag);
        expect(byFile).toEqual(byFlag);
        const byOther = await load({ argv: [...argv, `--${flag}=${other}`] });
        expect(Bun.deepEquals(byOther, byFlag)).toBe(Bun.deepEquals(kind.parse(other), kind.parse(text)));
      });
      await fc.assert(property, { numRuns: 15 });
    },
  );

  test.each(OPTION_NAMES.map((name) => [name]))("%s has a key that follows from its flag, and help", (name) => {
    const { flag, help, kind } = OPTIONS[name];
    expect(flag.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())).toBe(name);
    expect(help).toMatch(/^[A-Zd:].*\.$/);
    expect(kind.placeholder).toMatch(/^[A-Za-z0-9|]*$/);
    const option: { readonly default?: string } = OPTIONS[name];
    if (option.default !== undefined) expect(() => kind.parse(option.default ?? "")).not.toThrow();
  });
});
