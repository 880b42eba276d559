import { describe, expect, test } from "bun:test";
import { load, problemsOf } from "./loading.ts";

const PEM = { "/c.pem": "cert", "/k.pem": "key" };

describe("CUSTOM_DOMAIN and MODE", () => {
  test.each([
    [
      { CUSTOM_DOMAIN: "Example.com" },
      { domainSuffix: "example.com", strict: true, forceHttp: false, rootLeadsToApi: true },
    ],
    [
      { CUSTOM_DOMAIN: "example.com", MODE: "prod" },
      { strict: true, forceHttp: false },
    ],
    [
      { CUSTOM_DOMAIN: "example.com", MODE: "debug" },
      { strict: false, forceHttp: true, rootLeadsToApi: true },
    ],
    [
      { CUSTOM_DOMAIN: "example.com", MODE: "production" },
      { strict: true, forceHttp: false },
    ],
    [
      { MODE: "PROD", LAYOVER_DOMAIN_SUFFIX: "own.example" },
      { domainSuffix: "own.example", strict: true, rootLeadsToApi: true },
    ],
    [{ MODE: "debug" }, { domainSuffix: undefined, strict: false, forceHttp: true, rootLeadsToApi: true }],
    [{ MODE: "production" }, { strict: false, rootLeadsToApi: false }],
    [{ CUSTOM_DOMAIN: "example.com", LAYOVER_STRICT_HOSTS: "false" }, { strict: false }],
    [{}, { strict: false, forceHttp: false, rootLeadsToApi: false }],
  ])("[C1, C2] %j means %j", async (env, hosts) => expect((await load({ env })).settings.hosts).toMatchObject(hosts));

  test("a setting of the file wins over what CUSTOM_DOMAIN implies", async () => {
    const { settings } = await load({
      argv: ["--config=c.json"],
      env: { CUSTOM_DOMAIN: "example.com" },
      files: { "c.json": '{"strictHosts": false}' },
    });
    expect(settings.hosts.strict).toBe(false);
  });

  test("MODE=prod without any domain refuses nothing, and says why", async () => {
    const { settings, warnings } = await load({ env: { MODE: "prod" } });
    expect(settings.hosts.strict).toBe(false);
    expect(warnings).toEqual(["MODE=prod is ignored: it needs CUSTOM_DOMAIN or --domain-suffix"]);
  });

  test("TARGET_UPSTREAM is the default registry", async () => {
    const { settings } = await load({ env: { MODE: "debug", TARGET_UPSTREAM: "https://quay.io" } });
    expect(settings.map.defaultRegistry).toBe("https://quay.io");
  });
});

