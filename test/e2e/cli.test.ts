/** The program as a person meets it: what it prints, where, and how it ends. */
import { describe, expect, test } from "bun:test";
import { createServer } from "node:net";
import { join } from "node:path";
import { testAuthority } from "../support/certs.ts";
import { startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const BINARY = process.env["LAYOVER_BINARY"];

interface Ended {
  code: number;
  out: string;
  err: string;
}

interface RunOptions {
  env?: Record<string, string>;
  /** Name → text; they lie in the working directory. */
  files?: Record<string, string>;
}

/** Runs the program in a folder of its own until it ends. */
async function run(argv: string[], { env = {}, files = {} }: RunOptions = {}): Promise<Ended> {
  await using dir = await createTempDir();
  for (const [name, text] of Object.entries(files)) await Bun.write(dir.file(name), text);
  const program = BINARY === undefined || BINARY === "" ? [process.execPath, "--no-env-file", MAIN] : [BINARY];
  const child = Bun.spawn([...program, ...argv], {
    cwd: dir.path,
    env: { PATH: process.env["PATH"], HOME: dir.path, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out, err };
}

describe("help and version", () => {
  test.each([[["help"]], [["-help"]], [["--listn", "--help"]]])("[C31] layover %j prints help", async (argv) => {
    const { code, out, err } = await run(argv);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("Usage: layover [command] [flags]");
    expect(out).toContain("--registry-map FILE|URL");
  });

  test.each([[["version"]], [["-version"]]])(
    "[C31] layover %j prints version, commit, build time and Bun",
    async (argv) => {
      const { code, out } = await run(argv);
      expect(code).toBe(0);
      expect(out).toMatch(/^layover \S+ \(commit \S+, built \S+, Bun \d+\.\d+\.\d+\)\n$/);
    },
  );
});

describe("a wrong configuration", () => {
  test.each([
    [["--listn=:1"], "layover: flag --listn: unknown flag; did you mean --listen?\n"],
    [
      ["--lisen", ":1", "--log-level", "x"],
      "layover: flag --lisen: unknown flag; did you mean --listen?\nlayover: flag --log-level: ",
    ],
    [["serv"], "layover: command line: unknown command serv; did you mean serve?\n"],
    [["serve", "now"], "layover: command line: serve: unexpected argument now\n"],
    [["setup"], "layover: command line: setup: expected a client: docker, "],
    [["setup", "podmn"], "layover: command line: setup: unknown client podmn; did you mean podman?\n"],
    [["--config=none.yaml"], "layover: flag --config: cannot read the configuration file: ENOENT"],
  ])("[C31] layover %j ends with 2: %s", async (argv, line) => {
    const { code, out, err } = await run(argv);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toStartWith(line);
    expect(err).toEndWith('layover: see "layover help"\n');
  });

  test("[C31] is told whole, each problem with its place", async () => {
    const { code, err } = await run(["--config=c.toml", "--log-level=loud", "--http-redirect=:80"], {
      env: { LAYOVER_LISTN: ":1", LAYOVER_DRAIN_TIMEOUT: "1" },
      files: { "c.toml": 'lisen = ":1"\nidleTimeout = "x"' },
    });
    expect(code).toBe(2);
    expect(err.trimEnd().split("\n")).toEqual([
      "layover: environment variable LAYOVER_LISTN: unknown variable; did you mean LAYOVER_LISTEN?",
      "layover: c.toml: lisen: unknown key; did you mean listen?",
      'layover: flag --log-level: expected trace, debug, info, warn or error, got "loud"',
      'layover: environment variable LAYOVER_DRAIN_TIMEOUT: expected a time such as 30s, 10m or 1h30m, got "1"; write 1s for seconds',
      'layover: c.toml: idleTimeout: expected a time such as 30s, 10m or 1h30m, got "x"',
      "layover: flag --http-redirect: --http-redirect needs --tls-cert, or a --public-url with https, to lead to",
      'layover: see "layover help"',
    ]);
  });

  test("a malformed map ends with 2 and names every fault", async () => {
    const { code, err } = await run(["--registry-map=map.json"], {
      files: { "map.json": '{"a": "ftp://a", "help": "https://b"}' },
    });
    expect(code).toBe(2);
    expect(err).toContain('layover: map.json: a: expected an http or https URL, got "ftp://a"\n');
    expect(err).toContain("layover: map.json: help: expected another key: this one is a path of our own\n");
  });
});

describe("what cannot be had ends with 1 and one line", () => {
  const oneLine = ({ code, err }: Ended) => {
    expect(code).toBe(1);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
    expect(err).toStartWith("layover: ");
    return err;
  };

  test("[C38] a map's URL that nobody answers", async () => {
    const err = oneLine(await run(["--registry-map=https://127.0.0.1:1/map.json?key=hunter2"]));
    expect(err).toContain("cannot get the registry map https://127.0.0.1:1/map.json: ");
    expect(err).toEndWith("check --registry-map\n");
    expect(err).not.toContain("hunter2");
  });

  test("a map's file that is not there", async () => {
    expect(oneLine(await run(["--registry-map=none.json"]))).toContain(
      "cannot read the registry map none.json: ENOENT",
    );
  });

  test("a port in use", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const err = oneLine(await run([`--listen=127.0.0.1:${port}`]));
    expect(err).toContain(`port ${port} is in use`);
    server.close();
  });

  test("a key that cannot be read, or is not the certificate's", async () => {
    const authority = testAuthority();
    const files = {
      "c.pem": authority.issue().certPem,
      "k.pem": authority.issue({ kind: "rsa" }).keyPem,
      "junk.pem": "junk",
    };
    expect(oneLine(await run(["--listen=127.0.0.1:0", "--tls-cert=c.pem", "--tls-key=none.pem"], { files }))).toContain(
      "none.pem",
    );
    expect(oneLine(await run(["--listen=127.0.0.1:0", "--tls-cert=c.pem", "--tls-key=junk.pem"], { files }))).toContain(
      "junk.pem",
    );
    oneLine(await run(["--listen=127.0.0.1:0", "--tls-cert=c.pem", "--tls-key=k.pem"], { files }));
  });
});

describe("serve", () => {
  test("is the default; says where it listens, what it read, and ends with 0 on SIGTERM", async () => {
    const layover = await startLayover({ env: { CUSTOM_DOMAIN: "example.com", DEBUG: "express:*" } });
    const lines = layover.log.map(({ level, msg }) => `${level}: ${msg}`);
    expect(lines).toContain("warn: CUSTOM_DOMAIN is read as --domain-suffix");
    expect(lines).toContain('warn: DEBUG is ignored: expected true or false, got "express:*"');
    expect((await fetch(`${layover.url}/healthz`)).status).toBe(200);
    await layover.stop();
    expect(layover.log.at(-1)?.msg).toBe("stopped");
  });

  test("starts again in the same process with room for many upstream requests", async () => {
    const layover = await startLayover();
    const environment = await Bun.file(`/proc/${layover.pid}/environ`).text();
    expect(environment.split("\0")).toContain("BUN_CONFIG_MAX_HTTP_REQUESTS=65535");
    const command = await Bun.file(`/proc/${layover.pid}/cmdline`).text();
    if (BINARY === undefined || BINARY === "") expect(command.split("\0")).toContain("--no-env-file");
    await layover.stop();
  });

  test("leaves the number of requests alone where it is set", async () => {
    const layover = await startLayover({ env: { BUN_CONFIG_MAX_HTTP_REQUESTS: "300" } });
    expect(await Bun.file(`/proc/${layover.pid}/environ`).text()).toContain("BUN_CONFIG_MAX_HTTP_REQUESTS=300\0");
    await layover.stop();
  });

  test("[T27] SIGHUP reads the map again, and a bad one changes nothing", async () => {
    await using dir = await createTempDir();
    const path = dir.file("map.json");
    await Bun.write(path, '{"a": "https://a.test"}');
    const layover = await startLayover({ args: ["--registry-map", path] });
    const help = async () => (await fetch(`${layover.url}/help`)).json();
    expect(await help()).toEqual({ default: "https://a.test", a: "https://a.test" });

    await Bun.write(path, '{"b": "https://b.test"}');
    layover.signal("SIGHUP");
    await layover.logLine(({ msg }) => msg === "registry map loaded");
    expect(await help()).toEqual({ default: "https://b.test", b: "https://b.test" });

    await Bun.write(path, '{"b": "ftp://b.test"}');
    layover.signal("SIGHUP");
    const refused = await layover.logLine(({ msg }) => msg === "new registry map refused, the old one stays");
    expect(refused).toMatchObject({
      level: "error",
      problem: `${path}: b: expected an http or https URL, got "ftp://b.test"`,
    });
    expect(await help()).toMatchObject({ b: "https://b.test" });
    await layover.stop();
  });

  test("the first SIGTERM waits for running transfers, the second does not", async () => {
    // The upstream sends ten bytes of a blob and then nothing.
    using registry = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: stalledBlob });
    const layover = await startLayover({
      map: { a: `http://127.0.0.1:${registry.port}` },
      args: ["--log-level=debug"],
    });
    const pull = await fetch(`${layover.url}/v2/a/org/app/blobs/sha256:${"0".repeat(64)}`);
    expect(pull.status).toBe(200);
    layover.signal("SIGTERM");
    await layover.logLine(({ msg }) => msg === "stopping: waiting for running transfers");
    const isOver = await Promise.race([layover.exited.then(() => true), Bun.sleep(300).then(() => false)]);
    expect(isOver).toBe(false);
    layover.signal("SIGTERM");
    expect(await layover.exited).toBe(0);
    await expect(pull.bytes()).rejects.toThrow();
    await registry.stop(true);
  });

  test("says in one line who may pull what the configured credentials may read", async () => {
    const map = { a: { upstreams: ["https://a.test"], credentials: [{ username: "u", password: "hunter2" }] } };
    const layover = await startLayover({ map });
    const shared = await startLayover({ map, args: ["--share-private"] });
    const lineOf = ({ log }: typeof layover) => log.filter(({ msg }) => msg?.includes("credentials"));
    expect(lineOf(layover)).toMatchObject([
      { level: "info", registries: ["a"], msg: expect.stringContaining("private ones need --share-private") },
    ]);
    expect(lineOf(shared)).toMatchObject([
      { level: "warn", registries: ["a"], msg: expect.stringContaining("everybody") },
    ]);
    expect(JSON.stringify([layover.log, shared.log])).not.toContain("hunter2");
    await layover.stop();
    await shared.stop();
  });
});

