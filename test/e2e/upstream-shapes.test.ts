/**
 * Registries of every shape, each a whole pull (manifest, blob, token) through the real program; and each shape with one thing
 * wrong, where the log and `check` say what to mend. All names are known to the test's own DNS server alone.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { runCommand } from "../support/command.ts";
import { createDnsServer } from "../support/dns-server.ts";
import type { FakeRegistry } from "../support/fake-registry.ts";
import { layerOf } from "../support/farm.ts";
import type { ForwardProxy } from "../support/forward-proxy.ts";
import { makeImage } from "../support/images.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { openShapeLab, type ShapeLab } from "../support/shape-lab.ts";

const image = makeImage({ seed: "shapes", layers: [200_000] });

type Entry = Readonly<Record<string, unknown>>;

let lab: ShapeLab;
let layover: RunningLayover;
beforeAll(async () => {
  lab = await openShapeLab(image);
  layover = await startLayover({ map: wholeMap(), args: ["--resolver", lab.dns.address] });
});
afterAll(async () => {
  await layover.stop();
  await lab.stop();
});

/** By its key's name: `mapOf` fills it in. */
function named(registry: FakeRegistry): string {
  const { protocol, port } = new URL(registry.url);
  return `${protocol}//KEY.corp.test:${port}`;
}

function entry(upstream: string, more: Entry = {}): Entry {
  return { upstreams: [upstream], ...more };
}

function withPassword({ url, host }: ForwardProxy, password: string): string {
  return url.replace(host, `ann:${encodeURIComponent(password)}@${host}`);
}

const trusted = ({ dir }: ShapeLab) => ({ caFile: dir.file("ca.pem") });
const known = (at: ShapeLab) => ({
  ...trusted(at),
  certFile: at.dir.file("client.pem"),
  keyFile: at.dir.file("client.key"),
});
/** Behind TLS of the lab's authority, with what else is told. */
const secure = (more: (at: ShapeLab) => Entry) => (at: ShapeLab) =>
  entry(named(at.registries.secure), { tls: trusted(at), ...more(at) });

const RIGHT: [key: string, make: (at: ShapeLab) => Entry][] = [
  ["plain", ({ registries }) => entry(registries.plain.url)],
  ["by-name", ({ registries }) => entry(named(registries.plain))],
  ["base-path", ({ registries }) => entry(registries.based.url)],
  ["six-plain", ({ registries }) => entry(registries.six.url)],
  ["six-tls", (at) => entry(at.registries.sixSecure.url, { tls: trusted(at) })],
  ["six-name", ({ registries }) => entry(named(registries.six))],
  ["authority", secure(() => ({}))],
  ["authority-address", (at) => entry(at.registries.secure.url, { tls: trusted(at) })],
  ["mutual", (at) => entry(named(at.registries.mutual), { tls: known(at) })],
  ["unverified", ({ registries }) => entry(named(registries.misnamed), { tls: { insecureSkipVerify: true } })],
  ["http-proxy", secure(({ proxies }) => ({ proxy: proxies.http.url }))],
  ["http-proxy-plain", ({ registries, proxies }) => entry(named(registries.plain), { proxy: proxies.http.url })],
  ["http-proxy-password", secure(({ proxies }) => ({ proxy: withPassword(proxies.password, "pä ss") }))],
  [
    "http-proxy-mutual",
    (at) => entry(named(at.registries.mutualBehind), { tls: known(at), proxy: at.proxies.http.url }),
  ],
  ["https-proxy", secure(({ proxies }) => ({ proxy: proxies.tls.url }))],
  ["https-proxy-plain", (at) => entry(named(at.registries.plain), { tls: trusted(at), proxy: at.proxies.tls.url })],
  ["socks", secure(({ proxies }) => ({ proxy: proxies.socks.url }))],
  ["socks-plain", ({ registries, proxies }) => entry(named(registries.plain), { proxy: proxies.socks.url })],
  ["socks-password", secure(({ proxies }) => ({ proxy: withPassword(proxies.socksPassword, "pä ss") }))],
  ["socks-six", (at) => entry(at.registries.sixBehind.url, { tls: trusted(at), proxy: at.proxies.socks.url })],
];

const UNKNOWN_AUTHORITY =
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE: the authority of its certificate is not known here; name it in tls.caFile";