describe("certificates and ports of docxy", () => {
  const listeners = async (env: Record<string, string>, argv: string[] = []) => {
    const { settings } = await load({ env, argv, files: PEM });
    return {
      listen: settings.listen.map((one) => (one.kind === "tcp" ? one.port : one.path)),
      redirect: settings.httpRedirect?.port,
      tls: settings.tls,
    };
  };
  const OLD = {
    certFile: "/root/.acme.sh/example.com_ecc/fullchain.cer",
    keyFile: "/root/.acme.sh/example.com_ecc/example.com.key",
    passphraseFile: undefined,
    clientCaFile: undefined,
  };
  const GIVEN = { certFile: "/c.pem", keyFile: "/k.pem", passphraseFile: undefined, clientCaFile: undefined };

  test.each([
    [
      { CERT_PATH: "/c.pem", KEY_PATH: "/k.pem" },
      { listen: [443], redirect: 80, tls: GIVEN },
    ],
    [
      { DOCXY_CERT_PATH: "/c.pem", DOCXY_KEY_PATH: "/k.pem" },
      { listen: [443], redirect: 80, tls: GIVEN },
    ],
    [
      { CERT_PATH: "/c.pem", DOCXY_KEY_PATH: "/k.pem" },
      { listen: [443], redirect: 80, tls: GIVEN },
    ],
    [
      { DOCXY_HTTPS_PORT: "8443", DOCXY_HTTP_PORT: "8080" },
      { listen: [8443], redirect: 8080, tls: OLD },
    ],
    [
      { DOCXY_HTTPS_PORT: "https", DOCXY_CERT_PATH: "/c.pem", DOCXY_KEY_PATH: "/k.pem" },
      { listen: [443], redirect: 80, tls: GIVEN },
    ],
    [{ DOCXY_BEHIND_PROXY: "true" }, { listen: [9000], redirect: undefined, tls: undefined }],
    [
      { DOCXY_BEHIND_PROXY: "true", DOCXY_HTTP_PORT: "9001", CERT_PATH: "/c.pem" },
      { listen: [9001], redirect: undefined, tls: undefined },
    ],
    [
      { DOCXY_BEHIND_PROXY: "false", DOCXY_CERT_PATH: "/c.pem", DOCXY_KEY_PATH: "/k.pem" },
      { listen: [443], redirect: 80, tls: GIVEN },
    ],
    [{ DOCXY_HTTPS_ENABLED: "false" }, { listen: [80], redirect: undefined, tls: undefined }],
  ])("[C27, C28] %j without --listen", async (env, expected) => expect(await listeners(env)).toEqual(expected));

  test("a listener that is given stays alone", async () => {
    expect(await listeners({ CERT_PATH: "/c.pem", KEY_PATH: "/k.pem" }, ["--listen=:5000"])).toEqual({
      listen: [5000],
      redirect: undefined,
      tls: GIVEN,
    });
    expect(await listeners({ DOCXY_BEHIND_PROXY: "1", LAYOVER_LISTEN: ":7" })).toMatchObject({ listen: [7] });
  });

  test("a proxy on this machine is believed, and only that", async () => {
    expect((await load({ env: { DOCXY_BEHIND_PROXY: "true" } })).settings.trustedProxies).toEqual([
      "127.0.0.0/8",
      "::1/128",
    ]);
  });

  test.each([
    [
      { CERT_PATH: "/etc/ssl/certs" },
      "CERT_PATH is ignored: /etc/ssl/certs cannot be read, and certificate and key belong together",
    ],
    [
      { CERT_PATH: "/c.pem", KEY_PATH: "/none" },
      "CERT_PATH is ignored: /none cannot be read, and certificate and key belong together",
    ],
    [
      { CERT_PATH: "/c.pem" },
      `CERT_PATH is ignored: ${OLD.keyFile} cannot be read, and certificate and key belong together`,
    ],
    [{ KEY_PATH: "/home/me/.ssh/id" }, "KEY_PATH is ignored: CERT_PATH is not set"],
  ])("%j belongs to another program: one warning, plain :5000", async (env, warning) => {
    const { settings, warnings } = await load({ env, files: PEM });
    expect(warnings).toEqual([warning]);
    expect(settings).toMatchObject({ tls: undefined, listen: [{ port: 5000 }] });
  });

  test("--tls-cert takes the key of KEY_PATH", async () => {
    const { settings } = await load({
      argv: ["--tls-cert=/own.pem"],
      env: { KEY_PATH: "/k.pem", CERT_PATH: "/c.pem" },
      files: PEM,
    });
    expect(settings.tls).toMatchObject({ certFile: "/own.pem", keyFile: "/k.pem" });
    expect(settings.listen).toMatchObject([{ port: 5000 }]);
    expect(await problemsOf({ argv: ["--tls-cert=/own.pem"], env: { KEY_PATH: "/none" } })).toEqual([
      "flag --tls-cert: --tls-cert needs --tls-key",
    ]);
  });
});

describe("logging", () => {
  test.each([
    [{ LOG_LEVEL: "WARNING" }, "warn"],
    [{ LOG_LEVEL: "error" }, "error"],
    [{ LOG_LEVEL: "info", DEBUG: "1" }, "debug"],
    [{ DEBUG_HUB: "true" }, "debug"],
    [{ DEBUG_NGINX: "yes" }, "debug"],
    [{ DEBUG: "false" }, "info"],
    [{ DEBUG: "1", LAYOVER_LOG_LEVEL: "error" }, "error"],
  ])("%j logs at %p", async (env, level) => expect((await load({ env })).settings.log.level as string).toBe(level));
});

describe("times of nginx", () => {
  test.each([
    [{ PROXY_READ_TIMEOUT: "120" }, { idleTimeoutMs: 120_000 }],
    [{ PROXY_SEND_TIMEOUT: "2m" }, { idleTimeoutMs: 120_000 }],
    [
      { PROXY_CONNECT_READ_TIMEOUT: "1m", PROXY_CONNECT_SEND_TIMEOUT: "90", PROXY_READ_TIMEOUT: "70s" },
      { idleTimeoutMs: 90_000 },
    ],
    [{ PROXY_CONNECT_TIMEOUT: "10" }, { connectTimeoutMs: 10_000 }],
    [{ PROXY_CONNECT_CONNECT_TIMEOUT: "11" }, { connectTimeoutMs: 11_000 }],
    [{ PROXY_READ_TIMEOUT: "1y" }, { idleTimeoutMs: 24 * 86_400_000 }],
    [{ PROXY_READ_TIMEOUT: "120", LAYOVER_IDLE_TIMEOUT: "7s" }, { idleTimeoutMs: 7000 }],
  ])("%j sets %j towards upstreams", async (env, upstream) =>
    expect((await load({ env })).settings.upstream).toMatchObject(upstream),
  );

  test("every time towards clients has an effect", async () => {
    const env = { CLIENT_HEADER_TIMEOUT: "1", CLIENT_BODY_TIMEOUT: "2", SEND_TIMEOUT: "3", KEEPALIVE_TIMEOUT: "4m" };
    expect((await load({ env })).settings.client).toEqual({
      headerTimeoutMs: 1000,
      bodyTimeoutMs: 2000,
      sendTimeoutMs: 3000,
      keepAliveTimeoutMs: 240_000,
    });
  });
});

