import { describe, expect, test } from "bun:test";
import { load, problemsOf } from "./loading.ts";

describe("loadSettings()", () => {
  test("gives the documented defaults", async () => {
    const { settings, warnings } = await load({ env: { HOME: "/home/me" } });
    expect(warnings).toEqual([]);
    expect(settings).toEqual({
      listen: [{ kind: "tcp", host: undefined, port: 5000 }],
      tls: undefined,
      httpRedirect: undefined,
      acmeWebroot: undefined,
      metricsListen: undefined,
      hosts: { domainSuffix: undefined, strict: false, publicUrl: undefined, forceHttp: false, rootLeadsToApi: false },
      trustedProxies: [],
      access: { htpasswdFile: undefined, allowFrom: [], hasCertificates: false, rulesFile: undefined },
      map: {
        location: { kind: "built-in" },
        refreshMs: 600_000,
        defaultRegistry: undefined,
        dockerHub: undefined,
        authRegistries: [],
        dockerConfig: undefined,
        verifyTls: true,
      },
      cache: undefined,
      upstream: {
        proxies: { general: undefined, http: undefined, https: undefined, all: undefined, none: undefined },
        connectTimeoutMs: 5000,
        headerTimeoutMs: 15_000,
        idleTimeoutMs: 60_000,
        maxTransfers: 300,
        maxConnections: 8,
        family: 0,
        resolvers: [],
      },
      client: { headerTimeoutMs: 60_000, bodyTimeoutMs: 60_000, sendTimeoutMs: 60_000, keepAliveTimeoutMs: 75_000 },
      sharePrivate: false,
      allowPush: false,
      clientLimits: { requests: undefined, transfers: undefined },
      stateDir: "/home/me/.local/state/layover",
      drainTimeoutMs: 30_000,
      log: { level: "info", format: "json" },
    });
  });

  test("gives the documented defaults of the cache once there is a directory, and reads the old names", async () => {
    const plain = await load({ argv: ["--cache-dir=/cache"] });
    expect(plain.settings.cache).toEqual({
      directory: "/cache",
      maxBytes: 32 * 1024 ** 3,
      minFreeBytes: 1024 ** 3,
      maxIdleMs: 60 * 86_400_000,
      tagTtlMs: 0,
      tagTiers: [],
      registryProxyHeaders: false,
      staleIfErrorMs: 30 * 86_400_000,
      grantTtlMs: 300_000,
    });
    const old = await load({ argv: ["--cache-dir=/cache"], env: { CACHE_MAX_SIZE: "10g", CACHE_INACTIVE: "30d" } });
    expect(old.settings.cache).toMatchObject({ maxBytes: 10 * 1024 ** 3, maxIdleMs: 30 * 86_400_000 });
  });

  test("[C31] flag before environment before file before default", async () => {
    const files = { "c.yaml": "logLevel: trace\nidleTimeout: 3s\nheaderTimeout: 3s\nconnectTimeout: 3s" };
    const env = { LAYOVER_LOG_LEVEL: "warn", LAYOVER_IDLE_TIMEOUT: "2s", LAYOVER_HEADER_TIMEOUT: "2s" };
    const { settings } = await load({
      argv: ["--config=c.yaml", "--log-level=error", "--idle-timeout=1s"],
      env,
      files,
    });
    expect(settings.log.level).toBe("error");
    expect(settings.upstream).toMatchObject({ idleTimeoutMs: 1000, headerTimeoutMs: 2000, connectTimeoutMs: 3000 });
    expect(settings.drainTimeoutMs).toBe(30_000);
  });

  test("our own variables come before inherited ones, and those before the file", async () => {
    const files = { "c.yaml": "domainSuffix: file.example\nlogLevel: trace" };
    const env = {
      LAYOVER_CONFIG: "c.yaml",
      LAYOVER_DOMAIN_SUFFIX: "own.example",
      CUSTOM_DOMAIN: "old.example",
      LOG_LEVEL: "warn",
    };
    const { settings } = await load({ env, files });
    expect(settings.hosts.domainSuffix).toBe("own.example");
    expect(settings.log.level).toBe("warn");
  });

  test.each([
    ["c.yaml", "listen: [':1', ':2']\nstrictHosts: false\nlogLevel: warn\ndomainSuffix:\n"],
    ["c.YML", "listen: ':1,:2'\nlogLevel: warn"],
    ["c.toml", 'listen = [":1", ":2"]\nlogLevel = "warn"'],
    ["c.json", '{"$schema": "x", "listen": [":1", ":2"], "logLevel": "warn"}'],
    ["c.jsonc", '{"listen": [":1", ":2"], /* why */ "logLevel": "warn",}'],
  ])("reads %s", async (path, text) => {
    const { settings } = await load({ argv: ["--config", path], files: { [path]: text } });
    expect(settings.listen).toMatchObject([{ port: 1 }, { port: 2 }]);
    expect(settings.log.level).toBe("warn");
  });

  test("an empty file, and variables set to nothing, set nothing", async () => {
    const { settings } = await load({
      argv: ["--config=c.yaml"],
      env: { LAYOVER_LISTEN: "", LAYOVER_LOG_LEVEL: " " },
      files: { "c.yaml": "" },
    });
    expect(settings.listen).toHaveLength(1);
  });

  test("tells every problem at once, with its place and the nearest name", async () => {
    const files = { "c.yaml": "listn: ':1'\nconnectTimeout: 5\nlogLevel: [a]\nconfig: x\nstrictHosts: {a: 1}" };
    const problems = await problemsOf({
      argv: ["--config=c.yaml", "--registry-mpa=x", "--listen=99999", "--tls-cert=c.pem"],
      env: { LAYOVER_LISTN: "x", LAYOVER_DRAIN_TIMEOUT: "soon", LAYOVER_LISTEN: "bad" },
      files,
    });
    expect(problems).toEqual([
      "flag --registry-mpa: unknown flag; did you mean --registry-map?",
      "environment variable LAYOVER_LISTN: unknown variable; did you mean LAYOVER_LISTEN?",
      "c.yaml: listn: unknown key; did you mean listen?",
      "c.yaml: logLevel: expected one plain value, got a list",
      expect.stringContaining("c.yaml: config: unknown key"),
      "c.yaml: strictHosts: expected one plain value, got a group of names",
      'flag --listen: expected an address such as :5000, 127.0.0.1:5000 or [::1]:5000, got "99999"',
      'environment variable LAYOVER_DRAIN_TIMEOUT: expected a time such as 30s, 10m or 1h30m, got "soon"',
      'environment variable LAYOVER_LISTEN: expected an address such as :5000, 127.0.0.1:5000 or [::1]:5000, got "bad"',
      'c.yaml: connectTimeout: expected a time such as 30s, 10m or 1h30m, got "5"; write 5s for seconds',
      "flag --tls-cert: --tls-cert needs --tls-key",
    ]);
  });

  test.each([
    ["c.yaml", undefined, "flag --config: cannot read the configuration file: ENOENT: no such file c.yaml"],
    ["c.ini", "x", "c.ini: expected a file that ends in .yaml, .yml, .toml, .json, .jsonc"],
    ["c.yaml", "a: [1", "c.yaml: YAML Parse error: "],
    ["c.json", "[1]", "c.json: expected names with values, got a list"],
    ["c.toml", "a =", "c.toml: TOML Parse error: "],
  ])("refuses %s with %p", async (path, text, problem) => {
    const files = text === undefined ? {} : { [path]: text };
    expect((await problemsOf({ argv: [`--config=${path}`], files }))[0]).toStartWith(problem);
  });

  test("variables that Kubernetes and docker links set beside a service named layover are not slips", async () => {
    const env = {
      LAYOVER_SERVICE_HOST: "10.0.0.1",
      LAYOVER_SERVICE_PORT: "5000",
      LAYOVER_SERVICE_PORT_HTTP: "5000",
      LAYOVER_PORT: "tcp://10.0.0.1:5000",
      LAYOVER_PORT_5000_TCP: "tcp://10.0.0.1:5000",
      LAYOVER_PORT_5000_TCP_ADDR: "10.0.0.1",
      LAYOVER_NAME: "/app/layover",
    };
    expect((await load({ env })).warnings).toEqual([]);
  });

  test.each([
    [{ STATE_DIRECTORY: "/var/lib/a:/var/lib/b", HOME: "/h" }, "/var/lib/a"],
    [{ XDG_STATE_HOME: "/s", HOME: "/h" }, "/s/layover"],
    [{ XDG_STATE_HOME: "relative", HOME: "/h" }, "/h/.local/state/layover"],
    [{}, "/var/lib/layover"],
    [{ LAYOVER_STATE_DIR: "/x", STATE_DIRECTORY: "/y" }, "/x"],
  ])("chooses the state folder from %j", async (env, folder) => {
    expect((await load({ env })).settings.stateDir).toBe(folder);
  });

  test("logs for people on a terminal only", async () => {
    expect((await load({ isTerminal: true })).settings.log.format).toBe("pretty");
    expect((await load({ isTerminal: true, argv: ["--log-format=json"] })).settings.log.format).toBe("json");
  });
});