/** What is wrong, and what the log says; PROXY and DNS stand for their addresses. */
const WRONG: [key: string, text: string, make: (at: ShapeLab) => Entry][] = [
  ["no-authority", UNKNOWN_AUTHORITY, secure(() => ({ tls: {} }))],
  ["other-authority", UNKNOWN_AUTHORITY, secure(({ dir }) => ({ tls: { caFile: dir.file("other.pem") } }))],
  [
    "no-client-certificate",
    "or it wants a client certificate (tls.certFile, tls.keyFile)",
    (at) => entry(named(at.registries.mutual), { tls: trusted(at) }),
  ],
  [
    "expired",
    "CERT_HAS_EXPIRED: its certificate is out of date, or this machine's clock is wrong",
    (at) => entry(named(at.registries.expired), { tls: trusted(at) }),
  ],
  [
    "misnamed",
    "ERR_TLS_CERT_ALTNAME_INVALID: its certificate is for another name",
    (at) => entry(named(at.registries.misnamed), { tls: trusted(at) }),
  ],
  [
    "proxy-password",
    "through http://PROXY: ERR_PROXY_TUNNEL: the proxy refuses, for the user name, the password",
    secure(({ proxies }) => ({ proxy: withPassword(proxies.password, "wrong") })),
  ],
  [
    "proxy-password-plain",
    "through http://PROXY: the outgoing proxy asks for authentication",
    ({ registries, proxies }) => entry(named(registries.plain), { proxy: withPassword(proxies.password, "wrong") }),
  ],
  [
    "proxy-refuses",
    "through http://PROXY: ERR_PROXY_TUNNEL: the proxy refuses",
    secure(({ proxies }) => ({ proxy: proxies.refusing.url })),
  ],
  ["proxy-gone", "through http://PROXY: ECONNREFUSED", secure(({ gone }) => ({ proxy: `http://${gone}` }))],
  [
    "proxy-authority",
    `through https://PROXY: ${UNKNOWN_AUTHORITY}`,
    ({ registries, proxies }) => entry(named(registries.plain), { proxy: proxies.tls.url }),
  ],
  [
    "socks-wrong-password",
    "through socks5://PROXY: Socks5 Authentication failed",
    secure(({ proxies }) => ({ proxy: withPassword(proxies.socksPassword, "wrong") })),
  ],
  [
    "socks-refuses",
    "through socks5://PROXY: Socks5 proxy rejected connection",
    secure(({ proxies }) => ({ proxy: proxies.socksRefusing.url })),
  ],
  ["socks-gone", "through socks5://PROXY: connect ECONNREFUSED", secure(({ gone }) => ({ proxy: `socks5://${gone}` }))],
  [
    "no-name",
    "nowhere.test could not be resolved: resolver DNS knows no such name",
    () => entry("https://nowhere.test"),
  ],
  [
    "resolver-lost",
    "lost.test could not be resolved: no answer from resolver DNS (ESERVFAIL)",
    () => entry("https://lost.test"),
  ],
  [
    "resolver-silent",
    "silent.test could not be resolved: no answer from resolver DNS (ETIMEOUT)",
    () => entry("https://silent.test"),
  ],
  ["port-closed", "ECONNREFUSED", ({ gone }) => entry(`http://${gone}`)],
];

function wholeMap(): Record<string, unknown> {
  const right = RIGHT.map(([key, make]) => [key, make(lab)] as const);
  const wrong = WRONG.map(([key, , make]) => [key, make(lab)] as const);
  return mapOf([...right, ...wrong]);
}

/** A map whose names lead to this machine: `six-name` to its IPv6 address alone. */
function mapOf(entries: readonly (readonly [key: string, entry: Entry])[]): Record<string, unknown> {
  const keyed = entries.map(([key, made]) => {
    lab.dns.zone[`${key}.corp.test`] = [key === "six-name" ? "::1" : "127.0.0.1"];
    const upstreams = (made["upstreams"] as string[]).map((url) => url.replace("KEY", key));
    return [key, { ...made, upstreams }] as const;
  });
  return { default: keyed[0]?.[0], ...Object.fromEntries(keyed) };
}

