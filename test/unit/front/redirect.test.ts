import { describe, expect, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createRedirectListener } from "../../../src/front/redirect.ts";
import type { RedirectOptions } from "../../../src/front/redirect.ts";
import { silent } from "../../support/http-server.ts";
import { openRaw, rawRequest } from "../../support/raw-http.ts";
import { createTempDir } from "../../support/temp-dir.ts";

async function start(options: Partial<RedirectOptions> = {}) {
  const listener = await createRedirectListener(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { domainSuffix: "example.com", publicUrl: undefined, httpsPort: 443, acmeWebroot: undefined, ...options },
    { log: silent, certificate: { current: () => ({ names: ["cert.test"] }) } },
  );
  return {
    url: `http://${listener.address.text}`,
    port: listener.address.port ?? 0,
    listener,
    [Symbol.asyncDispose]: () => listener.close(),
  };
}

describe("redirecting", () => {
  test.each([
    ["GET", "/v2/", 301],
    ["HEAD", "/v2/", 301],
    ["GET", "/v2/library/nginx/tags/list?n=1&last=%2Fa%3F&x", 301],
    ["GET", "/v2/x/blobs/sha256%3Aabc", 301],
    ["POST", "/v2/x/blobs/uploads/", 308],
    ["PUT", "/v2/x/manifests/y", 308],
    ["DELETE", "/v2/x/manifests/y", 308],
    ["GET", "/.well-known/acme-challenge/abc", 301],
  ])(
    "[C28] createRedirectListener() leads %s %s to https, path and query as they came",
    async (method, target, status) => {
      await using redirect = await start();
      const answer = await rawRequest(redirect.url, `${method} ${target}`, ["Host: ghcr.example.com:80"]);
      expect([answer.status, answer.header("location")]).toEqual([status, `https://ghcr.example.com${target}`]);
      expect(answer.isComplete).toBe(true);
    },
  );

  test("[C28] createRedirectListener() leads to the port of the https listener", async () => {
    await using redirect = await start({ httpsPort: 8443 });
    const answer = await rawRequest(redirect.url, "GET /v2/", ["Host: cert.test"]);
    expect(answer.header("location")).toBe("https://cert.test:8443/v2/");
  });

  test.each([
    ["a forged Host", "GET /v2/", ["Host: evil.test"]],
    ["a Host that only ends like ours", "GET /v2/", ["Host: evilexample.com"]],
    ["a Host with a path", "GET /v2/", ["Host: example.com/x"]],
    ["a Host with userinfo", "GET /v2/", ["Host: example.com@evil.test"]],
    ["two Hosts", "GET /v2/", ["Host: example.com", "Host: evil.test"]],
    ["the authority of another", "GET http://evil.test/v2/", ["Host: example.com"]],
    ["two slashes", "GET //evil.test/", ["Host: example.com"]],
    ["a backslash", "GET /\\evil.test/", ["Host: example.com"]],
    ["dot components", "GET /v2/../x", ["Host: example.com"]],
  ])("[C28, T29] createRedirectListener() answers 400 to %s and repeats nothing", async (_, request, lines) => {
    await using redirect = await start();
    const answer = await rawRequest(redirect.url, request, lines);
    expect([answer.status, answer.header("location")]).toEqual([400, undefined]);
    expect(Buffer.from(answer.body).toString()).not.toContain("evil");
  });

  test("[T29] createRedirectListener() answers malformed requests and CONNECT, and lives on", async () => {
    await using redirect = await start();
    for (const bytes of [
      "\x16\x03\x01garbage\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
      "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    ]) {
      const client = await openRaw({ host: "127.0.0.1", port: redirect.port });
      client.send(bytes);
      expect((await client.readAnswer()).status).toBe(400);
      await client.closed;
    }
    expect((await rawRequest(redirect.url, "GET /", ["Host: example.com"])).status).toBe(301);
  });

  test("createRedirectListener() does not wait for the body of a request it redirects", async () => {
    await using redirect = await start();
    const client = await openRaw({ host: "127.0.0.1", port: redirect.port });
    client.send("PUT /v2/x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5000000\r\n\r\n");
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection")]).toEqual([308, "close"]);
    await client.closed;
  });

  test("close() closes kept connections and frees the port", async () => {
    const redirect = await start();
    const client = await openRaw({ host: "127.0.0.1", port: redirect.port });
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    await client.readAnswer();
    client.send("GET / HTTP/1.1\r\nHost: exam");
    await Bun.sleep(20);
    const startedAt = performance.now();
    await redirect.listener.close();
    await client.closed;
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    await (
      await createRedirectListener(
        { kind: "tcp", host: "127.0.0.1", port: redirect.port },
        { domainSuffix: undefined, publicUrl: undefined, httpsPort: 443, acmeWebroot: undefined },
        { log: silent, certificate: undefined },
      )
    ).close();
  });
});

describe("ACME challenges", () => {
  const challenge = (url: string, token: string, method = "GET") =>
    rawRequest(url, `${method} /.well-known/acme-challenge/${token}`, ["Host: any.test"]);

  test("createRedirectListener() serves a challenge on any Host", async () => {
    await using dir = await createTempDir();
    await Bun.write(dir.file(".well-known/acme-challenge/To-ken_1"), "To-ken_1.thumbprint");
    await using redirect = await start({ acmeWebroot: dir.path });
    const answer = await challenge(redirect.url, "To-ken_1");
    expect([answer.status, answer.header("content-type")]).toEqual([200, "text/plain; charset=utf-8"]);
    expect(Buffer.from(answer.body).toString()).toBe("To-ken_1.thumbprint");
    const post = await rawRequest(redirect.url, "POST /.well-known/acme-challenge/To-ken_1", ["Host: example.com"]);
    expect(post.status).toBe(308);
    const headOnly = await challenge(redirect.url, "To-ken_1", "HEAD");
    expect([headOnly.status, headOnly.header("content-length")]).toEqual([200, "19"]);
  });

  test("createRedirectListener() serves nothing but plain challenge files", async () => {
    await using dir = await createTempDir();
    const folder = dir.file(".well-known/acme-challenge");
    mkdirSync(folder, { recursive: true });
    writeFileSync(dir.file("secret"), "secret");
    symlinkSync(dir.file("secret"), `${folder}/link`);
    mkdirSync(`${folder}/folder`);
    writeFileSync(`${folder}/big`, "x".repeat(16 * 1024 + 1));
    writeFileSync(`${folder}/fits`, "x".repeat(16 * 1024));
    writeFileSync(`${folder}/dotted.txt`, "x");
    await Bun.spawn(["mkfifo", `${folder}/pipe`]).exited;
    await using redirect = await start({ acmeWebroot: dir.path });
    for (const token of ["link", "folder", "big", "dotted.txt", "pipe", "none", "", "a/b", "x".repeat(300)]) {
      const answer = await challenge(redirect.url, token);
      expect([token, answer.status]).toEqual([token, 404]);
    }
    expect((await challenge(redirect.url, "fits")).body.length).toBe(16 * 1024);
    for (const token of ["..", "../../secret", "%2e%2e%2fsecret", "..%2f..%2fsecret", ".%2e/secret"]) {
      expect((await challenge(redirect.url, token)).status).toBe(400);
    }
  });
});
