/** What is beside the registry API, what a person sees, what the log says, and how the program ends and reloads. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { makeImage } from "../support/images.ts";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { startLayover } from "../support/layover.ts";
import { openRaw, rawRequest } from "../support/raw-http.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm();
});
afterAll(() => farm.stop());

describe("system routes", () => {
  test("[C25, C32] /healthz and /health", async () => {
    for (const path of ["/healthz", "/health"]) {
      const answer = await farm.ask(path);
      expect([answer.status, answer.headers.get("content-type"), await answer.text()]).toEqual([
        200,
        "application/json",
        '{"status":"ok"}',
      ]);
    }
  });

  test("/readyz is 200 while serving", async () => {
    const answer = await farm.ask("/readyz");
    expect([answer.status, (await answer.json()) as unknown]).toEqual([
      200,
      expect.objectContaining({ status: "ready", registries: 4 }),
    ]);
  });

  test("[C32] /help is the map, flat, without secrets", async () => {
    const answer = await farm.ask("/help");
    expect(await answer.json()).toEqual({
      default: farm.hub.url,
      hub: farm.hub.url,
      quay: farm.quay.url,
      ghcr: farm.ghcr.url,
      basic: farm.basic.url,
    });
  });

  test("/ says what this is", async () => {
    const answer = await farm.ask("/");
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain("/help");
  });

  test("[C2] / leads to the API where CUSTOM_DOMAIN is set, but not browsers", async () => {
    const layover = await startLayover({ env: { CUSTOM_DOMAIN: "example.test" } });
    const client = await fetch(`${layover.url}/`, { redirect: "manual" });
    expect([client.status, client.headers.get("location")]).toEqual([301, "/v2/"]);
    const browser = await fetch(`${layover.url}/`, { headers: { accept: "text/html" } });
    expect(browser.status).toBe(200);
    await browser.text();
    await layover.stop();
  });

  test("/docs loads everything from here", async () => {
    const page = await farm.ask("/docs");
    const html = await page.text();
    expect(page.headers.get("content-type")).toContain("text/html");
    const sources = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
    expect(sources.length).toBeGreaterThanOrEqual(2);
    for (const source of sources) {
      expect(source).toStartWith("/docs/");
      const asset = await farm.ask(source);
      expect(asset.status).toBe(200);
      expect((await asset.bytes()).byteLength).toBeGreaterThan(10_000);
    }
    const description = (await (await farm.ask("/docs/json")).json()) as { paths: Record<string, unknown> };
    expect(Object.keys(description.paths)).toEqual(
      expect.arrayContaining([
        "/healthz",
        "/token/{registry}",
        "/v2/{name}/manifests/{reference}",
        "/v2/{name}/blobs/{digest}",
      ]),
    );
  });

  test.each(["/nothing", "/v3/", "/favicon.ico", "/api/x"])("%s is 404 with JSON", async (path) => {
    const answer = await farm.ask(path);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([404, "application/json"]);
    await answer.text();
  });
});

describe("the raw request", () => {
  const hostile: [title: string, start: string, lines: string[], status: number][] = [
    ["[T29] two hosts", "GET /v2/", ["Host: a.test", "Host: b.test"], 400],
    ["[T29] a host with a path", "GET /v2/", ["Host: a.test/v2/x?"], 400],
    ["[T29] a host with a user", "GET /v2/", ["Host: u@a.test"], 400],
    ["[R251, T29] dots", "GET /v2/../healthz", [], 400],
    ["[R251, T29] encoded dots", "GET /v2/%2e%2e/healthz", [], 400],
    ["[R251, R252, T29] an encoded slash", "GET /v2/..%2fetc/manifests/x", [], 400],
    ["[R251] a backslash", "GET /v2/..\\etc/manifests/x", [], 400],
    ["[R251] two slashes", "GET //evil.test/v2/", [], 400],
    ["[T29] absolute, another host", "GET http://evil.test/v2/", [], 400],
    ["[R254] an unknown method", "PURGE /v2/", [], 405],
    ["[R254] TRACE", "TRACE /v2/", [], 405],
    ["[R254] CONNECT", "CONNECT quay.io:443", [], 405],
  ];
  test.each(hostile)(
    "%s is refused, says nothing back, and the process lives",
    async (_title, start, lines, status) => {
      const answer = await rawRequest(farm.layover.url, start, lines);
      expect(answer.status).toBe(status);
      expect(new TextDecoder().decode(answer.body)).not.toMatch(/evil|etc|a\.test/);
      expect((await farm.ask("/healthz")).status).toBe(200);
    },
  );

  test("[R104, T29] 60 KiB of headers pass, more are refused with 431", async () => {
    const long = await rawRequest(farm.layover.url, "GET /healthz", [`X-Long: ${"a".repeat(60 * 1024)}`]);
    expect(long.status).toBe(200);
    const tooLong = await rawRequest(farm.layover.url, "GET /healthz", [`X-Long: ${"a".repeat(80 * 1024)}`]);
    expect(tooLong.status).toBe(431);
  });

  test("[R119, R229, T29] forged forwarding headers change no URL", async () => {
    const answer = await farm.ask("/v2/", {
      headers: {
        "x-forwarded-host": "evil.test",
        "x-forwarded-proto": "https",
        forwarded: "host=evil.test;proto=https",
      },
    });
    expect(answer.headers.get("www-authenticate")).not.toContain("evil");
    expect(answer.headers.get("www-authenticate")).toContain('realm="http://');
    await answer.text();
  });

  test("[R147, T23] a request that has our own name in Via is 508", async () => {
    await (await farm.ask("/v2/quay/org/app/manifests/latest")).bytes();
    const via = farm.quay.requests.at(-1)?.headers.get("via") ?? "";
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { via } });
    expect(answer.status).toBe(508);
    await answer.text();
    const other = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { via: "1.1 layover-other" } });
    expect(other.status).toBe(200);
    await other.bytes();
    expect(farm.quay.requests.at(-1)?.headers.get("via")).toBe(`1.1 layover-other, ${via}`);
  });
});

describe("behind a reverse proxy", () => {
  test("[R119, R229, R231] a trusted one says how the client came", async () => {
    const layover = await startLayover({
      args: ["--trusted-proxies", "127.0.0.0/8", "--domain-suffix", "example.test"],
    });
    const headers = {
      "x-forwarded-proto": "https",
      "x-forwarded-host": "ghcr.example.test",
      "x-forwarded-for": "203.0.113.9",
    };
    const answer = await fetch(`${layover.url}/v2/`, { headers });
    expect(answer.headers.get("www-authenticate")).toContain('realm="https://ghcr.example.test/token/ghcr"');
    await answer.text();
    const line = await layover.logLine(({ uri }) => uri === "/v2/");
    expect(line["client"]).toBe("203.0.113.9");
    await layover.stop();
  });

  test("a public URL is the base of each URL", async () => {
    const layover = await startLayover({ args: ["--public-url", "https://registry.test:8443"] });
    const answer = await fetch(`${layover.url}/v2/`);
    expect(answer.headers.get("www-authenticate")).toContain('realm="https://registry.test:8443/token"');
    await answer.text();
    await layover.stop();
  });
});

describe("a registry's policy", () => {
  test("allow and deny patterns are 403 DENIED, before anybody is asked", async () => {
    const strict = await startFarm({ entries: { quay: { allow: ["org/**"], deny: ["org/secret*"] } } });
    strict.quay.add("org/secret", makeImage());
    const served = await strict.ask("/v2/quay/org/app/manifests/latest");
    expect(served.status).toBe(200);
    await served.bytes();
    for (const path of [
      "/v2/quay/org/secret/manifests/latest",
      "/v2/quay/other/app/manifests/latest",
      "/v2/quay.io/other/app/tags/list",
    ]) {
      const answer = await strict.ask(path);
      expect(answer.status).toBe(403);
      expect(await answer.text()).toContain("DENIED");
    }
    expect(strict.quay.count()).toBe(1);
    await strict.stop();
  });

  test("[R246, R41, R123] configured credentials read what is public for everybody, and what is private for nobody", async () => {
    const farmed = await startFarm({ entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } } });
    const first = await farmed.ask("/v2/ghcr/org/app/manifests/latest"); // shows that it is public
    expect(first.status).toBe(200);
    await first.bytes();
    const blob = await farmed.ask(`/v2/ghcr/org/app/blobs/${layerOf(farmed.images.ghcr)}`);
    expect(blob.status).toBe(200);
    await blob.bytes();
    expect(farmed.ghcr.tokenRequests.some(({ headers }) => headers.get("authorization") !== null)).toBe(true);
    await farmed.layover.logLine(({ msg }) => /private ones need --share-private/.test(msg ?? ""));
    const secret = await farmed.ask("/v2/ghcr/org/private/manifests/latest");
    expect(secret.status).toBe(401);
    await secret.text();
    // What a client sends is not passed on, and gives it nothing.
    const token = await farmed.token("/token/ghcr", "bob:hunter2");
    expect(
      (await farmed.ask("/v2/ghcr/org/private/manifests/latest", { headers: { authorization: `Bearer ${token}` } }))
        .status,
    ).toBe(404);
    expect(JSON.stringify(farmed.ghcr.tokenRequests.map(({ headers }) => headers.get("authorization")))).not.toContain(
      Buffer.from("bob:hunter2").toString("base64"),
    );
    await farmed.stop();
  });

  test("[R246] what another upstream shows to everybody does not open the first one's repository of that name", async () => {
    const mirror = await createFakeRegistry();
    const mirrored = makeImage({ seed: "mirrored" });
    mirror.add("org/private", mirrored);
    const entries = { ghcr: { credentials: [{ username: "alice", password: "secret" }] } };
    const farmed = await startFarm({ entries, mirrors: { ghcr: mirror.url } });
    farmed.ghcr.faults.token.status = 503; // so that the mirror is asked
    const first = await farmed.ask("/v2/ghcr/org/private/manifests/latest");
    expect([first.status, first.headers.get("docker-content-digest")]).toEqual([200, mirrored.digest]);
    await first.text();
    farmed.ghcr.faults.token = {};
    const answer = await farmed.ask("/v2/ghcr/org/private/manifests/latest");
    expect(answer.headers.get("docker-content-digest")).not.toBe(farmed.images.secret.digest);
    expect(await answer.text()).not.toContain(layerOf(farmed.images.secret));
    await farmed.stop();
    await mirror.close();
  });

  test("[R246] with --share-private they read what is private for everybody too", async () => {
    const farmed = await startFarm({
      args: ["--share-private"],
      entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } },
    });
    const answer = await farmed.ask("/v2/ghcr/org/private/manifests/latest");
    expect(answer.status).toBe(200);
    await answer.bytes();
    const warning = await farmed.layover.logLine(({ level, msg }) => level === "warn" && /everybody/.test(msg ?? ""));
    expect(warning["registries"]).toEqual(["ghcr"]);
    await farmed.stop();
  });
});

describe("the log", () => {
  test("[C24] has one line per request, with what an operator asks", async () => {
    const path = `/v2/quay/org/app/blobs/${layerOf(farm.images.quay)}`;
    const answer = await farm.ask(path, { headers: { "user-agent": "containerd/2.3" } });
    await answer.bytes();
    const line = await farm.layover.logLine(({ id }) => id === answer.headers.get("x-request-id"));
    expect(line).toMatchObject({
      level: "info",
      msg: "request",
      method: "GET",
      uri: path,
      status: 200,
      bytes: 50_000,
      registry: "quay",
      repository: "org/app",
      upstream: farm.quay.host.replace("http://", ""),
      upstreamStatus: 200,
      agent: "containerd/2.3",
    });
    expect(typeof line["ms"]).toBe("number");
    expect(typeof line["upstreamMs"]).toBe("number");
    expect(typeof line["time"]).toBe("string");
    expect(farm.layover.log.filter(({ id }) => id === line["id"])).toHaveLength(1);
  });

  test("debug shows heads, and no secret in them", async () => {
    const layover = await startLayover({ args: ["--log-level", "debug"] });
    await (
      await fetch(`${layover.url}/v2/`, {
        headers: { authorization: "Bearer very-secret", cookie: "session=very-secret", "x-shown": "yes" },
      })
    ).text();
    const line = await layover.logLine(({ msg }) => msg === "request head");
    expect(JSON.stringify(line)).toContain("x-shown");
    expect(JSON.stringify(layover.log)).not.toContain("very-secret");
    await layover.stop();
  });
});

describe("the end", () => {
  test("[R264] SIGTERM lets a transfer end, takes no new connection, and exits 0", async () => {
    const own = await startFarm();
    const image = makeImage({ seed: "draining", layers: [2_000_000] });
    own.quay.add("org/slow", image);
    own.quay.faults.blob.stallAfterBytes = 500_000;
    const connection = await openRaw(own.layover.url);
    connection.send(`GET /v2/quay/org/slow/blobs/${layerOf(image)} HTTP/1.1\r\nHost: x.test\r\n\r\n`);
    const head = await connection.readHead();
    expect(head.status).toBe(200);
    await own.quay.untilHeld(1);
    own.layover.signal("SIGTERM");
    await own.layover.logLine(({ msg }) => /drain|stopping/i.test(msg ?? ""));
    await expect(fetch(`${own.layover.url}/healthz`)).rejects.toThrow();
    own.quay.release();
    expect((await connection.read(2_000_000)).byteLength).toBe(2_000_000);
    expect(await own.layover.exited).toBe(0);
    await Promise.all([own.hub, own.quay, own.ghcr, own.basic].map((registry) => registry.close()));
  });
});