describe("upstreams", () => {
  test("[C11] VERIFY_SSL and DISABLE_IPV6", async () => {
    const { settings } = await load({ env: { VERIFY_SSL: "false", DISABLE_IPV6: "true" } });
    expect(settings.map.verifyTls).toBe(false);
    expect(settings.upstream.family).toBe(4);
    const own = await load({ argv: ["--upstream-ip", "ipv6"], env: { DISABLE_IPV6: "true" } });
    expect(own.settings.upstream.family).toBe(6);
    expect((await load({ env: { DISABLE_IPV6: "false" } })).settings.upstream.family).toBe(0);
  });

  test("proxies in either case, the lower one first", async () => {
    const env = {
      HTTP_PROXY: "http://upper:1",
      http_proxy: "lower:1",
      HTTPS_PROXY: "http://u:pw@https:2",
      all_proxy: "socks5://all:3",
      NO_PROXY: "a,.b",
    };
    const { settings, warnings } = await load({ env });
    expect(settings.upstream.proxies).toEqual({
      general: undefined,
      http: "http://lower:1",
      https: "http://u:pw@https:2",
      all: "socks5://all:3",
      none: "a,.b",
    });
    expect(warnings).toEqual([]);
  });

  test("a proxy of the environment that is our own listener is left out", async () => {
    const { settings, warnings } = await load({
      env: { https_proxy: "http://localhost:5000", http_proxy: "http://proxy:1" },
    });
    expect(settings.upstream.proxies).toMatchObject({ http: "http://proxy:1", https: undefined });
    expect(warnings).toEqual([expect.stringContaining("https_proxy is ignored: it leads to our own listener")]);
  });

  test("[C9] Docker Hub's user and password need each other", async () => {
    const both = await load({ env: { DOCKER_HUB_USERNAME: "me", DOCKER_HUB_PASSWORD: "hunter2" } });
    expect(both.settings.map.dockerHub).toEqual({ username: "me", password: "hunter2" });
    expect(both.warnings.join()).not.toContain("hunter2");
    const one = await load({ env: { DOCKER_HUB_PASSWORD: "hunter2" } });
    expect(one.settings.map.dockerHub).toBeUndefined();
    expect(one.warnings).toEqual(["DOCKER_HUB_PASSWORD is ignored: DOCKER_HUB_USERNAME is not set"]);
  });
});

describe("a bad value of an inherited variable", () => {
  test.each([
    [{ MODE: "staging" }, 'MODE is ignored: expected prod or debug, got "staging"'],
    [{ DEBUG: "express:*" }, 'DEBUG is ignored: expected true or false, got "express:*"'],
    [{ LOG_LEVEL: "loud" }, 'LOG_LEVEL is ignored: expected trace, debug, info, warn or error, got "loud"'],
    [{ CUSTOM_DOMAIN: "https://example.com" }, "CUSTOM_DOMAIN is ignored: expected a domain"],
    [{ TARGET_UPSTREAM: "ftp://x" }, "TARGET_UPSTREAM is ignored: expected a key"],
    [{ VERIFY_SSL: "perhaps" }, "VERIFY_SSL is ignored: expected true or false"],
    [{ SEND_TIMEOUT: "soon" }, "SEND_TIMEOUT is ignored: expected an nginx time"],
    [{ PROXY_READ_TIMEOUT: "0" }, "PROXY_READ_TIMEOUT is ignored: expected a time from 1ms"],
    [
      { all_proxy: "ftp://u:hunter2@x" },
      'all_proxy is ignored: expected a proxy such as http://proxy:3128 or socks5://proxy:1080, got "ftp://***@x"',
    ],
    [
      { DOCXY_BEHIND_PROXY: "maybe", LAYOVER_TLS_CERT: "c", LAYOVER_TLS_KEY: "k" },
      "DOCXY_BEHIND_PROXY is ignored: expected true or false",
    ],
  ])("%j is one warning and stops nothing", async (env, warning) => {
    const { warnings } = await load({ env });
    expect(warnings).toEqual([expect.stringContaining(warning)]);
  });
});

test("each old name in force is one line", async () => {
  const { warnings } = await load({
    env: {
      CUSTOM_DOMAIN: "example.com",
      MODE: "debug",
      TARGET_UPSTREAM: "quay",
      CERT_PATH: "/c.pem",
      KEY_PATH: "/k.pem",
    },
    files: PEM,
  });
  expect(warnings).toEqual([
    "CUSTOM_DOMAIN is read as --domain-suffix",
    'MODE=debug is read as "URLs that we hand out are http"',
    "TARGET_UPSTREAM is read as --default-registry",
    "CERT_PATH is read as --tls-cert",
    "KEY_PATH is read as --tls-key",
    "a certificate without --listen is read as --listen",
    "a certificate without --listen is read as --http-redirect",
  ]);
});