function filledIn(text: string, make: (at: ShapeLab) => Entry): string {
  const proxy = new URL(String(make(lab)["proxy"] ?? "http://none.test"));
  return text.replace("PROXY", proxy.host).replace("DNS", lab.dns.address);
}

/** 503 once it is known for how long nobody will be asked. */
const NO_ANSWER = [502, 503];

/** As a client does it: a token first, then manifest and blob. */
async function pull(at: RunningLayover, key: string): Promise<{ manifest: number; blob: number; bytes: number }> {
  const read = (what: string) => fetch(`${at.url}/v2/${key}/org/app/${what}`);
  const manifest = await read("manifests/latest");
  await manifest.bytes();
  const blob = await read(`blobs/${layerOf(image)}`);
  const { byteLength } = await blob.bytes();
  return { manifest: manifest.status, blob: blob.status, bytes: byteLength };
}

describe("a pull from a registry", () => {
  test.each(RIGHT)("[R145, R146, R256] of the shape %s is whole", async (key) => {
    expect(await pull(layover, key)).toEqual({ manifest: 200, blob: 200, bytes: 200_000 });
  });

  test("takes its tokens the same way", () => {
    for (const [name, registry] of Object.entries(lab.registries)) {
      if (name === "expired") continue; // its certificate is refused
      expect([name, registry.tokenRequests.length > 0]).toEqual([name, true]);
    }
  });

  test("through a proxy goes through it alone, token included, and the proxy resolves the name", () => {
    const { http, socks, tls, password } = lab.proxies;
    const { secure, plain } = lab.registries;
    const portOf = (url: string) => new URL(url).port;
    expect(http.targets).toContain(`CONNECT http-proxy.corp.test:${portOf(secure.url)}`);
    expect(http.targets).toContain(`CONNECT tokens.corp.test:${portOf(secure.tokenUrl)}`);
    expect(
      http.targets.some((target) =>
        target.startsWith(`GET http://http-proxy-plain.corp.test:${portOf(plain.url)}/v2/`),
      ),
    ).toBe(true);
    expect(tls.targets).toContain(`CONNECT https-proxy.corp.test:${portOf(secure.url)}`);
    expect(password.targets).toContain(`CONNECT http-proxy-password.corp.test:${portOf(secure.url)}`);
    expect(socks.targets).toContain(`socks.corp.test:${portOf(secure.url)}`);
    expect(socks.targets).toContain(`socks-plain.corp.test:${portOf(plain.url)}`);
    expect(
      lab.dns.asked.filter((question) => question.startsWith("http-proxy") || question.startsWith("socks")),
    ).toEqual([]);
  });

  test("whose certificate nobody verifies is told at the start, once", () => {
    const lines = layover.log.filter(({ msg }) => msg?.startsWith("certificates are not verified"));
    expect(lines.map(({ level, registry }) => ({ level, registry }))).toEqual([
      { level: "warn", registry: "unverified" },
    ]);
  });
});

describe("with one thing wrong", () => {
  test.each(WRONG)("[R280] %s: the log says %j", async (key, text, make) => {
    const { manifest } = await pull(layover, key);
    expect(NO_ANSWER).toContain(manifest);
    const said = filledIn(text, make);
    const line = await layover.logLine(({ registry, msg }) => registry === key && msg?.includes(said) === true);
    expect(line.level).toBe("warn");
  });

  test("neither log nor answer names a password", () => {
    expect(JSON.stringify(layover.log)).not.toMatch(/wrong@|:wrong|p%C3%A4|pä ss/);
  });

  test("`check` says the same of each, and what to look at", async () => {
    const { dir, dns } = lab;
    await Bun.write(dir.file("map.json"), JSON.stringify(wholeMap()));
    const args = ["--registry-map", dir.file("map.json"), "--resolver", dns.address, "--state-dir", dir.file("state")];
    const { code, out } = await runCommand(["check", ...args], { cwd: dir.path });
    expect(code).toBe(1);
    const lines = out.split("\n");
    const lineOf = (key: string, verdict: string) => lines.find((line) => line.startsWith(`${verdict}  ${key} `)) ?? "";
    for (const [key] of RIGHT) expect([key, lineOf(key, "OK  ")]).toEqual([key, expect.stringContaining(" ms")]);
    for (const [key, text, make] of WRONG)
      expect([key, lineOf(key, "FAIL")]).toEqual([key, expect.stringContaining(filledIn(text, make))]);
    const { host } = lab.proxies.socksPassword;
    expect(lineOf("socks-password", "OK  ")).toEndWith(` ms through socks5://${host}`);
    expect(lineOf("proxy-gone", "FAIL")).toContain("check that proxy");
    expect(lineOf("no-name", "FAIL")).toContain("--resolver");
    expect(lineOf("port-closed", "FAIL")).toContain("check the network");
    expect(lineOf("unverified", "WARN")).toContain("certificates are not verified");
    expect(out).not.toMatch(/wrong@|:wrong|p%C3%A4|pä ss/);
  });
});