function stalledBlob({ url }: Request): Response {
  if (url.endsWith("/v2/")) return new Response("{}");
  const body = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(10)) });
  return new Response(body, { headers: { "content-type": "application/octet-stream" } });
}

describe("check", () => {
  test("says what is well and what is not, with the mend, and ends with 1", async () => {
    using registry = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ url }) => new Response(null, { status: url.endsWith("/v2/") ? 401 : 404 }),
    });
    const authority = testAuthority();
    const leaf = authority.issue({ names: ["reg.example"], notAfter: new Date(Date.now() + 5 * 86_400_000) });
    const files = {
      "map.json": JSON.stringify({
        good: `http://127.0.0.1:${registry.port}`,
        odd: `http://127.0.0.1:${registry.port}/base`,
        gone: "http://127.0.0.1:1",
      }),
      "c.pem": leaf.certPem,
      "k.pem": leaf.keyPem,
    };
    const { code, out, err } = await run(["check", "--registry-map=map.json", "--tls-cert=c.pem", "--tls-key=k.pem"], {
      files,
    });
    expect({ code, err }).toEqual({ code: 1, err: "" });
    expect(out).toContain("OK    registry map   map.json: 3 registries, default good\n");
    expect(out).toMatch(/WARN {2}certificate {4}reg\.example, until \S+: 4 days left; is its renewal running\?/);
    expect(out).toMatch(/OK {4}good {11}http:\/\/127\.0\.0\.1:\d+: asks for tokens or credentials, \d+ ms/);
    expect(out).toMatch(/OK {4}odd /);
    expect(out).toMatch(
      /FAIL {2}gone {11}http:\/\/127\.0\.0\.1:1: .*; check the network, --upstream-proxy and the map/,
    );
    expect(out).toMatch(/WARN {2}secrets {8}k\.pem holds a secret and every user of this machine may read it/);
    expect(out).toEndWith("1 of 8 checks failed; 2 warnings\n");
  });

  test("ends with 0 when nothing is wrong", async () => {
    using registry = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("{}") });
    const { code, out } = await run(["check", "--registry-map=map.json"], {
      files: { "map.json": JSON.stringify({ a: `http://127.0.0.1:${registry.port}` }) },
    });
    expect(out).toContain(": open, ");
    expect(out).toEndWith("nothing is wrong\n");
    expect(code).toBe(0);
  });

  test("tells whether credentials are accepted, a foreign key, and an expired certificate", async () => {
    const right = `Basic ${Buffer.from("u:right").toString("base64")}`;
    using registry = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ headers }) =>
        headers.get("authorization") === right
          ? new Response("{}")
          : new Response(null, { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } }),
    });
    const upstreams = [`http://127.0.0.1:${registry.port}`];
    const authority = testAuthority();
    const past = authority.issue({ notBefore: new Date(2020, 1), notAfter: new Date(2020, 2) });
    const files = {
      "map.json": JSON.stringify({ a: { upstreams, credentials: [{ username: "u", password: "right" }] } }),
      "bad.json": JSON.stringify({ a: { upstreams, credentials: [{ username: "u", password: "wrong" }] } }),
      "c.pem": past.certPem,
      "k.pem": past.keyPem,
      "other.pem": authority.issue({ kind: "rsa" }).keyPem,
    };
    const good = await run(["check", "--registry-map=map.json"], { files });
    expect(good.out).toContain("user u at");
    expect(good.out).toContain(": accepted\n");
    expect(good.code).toBe(0);
    const bad = await run(["check", "--registry-map=bad.json", "--tls-cert=c.pem", "--tls-key=k.pem"], { files });
    expect(bad.out).toContain(": refused; check the account where it is configured\n");
    expect(bad.out).toMatch(/until 2020-0[23]-\d\d: expired; renew it/);
    const foreign = await run(["check", "--registry-map=map.json", "--tls-cert=c.pem", "--tls-key=other.pem"], {
      files,
    });
    expect(foreign.out).toContain("FAIL  certificate");
    expect(foreign.out).toContain("other.pem is not the key of c.pem");
  });
});

describe("setup", () => {
  test("prints a client's configuration for the public URL", async () => {
    const { code, out, err } = await run(["setup", "podman", "--public-url=https://reg.example"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain('location = "reg.example/ghcr.io"');
  });

  test.each([
    [["--listen=192.0.2.7:5001"], "http://192.0.2.7:5001"],
    [["--listen=[2001:db8::1]:80"], "http://[2001:db8::1]"],
    [["--domain-suffix=example.com", "--tls-cert=c", "--tls-key=k", "--listen=:443"], "https://example.com"],
    [["--listen=unix:/run/x"], "http://"],
  ])("finds the address in %j", async (argv, address) => {
    expect((await run(["setup", "docker", ...argv])).out).toContain(`"${address}`);
  });
});
