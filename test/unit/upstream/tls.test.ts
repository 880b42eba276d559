import { describe, expect, test } from "bun:test";
import type { Registry } from "../../../src/registry/registry.ts";
import { createDial, type Dial } from "../../../src/upstream/dial.ts";
import { testAuthority } from "../../support/certs.ts";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const authority = testAuthority();
const image = makeImage();
const ok = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

/** Every name is 127.0.0.1. */
const dial: Dial = createDial({ connectTimeoutMs: 1_000, family: 0 }, { lookup: async () => ["127.0.0.1"] });

function tls(names: string[], changes: { notAfter?: Date } = {}) {
  const { certPem, keyPem } = authority.issue({ names, ...changes });
  return { cert: certPem, key: keyPem };
}

function trusting(url: string, changes: Partial<Registry["tls"]> = {}): Registry {
  return registryAt(url, { tls: { ca: authority.certPem, insecureSkipVerify: false, ...changes } });
}

describe("a certificate", () => {
  test("is checked against the name, though an address is dialled", async () => {
    const host = await wireHost(ok, { tls: tls(["reg.test"]) });
    const client = testClient({}, { dial });
    const answer = await client.send(ask(trusting(`https://reg.test:${host.port}`)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
    expect(host.requests[0]?.headers.get("host")).toBe(`reg.test:${host.port}`);
    expect(await failureOf(client.send(ask(trusting(`https://other.test:${host.port}`))))).toMatchObject({
      kind: "tls",
    });
  });

  test("for the address alone does not stand for a name", async () => {
    const host = await wireHost(ok, { tls: tls(["127.0.0.1"]) });
    const client = testClient({}, { dial });
    expect(await failureOf(client.send(ask(trusting(`https://reg.test:${host.port}`))))).toMatchObject({ kind: "tls" });
    const answer = await client.send(ask(trusting(`https://127.0.0.1:${host.port}`)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
  });

  test("of an unknown authority, or out of date, is refused, and nothing is tried again", async () => {
    for (const { at, leaf } of [
      { at: (url: string) => registryAt(url), leaf: tls(["reg.test"]) },
      { at: (url: string) => trusting(url), leaf: tls(["reg.test"], { notAfter: new Date(Date.now() - 1000) }) },
    ]) {
      const host = await wireHost(ok, { tls: leaf });
      const error = await failureOf(testClient({}, { dial }).send(ask(at(`https://reg.test:${host.port}`))));
      expect(error).toMatchObject({ kind: "tls" });
      expect([host.requests.length, host.connections()]).toEqual([0, 0]);
    }
  });

  test("is not checked with insecureSkipVerify, which holds for no other registry", async () => {
    const host = await wireHost(ok, { tls: tls(["other.test"]) });
    const url = `https://reg.test:${host.port}`;
    const client = testClient({}, { dial });
    const careless = registryAt(url, { tls: { insecureSkipVerify: true } });
    for (let i = 0; i < 2; i++) {
      const answer = await client.send(ask(careless));
      expect(answer.status).toBe(200);
      await bytesOf(answer);
      expect(await failureOf(client.send(ask(trusting(url))))).toMatchObject({ kind: "tls" });
    }
  });
});

test("[R149] two names of one registry on one address and port never share a connection", async () => {
  for (const scheme of ["https", "http"]) {
    const host = await wireHost(
      async (request, answer) => {
        const isFirst = request.headers.get("host")?.startsWith("a.test:");
        const moved = `HTTP/1.1 307 Moved\r\nLocation: ${scheme}://b.test:${host.port}/x\r\nContent-Length: 0\r\n\r\n`;
        await (isFirst ? answering(moved) : ok)(request, answer);
      },
      scheme === "https" ? { tls: tls(["a.test", "b.test"]) } : {},
    );
    const client = testClient({}, { dial });
    const at = trusting(`${scheme}://a.test:${host.port}`);
    for (let i = 0; i < 2; i++) await bytesOf(await client.send(ask(at)));
    expect(host.requests).toHaveLength(4);
    // Of the plain connections, two more stood for the choice of the address.
    expect(host.connections()).toBe(scheme === "https" ? 2 : 4);
  }
});

test("one connection serves requests that follow each other over TLS", async () => {
  const host = await wireHost(ok, { tls: tls(["reg.test"]) });
  const client = testClient({}, { dial });
  const at = trusting(`https://reg.test:${host.port}`);
  for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
  // TLS connections; what stood for the choice of the address never got that far.
  expect(host.connections()).toBe(1);
});

describe("a client certificate", () => {
  const client = authority.issue({ names: ["layover"], usage: "client" });
  const own = { cert: client.certPem, key: client.keyPem };

  test("is shown to its own upstream", async () => {
    const host = await wireHost(ok, { tls: { ...tls(["reg.test"]), ca: authority.certPem } });
    const answer = await testClient({}, { dial }).send(ask(trusting(`https://reg.test:${host.port}`, own)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
    expect(
      await failureOf(testClient({}, { dial }).send(ask(trusting(`https://reg.test:${host.port}`)))),
    ).toBeInstanceOf(Error);
  });

  test("is not shown where the upstream redirects to", async () => {
    const storage = await wireHost(ok, { tls: { ...tls(["cdn.test"]), ca: authority.certPem } });
    const moved = answering(
      `HTTP/1.1 307 Moved\r\nLocation: https://cdn.test:${storage.port}/x\r\nContent-Length: 0\r\n\r\n`,
    );
    const host = await wireHost(moved, { tls: tls(["reg.test"]) });
    expect(
      await failureOf(testClient({}, { dial }).send(ask(trusting(`https://reg.test:${host.port}`, own)))),
    ).toBeInstanceOf(Error);
    expect(storage.requests).toHaveLength(0);
  });
});

describe("an https upstream", () => {
  test("[R107] may not redirect to http", async () => {
    const storage = await wireHost(ok);
    const moved = answering(
      `HTTP/1.1 307 Moved\r\nLocation: http://reg.test:${storage.port}/x\r\nContent-Length: 0\r\n\r\n`,
    );
    const host = await wireHost(moved, { tls: tls(["reg.test"]) });
    const error = await failureOf(testClient({}, { dial }).send(ask(trusting(`https://reg.test:${host.port}`))));
    expect(error).toMatchObject({ kind: "bad-answer", message: expect.stringContaining("from https to http") });
    expect(storage.connections()).toBe(0);
  });

  test("[R107] may not name a realm on http", async () => {
    const tokenServer = await wireHost(answering('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"x"}'));
    const challenge = `HTTP/1.1 401 Who\r\nWWW-Authenticate: Bearer realm="http://reg.test:${tokenServer.port}/token"\r\nContent-Length: 0\r\n\r\n`;
    const host = await wireHost(answering(challenge), { tls: tls(["reg.test"]) });
    const error = await failureOf(testClient({}, { dial }).send(ask(trusting(`https://reg.test:${host.port}`))));
    expect(error).toMatchObject({ kind: "bad-answer", message: expect.stringContaining("is not https") });
    expect(tokenServer.connections()).toBe(0);
  });

  test("[R149] loses Authorization when a redirect changes the host but not the port", async () => {
    const seen: (string | null)[] = [];
    const host = await wireHost(
      async (request, answer) => {
        const name = request.headers.get("host")?.split(":")[0];
        if (name === "cdn.test") seen.push(request.headers.get("authorization"));
        const challenge = `HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n`;
        const moved = `HTTP/1.1 307 Moved\r\nLocation: https://cdn.test:${host.port}/x\r\nContent-Length: 0\r\n\r\n`;
        if (name === "cdn.test") return ok(request, answer);
        await answering(request.headers.has("authorization") ? moved : challenge)(request, answer);
      },
      { tls: tls(["reg.test", "cdn.test"]) },
    );
    const origin = `https://reg.test:${host.port}`;
    const identity = { kind: "credential", credential: { origin, id: "1", username: "ann", password: "pw" } } as const;
    const answer = await testClient({}, { dial }).send(
      ask(trusting(origin), { identity, method: "HEAD", path: "tags/list" }),
    );
    expect([answer.status, seen]).toEqual([200, [null]]);
  });
});

test("a registry on TLS with tokens works as a whole", async () => {
  const registry = await fakeRegistry({ auth: "bearer", tls: tls(["127.0.0.1"]) });
  registry.add("library/busybox", image);
  registry.faults.manifest.redirect = {};
  const answer = await testClient().send(ask(trusting(registry.url)));
  expect(answer.status).toBe(200);
  await bytesOf(answer);
});