describe("options that belong together", () => {
  const TLS = ["--tls-cert=c", "--tls-key=k"];

  test.each([
    [["--tls-cert=c"], "flag --tls-cert: --tls-cert needs --tls-key"],
    [["--tls-key=k"], "flag --tls-key: --tls-key needs --tls-cert"],
    [["--tls-key-passphrase-file=p"], "flag --tls-key-passphrase-file: --tls-key-passphrase-file needs --tls-key"],
    [["--acme-webroot=/w"], "flag --acme-webroot: --acme-webroot needs --http-redirect"],
    [
      ["--http-redirect=:80"],
      "flag --http-redirect: --http-redirect needs --tls-cert, or a --public-url with https, to lead to",
    ],
    [["--http-redirect=:5000", ...TLS], "flag --http-redirect: :5000 is a listener already (--listen)"],
    [
      ["--http-redirect=127.0.0.1:5000", ...TLS],
      "flag --http-redirect: 127.0.0.1:5000 is a listener already (--listen)",
    ],
    [["--listen=:1", "--listen=127.0.0.1:1"], "flag --listen: 127.0.0.1:1 and :1 are one address"],
    [["--listen=unix:/a", "--listen=unix:/a"], "flag --listen: unix:/a and unix:/a are one address"],
    [
      ["--strict-hosts"],
      "flag --strict-hosts: --strict-hosts needs --domain-suffix: without it every host would be refused",
    ],
  ])("%j: %s", async (argv, problem) => expect(await problemsOf({ argv })).toEqual([problem]));

  test.each([
    [[...TLS, "--http-redirect=:80", "--acme-webroot=/w", "--tls-key-passphrase-file=p"]],
    [["--http-redirect=:80", "--public-url=https://reg.example"]],
    [["--listen=127.0.0.1:1", "--listen=[::1]:1", "--listen=unix:/a", "--listen=:0", "--listen=:0"]],
    [["--strict-hosts", "--domain-suffix=example.com"]],
  ])("%j go together", async (argv) => expect((await load({ argv })).warnings).toEqual([]));

  test.each([
    ["http://localhost:5000", []],
    ["socks5://127.0.0.1:5000", []],
    ["http://[::1]:5000", []],
    ["http://192.0.2.9:5000", []],
    ["http://0.0.0.0:5000", []],
    ["http://10.1.1.1:80", ["--listen=10.1.1.1:80"]],
    ["http://127.0.0.2", ["--listen=127.0.0.1:80"]],
  ])("an upstream proxy %s that is our own listener is refused", async (url, argv) => {
    const problems = await problemsOf({ argv: [`--upstream-proxy=${url}`, ...argv], localAddresses: ["192.0.2.9"] });
    expect(problems).toEqual([expect.stringContaining("flag --upstream-proxy: expected another program's address")]);
  });

  test.each([
    ["http://localhost:3128", []],
    ["http://192.0.2.10:5000", []],
    ["http://192.0.2.9:5000", ["--listen=127.0.0.1:5000"]],
    ["http://localhost:5000", ["--listen=192.0.2.9:5000"]],
    ["http://localhost:5000", ["--listen=unix:/run/x"]],
  ])("an upstream proxy %s with %j is another program", async (url, argv) => {
    const { settings } = await load({ argv: [`--upstream-proxy=${url}`, ...argv], localAddresses: ["192.0.2.9"] });
    expect(settings.upstream.proxies.general).toBe(url);
  });
});