describe("for all registries at once", () => {
  const start = async (args: string[], env: Record<string, string> = {}, resolver = lab.dns.address) => {
    const { registries, proxies } = lab;
    const map = mapOf([
      ["plain", entry(named(registries.plain))],
      ["secure", entry(named(registries.secure), { tls: trusted(lab) })],
      ["six-name", entry(named(registries.six))],
      ["own", entry(registries.plain.url, { proxy: proxies.password.url })],
    ]);
    const started = await startLayover({ map, args: ["--resolver", resolver, ...args], env });
    return {
      pull: (key: string) => pull(started, key),
      log: started.log,
      [Symbol.asyncDispose]: () => started.stop(),
    };
  };

  test("a proxy of the environment is taken by all but exempt hosts, and a registry's own by those too", async () => {
    const { http, password } = lab.proxies;
    const [before, own] = [http.targets.length, password.targets.length];
    const no = "plain.corp.test,127.0.0.1";
    await using running = await start([], { HTTPS_PROXY: http.url, http_proxy: http.url, NO_PROXY: no });
    expect((await running.pull("secure")).bytes).toBe(200_000);
    expect(http.targets.length).toBeGreaterThan(before);
    expect((await running.pull("plain")).bytes).toBe(200_000);
    expect(http.targets.filter((target) => target.includes("//plain.corp.test"))).toEqual([]);
    // Its host is exempt, but the map says through which proxy it is asked.
    expect(NO_ANSWER).toContain((await running.pull("own")).manifest);
    expect(password.targets.length).toBeGreaterThan(own);
  });

  test("--upstream-ip leaves addresses of the other version out, on the whole way", async () => {
    lab.dns.zone["six-name.corp.test"] = ["127.0.0.1", "::1"];
    await using six = await start(["--upstream-ip", "ipv6"]);
    const asked = lab.dns.asked.length;
    expect((await six.pull("six-name")).bytes).toBe(200_000);
    expect(NO_ANSWER).toContain((await six.pull("plain")).manifest);
    expect(lab.dns.asked.slice(asked).filter((question) => !question.endsWith(" AAAA"))).toEqual([]);
    await using four = await start(["--upstream-ip", "ipv4"]);
    expect(NO_ANSWER).toContain((await four.pull("six-name")).manifest);
    expect((await four.pull("plain")).bytes).toBe(200_000);
  });

  test("a resolver that is dead costs the first pull some seconds and no other", async () => {
    const dead = await createDnsServer({});
    dead.isSilent = true;
    await using running = await start([], {}, `${dead.address},${lab.dns.address}`);
    expect((await running.pull("plain")).bytes).toBe(200_000);
    const asked = dead.asked.length;
    expect(asked).toBeGreaterThan(0);
    expect((await running.pull("secure")).bytes).toBe(200_000);
    expect(dead.asked.length).toBe(asked);
    await dead.close();
  });

  test("NODE_EXTRA_CA_CERTS adds an authority for every registry and proxy", async () => {
    const { registries, proxies } = lab;
    const map = mapOf([
      ["secure", entry(named(registries.secure))],
      ["plain", entry(named(registries.plain), { proxy: proxies.tls.url })],
    ]);
    const env = { NODE_EXTRA_CA_CERTS: lab.dir.file("ca.pem") };
    const running = await startLayover({ map, args: ["--resolver", lab.dns.address], env });
    expect((await pull(running, "secure")).bytes).toBe(200_000);
    expect((await pull(running, "plain")).bytes).toBe(200_000);
    await running.stop();
  });
});
