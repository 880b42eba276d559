import { describe, expect, test } from "bun:test";
import type { FakeRegistry } from "../../support/fake-registry.ts";
import { makeImage } from "../../support/images.ts";
import { createWireServer, encodeHead } from "../../support/wire-server.ts";
import {
  ask,
  bytesOf,
  closeAfter,
  credentialAt,
  failureOf,
  fakeRegistry,
  registryAt,
  testClient,
  upstreamAt,
  userAt,
} from "./fixture.ts";
import { answering, wireHost } from "./wire.ts";

const image = makeImage();
const users = { ann: { password: "pä:ss" }, bob: { password: "bob", repositories: ["bob/**"] } };

/** A registry that wants tokens, with a public and a private repository. */
async function bearerRegistry() {
  const registry = await fakeRegistry({ auth: "bearer", users, privateRepositories: ["private/**", "bob/**"] });
  for (const name of ["library/busybox", "private/app", "bob/app"]) registry.add(name, image);
  return registry;
}

/** Names a token server on another host as the registry's; the registry takes its tokens. */
async function foreignTokenServer(registry: FakeRegistry): Promise<{ host: string; seen: (string | undefined)[] }> {
  const seen: (string | undefined)[] = [];
  const server = await createWireServer({ hostname: "127.0.0.2" }, async ({ headers }, answer) => {
    const authorization = headers.get("authorization") ?? undefined;
    seen.push(authorization);
    const user = authorization === undefined ? undefined : "ann";
    const granted = new Map(user === undefined ? [] : [["private/app", ["pull"]]]);
    const body = JSON.stringify({ token: registry.access.issueToken({ user, granted }) });
    await answer.write(`${encodeHead(200, [["Content-Length", String(body.length)]])}${body}`);
    answer.finish("keep");
  });
  closeAfter(() => server.close());
  registry.faults.auth.realm = `${server.url}/token`;
  return { host: server.host, seen };
}

/** Status of a request whose body is read. */
async function statusOf(client: ReturnType<typeof testClient>, ...request: Parameters<typeof ask>): Promise<number> {
  const answer = await client.send(ask(...request));
  await bytesOf(answer);
  return answer.status;
}

const limits = () => ({ signal: new AbortController().signal, deadlineMs: performance.now() + 2_000, scopes: [] });

describe("a token", () => {
  test("[R93, R125] is asked for as the challenge says, and then warm requests are one request each", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    for (let i = 0; i < 3; i++) expect(await statusOf(client, at)).toBe(200);
    expect(registry.tokenRequests.map(({ method, query }) => `${method} ${query}`)).toEqual([
      "GET service=fake-registry&scope=repository%3Alibrary%2Fbusybox%3Apull",
    ]);
    expect(registry.count()).toBe(4);
  });

  test("[R113] has the scope of the repository, not the challenge's placeholder", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.placeholderScope = true;
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
    expect(registry.tokenRequests[0]?.query).toContain("scope=repository%3Alibrary%2Fbusybox%3Apull");
  });

  test("[R114] is for pull alone, whatever the challenge offers", async () => {
    const registry = await bearerRegistry();
    registry.faults.token.refusesPushScope = true;
    registry.faults.auth.challenges = [
      `Bearer realm="${registry.tokenUrl}/token",service="fake-registry",scope="repository:library/busybox:pull,push"`,
    ];
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
  });

  test("[R145] has the scope with the upstream's name prefix", async () => {
    const registry = await fakeRegistry({ auth: "bearer" });
    registry.add("project/library/busybox", image);
    expect(
      await statusOf(testClient(), registryAt(registry.url, { upstreams: [upstreamAt(registry.url, "project/")] })),
    ).toBe(200);
    expect(registry.tokenRequests[0]?.query).toContain("scope=repository%3Aproject%2Flibrary%2Fbusybox%3Apull");
  });

  test("[R139] is asked for without a service where the challenge has none", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.noService = true;
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
    expect(registry.tokenRequests[0]?.query).toBe("scope=repository%3Alibrary%2Fbusybox%3Apull");
  });

  test("[R93] keeps the query that the realm has", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.realm = `${registry.tokenUrl}/token?x=1`;
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
    expect(registry.tokenRequests[0]?.query).toBe(
      "x=1&service=fake-registry&scope=repository%3Alibrary%2Fbusybox%3Apull",
    );
  });

  test("[R92, R281] is found behind other challenges, in other spellings", async () => {
    const registry = await bearerRegistry();
    const realm = `${registry.tokenUrl}/token`;
    for (const lines of [
      ["Negotiate", 'Digest realm="a, b", nonce="Bearer realm=x"', `bearer service=fake-registry ,\trealm="${realm}"`],
      [`Basic realm="x", BEARER realm="${realm}",service="fake-registry",scope="repository:a/b:pull,push"`],
    ]) {
      registry.faults.auth.challenges = lines;
      expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
    }
  });

  test("[R112] is fetched once for requests that come together", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    const statuses = await Promise.all(Array.from({ length: 20 }, () => statusOf(client, at)));
    expect(statuses).toEqual(Array(20).fill(200));
    expect(registry.tokenRequests).toHaveLength(1);
  });

  test("[R112] goes on being fetched for the others when the client that came first leaves", async () => {
    const registry = await bearerRegistry();
    registry.faults.token.stallBeforeHeaders = true;
    const client = testClient();
    const at = registryAt(registry.url);
    const first = new AbortController();
    const leaving = failureOf(client.send(ask(at, { signal: first.signal })));
    await registry.untilHeld(1);
    const staying = statusOf(client, at);
    await registry.until({ method: "GET" }, 2);
    first.abort(new DOMException("client left", "AbortError"));
    expect(await leaving).toMatchObject({ name: "AbortError" });
    registry.release();
    expect(await staying).toBe(200);
    expect(registry.tokenRequests).toHaveLength(1);
  });

  test("[R97, R111] that has become bad is replaced by a fresh challenge's", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    await statusOf(client, at);
    registry.expireTokens();
    expect(await statusOf(client, at)).toBe(200);
    expect(
      registry.requests.slice(2).map(({ headers }) => headers.get("authorization")?.split(" ")[0] ?? null),
    ).toEqual(["Bearer", null, "Bearer"]);
    expect(registry.tokenRequests).toHaveLength(2);
  });

  test("[R110, R111] that has become bad is replaced though somebody else was refused in between", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    const ann = { repository: "private/app", identity: userAt(registry.url, "ann", "pä:ss") };
    expect(await statusOf(client, at, ann)).toBe(200);
    registry.expireTokens();
    expect(await statusOf(client, at, { repository: "private/app" })).toBe(401);
    expect(await statusOf(client, at, ann)).toBe(200);
  });

  test("[R111] that has become bad is not replaced from the realm that is named then (nvcr.io)", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.realmSwitch = true;
    const client = testClient();
    const at = registryAt(registry.url);
    await statusOf(client, at);
    registry.expireTokens();
    expect(await statusOf(client, at)).toBe(200);
    expect(registry.tokenRequests.map(({ path }) => path)).toEqual(["/token", "/token"]);
  });

  test("[R112] refused to many at once is replaced once", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    await statusOf(client, at);
    registry.expireTokens();
    const statuses = await Promise.all(Array.from({ length: 10 }, () => statusOf(client, at)));
    expect(statuses).toEqual(Array(10).fill(200));
    expect(registry.tokenRequests.length).toBeLessThanOrEqual(3);
  });

  test("[R111] of one repository is not used for another", async () => {
    const registry = await bearerRegistry();
    registry.add("library/alpine", image);
    const client = testClient();
    const at = registryAt(registry.url);
    await statusOf(client, at);
    expect(await statusOf(client, at, { repository: "library/alpine" })).toBe(200);
    const scopes = registry.tokenRequests.map(({ query }) => new URLSearchParams(query).get("scope"));
    expect(scopes).toEqual(["repository:library/busybox:pull", "repository:library/alpine:pull"]);
  });

  test("[R104] of 12 KB arrives whole", async () => {
    const registry = await bearerRegistry();
    registry.faults.token.tokenLength = 12_000;
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(200);
  });
});

describe("a credential", () => {
  test("[R93, R105] goes to the token server in Basic, in UTF-8, and never to the registry", async () => {
    const registry = await bearerRegistry();
    const identity = userAt(registry.url, "ann", "pä:ss");
    expect(await statusOf(testClient(), registryAt(registry.url), { repository: "private/app", identity })).toBe(200);
    const basic = `Basic ${Buffer.from("ann:pä:ss").toString("base64")}`;
    expect(registry.tokenRequests.map(({ headers }) => headers.get("authorization"))).toEqual([basic]);
    for (const { headers } of registry.requests) expect(headers.get("authorization") ?? "").not.toStartWith("Basic");
  });

  test("[R110, T30] has tokens of its own: nobody else's request uses them", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    const app = { repository: "private/app" };
    const ann = userAt(registry.url, "ann", "pä:ss");
    const bob = userAt(registry.url, "bob", "bob");
    for (let i = 0; i < 2; i++) {
      expect(await statusOf(client, at, { ...app, identity: ann })).toBe(200);
      expect(await statusOf(client, at, app)).toBe(401);
      expect(await statusOf(client, at, { ...app, identity: bob })).toBe(401);
    }
    expect(await statusOf(client, at, { repository: "bob/app", identity: bob })).toBe(200);
    expect(await statusOf(client, at, { repository: "bob/app" })).toBe(401);
  });

  test("[R101] that may not read ends in 401 after one round", async () => {
    const registry = await bearerRegistry();
    const bob = userAt(registry.url, "bob", "bob");
    expect(await statusOf(testClient(), registryAt(registry.url), { repository: "private/app", identity: bob })).toBe(
      401,
    );
    expect([registry.count(), registry.tokenRequests.length]).toEqual([2, 1]);
  });

  test("[R105, T26] is not shown to a realm on another host, and the operator is told", async () => {
    const registry = await bearerRegistry();
    const thief = await wireHost(answering('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"x"}'), {
      hostname: "127.0.0.2",
    });
    registry.faults.auth.realm = `${thief.url}/token`;
    const client = testClient();
    const identity = userAt(registry.url, "ann", "pä:ss");
    expect(await statusOf(client, registryAt(registry.url), { repository: "private/app", identity })).toBe(401);
    expect(thief.requests.map(({ headers }) => headers.get("authorization"))).toEqual([null]);
    for (let i = 0; i < 5; i++) await statusOf(client, registryAt(registry.url), { identity, path: `manifests/${i}` });
    const told = client.notices.filter(({ message }) => message.includes("trustedRealms"));
    expect(told).toEqual([{ registry: "fake", host: thief.host, message: expect.any(String) }]); // once
  });

  test("[R106] is shown to a trusted realm on another host", async () => {
    const registry = await bearerRegistry();
    const realm = await wireHost(answering('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"x"}'), {
      hostname: "127.0.0.2",
    });
    registry.faults.auth.realm = `${realm.url}/token`;
    const at = registryAt(registry.url, { trustedRealms: ["127.0.0.2"] });
    await statusOf(testClient(), at, { repository: "private/app", identity: userAt(registry.url, "ann", "pä:ss") });
    expect(realm.requests[0]?.headers.get("authorization")).toStartWith("Basic ");
  });

  test("[R42] is not shown where the token server redirects to", async () => {
    const registry = await bearerRegistry();
    const other = await wireHost(answering('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"x"}'));
    const redirecting = await wireHost(
      answering(`HTTP/1.1 307 Moved\r\nLocation: ${other.url}/elsewhere\r\nContent-Length: 0\r\n\r\n`),
    );
    registry.faults.auth.realm = `${redirecting.url}/token`;
    await statusOf(testClient(), registryAt(registry.url), {
      repository: "private/app",
      identity: userAt(registry.url, "ann", "pä:ss"),
    });
    expect(redirecting.requests[0]?.headers.get("authorization")).toStartWith("Basic ");
    expect(other.requests.length).toBeGreaterThan(0);
    for (const { headers } of other.requests) expect(headers.has("authorization")).toBe(false);
  });

  test("[R131] goes to a Basic registry itself, at once when it is known", async () => {
    const registry = await fakeRegistry({ auth: "basic", users, privateRepositories: ["**"] });
    registry.add("library/busybox", image);
    const client = testClient();
    const identity = userAt(registry.url, "ann", "pä:ss");
    for (let i = 0; i < 2; i++) expect(await statusOf(client, registryAt(registry.url), { identity })).toBe(200);
    expect(registry.requests.map(({ headers }) => headers.has("authorization"))).toEqual([false, true, true]);
    expect(await statusOf(client, registryAt(registry.url))).toBe(401);
    expect(registry.count()).toBe(4);
  });

  test("[R248] of another origin is not sent", async () => {
    for (const auth of ["basic", "bearer"] as const) {
      const registry = await fakeRegistry({ auth, users, privateRepositories: ["**"] });
      registry.add("library/busybox", image);
      const identity = userAt("http://127.0.0.1:1", "ann", "pä:ss");
      expect(await statusOf(testClient(), registryAt(registry.url), { identity })).toBe(401);
      const sent = [...registry.requests, ...registry.tokenRequests].map(
        ({ headers }) => headers.get("authorization") ?? "",
      );
      expect(sent.some((value) => value.startsWith("Basic"))).toBe(false);
    }
  });

  test("[R99] that is an identity token goes nowhere as a password", async () => {
    for (const auth of ["basic", "bearer"] as const) {
      const registry = await fakeRegistry({ auth, users, privateRepositories: ["**"] });
      registry.add("library/busybox", image);
      expect(
        await statusOf(testClient(), registryAt(registry.url), {
          identity: userAt(registry.url, "<token>", "refresh"),
        }),
      ).toBe(401);
      const sent = [...registry.requests, ...registry.tokenRequests].map(
        ({ headers }) => headers.get("authorization") ?? "",
      );
      expect(sent.some((value) => value.startsWith("Basic"))).toBe(false);
    }
  });

  test("[R98, R99] that is an identity token is shown to the token server in a form, and to nobody else", async () => {
    const registry = await fakeRegistry({
      auth: "bearer",
      users: { ann: { password: "pw" } },
      privateRepositories: ["**"],
    });
    registry.add("library/busybox", image);
    const refresh = registry.access.issueRefreshToken("ann");
    const client = testClient();
    const identity = userAt(registry.url, "<token>", refresh);
    expect(await statusOf(client, registryAt(registry.url), { identity })).toBe(200);
    const [asked] = registry.tokenRequests;
    expect(asked).toMatchObject({ method: "POST", query: "" });
    expect(asked?.headers.get("authorization")).toBeNull();
    expect(asked?.headers.get("content-type")).toBe("application/x-www-form-urlencoded");
    expect(Object.fromEntries(new URLSearchParams(asked?.body))).toEqual({
      grant_type: "refresh_token",
      client_id: "layover",
      service: expect.any(String),
      scope: "repository:library/busybox:pull",
      refresh_token: refresh,
    });
    expect(JSON.stringify(registry.requests.map(({ lines }) => lines))).not.toContain(refresh);
    const at = registryAt(registry.url);
    expect(await client.verify(at, credentialAt(registry.url, "<token>", refresh), limits())).toBe("accepted");
    expect(await client.verify(at, credentialAt(registry.url, "<token>", "other"), limits())).toBe("rejected");
  });

  test.each([
    ['HTTP/1.1 400 Bad Request\r\nContent-Length: 25\r\n\r\n{"error":"invalid_grant"}', 401],
    ["HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "token"],
  ])("[R99] that is an identity token: the token server's %j", async (answer, outcome) => {
    const tokenServer = await wireHost(answering(answer));
    const registry = await wireHost(
      answering(
        `HTTP/1.1 401 Who\r\nWWW-Authenticate: Bearer realm="${tokenServer.url}/token"\r\nContent-Length: 0\r\n\r\n`,
      ),
    );
    const asked = statusOf(testClient(), registryAt(registry.url), { identity: userAt(registry.url, "<token>", "r") });
    expect(await asked.catch(({ kind }) => kind)).toBe(outcome);
    expect(tokenServer.requests.every(({ path }) => path === "/token")).toBe(true);
  });

  test("is offered where a registry calls a private repository absent, once /v2/ has said how", async () => {
    const authorised = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const host = await wireHost(async (request, answer) => {
      if (request.headers.has("authorization")) return authorised(request, answer);
      const ping = answering('HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n');
      return request.path === "/v2/"
        ? ping(request, answer)
        : answering("HTTP/1.1 404 Absent\r\nContent-Length: 0\r\n\r\n")(request, answer);
    });
    const client = testClient();
    expect(await statusOf(client, registryAt(host.url), { identity: userAt(host.url, "ann", "pw") })).toBe(200);
    expect(await statusOf(client, registryAt(host.url))).toBe(404);
  });
});

describe("a challenge", () => {
  test("[R116] that is missing on the resource is taken from /v2/, which is remembered", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.silentResources = true;
    registry.add("library/alpine", image);
    const client = testClient();
    const at = registryAt(registry.url);
    expect(await statusOf(client, at)).toBe(200);
    expect(await statusOf(client, at, { repository: "library/alpine" })).toBe(200);
    expect(registry.count({ path: "/v2/" })).toBe(1);
    expect(registry.tokenRequests[1]?.query).toContain("library%2Falpine");
  });

  test("that is missing everywhere leaves the 401 as it is", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.challenges = [];
    expect(await statusOf(testClient(), registryAt(registry.url))).toBe(401);
    expect(registry.tokenRequests).toHaveLength(0);
  });

  test("with a realm that is no URL is no usable answer", async () => {
    const registry = await bearerRegistry();
    registry.faults.auth.realm = "/token";
    expect(await failureOf(testClient().send(ask(registryAt(registry.url))))).toMatchObject({ kind: "bad-answer" });
  });

  test("[R108, T18] with a realm at a forbidden address is refused", async () => {
    const registry = await bearerRegistry();
    for (const realm of [
      "http://169.254.169.254/token",
      "http://10.0.0.5/token",
      "http://[::ffff:169.254.169.254]/",
      "http://0xa9fea9fe/",
    ]) {
      registry.faults.auth.realm = realm;
      expect(await failureOf(testClient().send(ask(registryAt(registry.url))))).toMatchObject({
        kind: "refused-address",
      });
    }
  });

  test("knownRealm() knows the realms that upstreams named, and no other", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    expect(client.knownRealm(`${registry.tokenUrl}/token`)).toBeUndefined();
    await statusOf(client, at);
    expect(client.knownRealm(`${registry.tokenUrl}/token`)).toBe(at);
    expect(client.knownRealm(`${registry.tokenUrl}/token?x=1`)).toBe(at);
    expect(client.knownRealm(`${registry.tokenUrl}/other`)).toBeUndefined();
    expect(client.knownRealm("no url")).toBeUndefined();
  });

  test("[T26, T27] judges realms anew when the map was loaded again: trust may have been withdrawn", async () => {
    const registry = await bearerRegistry();
    const tokenServer = await foreignTokenServer(registry);
    let now = 0;
    const client = testClient({}, { now: () => now });
    const changes = { repository: "private/app", identity: userAt(registry.url, "ann", "pä:ss") };
    expect(await statusOf(client, registryAt(registry.url, { trustedRealms: [tokenServer.host] }), changes)).toBe(200);
    now += 3_600_000; // the token has to be fetched again
    expect(await statusOf(client, registryAt(registry.url), changes)).toBe(401);
    expect(tokenServer.seen.map((authorization) => authorization?.split(" ")[0])).toEqual(["Basic", undefined]);
  });
});

describe("verify()", () => {
  test.each(["bearer", "basic"] as const)(
    "[R93] tells good credentials from bad ones at a %s registry",
    async (auth) => {
      const registry = await fakeRegistry({ auth, users });
      const client = testClient();
      const at = registryAt(registry.url);
      expect(await client.verify(at, credentialAt(registry.url, "ann", "pä:ss"), limits())).toBe("accepted");
      expect(await client.verify(at, credentialAt(registry.url, "ann", "wrong"), limits())).toBe("rejected");
      expect(await client.verify(at, credentialAt(registry.url, "<token>", "refresh"), limits())).toBe("rejected");
    },
  );

  test("says that a registry which asks nobody needs none", async () => {
    const registry = await fakeRegistry();
    expect(await testClient().verify(registryAt(registry.url), credentialAt(registry.url, "ann", "x"), limits())).toBe(
      "unneeded",
    );
    expect(registry.requests.map(({ headers }) => headers.has("authorization"))).toEqual([false]);
  });

  test("asks for the scopes it is given", async () => {
    const registry = await bearerRegistry();
    const options = { ...limits(), scopes: ["repository:a:pull", "repository:b:pull"] };
    await testClient().verify(registryAt(registry.url), credentialAt(registry.url, "ann", "pä:ss"), options);
    expect(new URLSearchParams(registry.tokenRequests[0]?.query).getAll("scope")).toEqual(options.scopes);
  });

  test("[R105, T26] sends nothing to a foreign realm, and has no verdict then", async () => {
    const registry = await bearerRegistry();
    const thief = await wireHost(answering('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"x"}'), {
      hostname: "127.0.0.2",
    });
    registry.faults.auth.realm = `${thief.url}/token`;
    const checking = testClient().verify(
      registryAt(registry.url),
      credentialAt(registry.url, "ann", "pä:ss"),
      limits(),
    );
    expect(await failureOf(checking)).toMatchObject({
      kind: "bad-answer",
      message: expect.stringContaining("trustedRealms"),
    });
    expect(thief.requests).toHaveLength(0);
  });

  test("has no verdict when the token server fails, when /v2/ fails, or at another origin", async () => {
    const registry = await bearerRegistry();
    const at = registryAt(registry.url);
    const client = testClient();
    registry.faults.token.status = 503;
    expect(await failureOf(client.verify(at, credentialAt(registry.url, "ann", "pä:ss"), limits()))).toMatchObject({
      kind: "token",
      status: 503,
    });
    expect(await failureOf(client.verify(at, credentialAt("http://other.test", "ann", "x"), limits()))).toMatchObject({
      kind: "bad-answer",
    });
    const broken = await wireHost(answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    expect(
      await failureOf(client.verify(registryAt(broken.url), credentialAt(broken.url, "ann", "x"), limits())),
    ).toMatchObject({ kind: "bad-answer" });
  });
});

describe("403 for a blob", () => {
  const [blob = ""] = image.blobs.keys();

  /** A registry that takes no token of these for blobs. */
  async function forgetfulRegistry(isForgotten: (authorization: string | undefined) => boolean) {
    const registry = await bearerRegistry();
    registry.faults.blob.match = ({ headers }) => isForgotten(headers.get("authorization") ?? undefined);
    registry.faults.blob.status = 403;
    return registry;
  }

  test("[C11] brings a fresh token where the one that was shown had been kept", async () => {
    const kept = new Set<string | undefined>();
    const registry = await forgetfulRegistry((authorization) => kept.has(authorization));
    const client = testClient();
    const at = registryAt(registry.url);
    expect(await statusOf(client, at)).toBe(200);
    for (const { headers } of registry.requests) kept.add(headers.get("authorization") ?? undefined);
    expect(await statusOf(client, at, { path: `blobs/${blob}` })).toBe(200);
    expect([registry.count({ path: /blobs/ }), registry.tokenRequests.length]).toEqual([2, 2]);
  });

  test("[C11] is the answer when the fresh one brings it too, and then costs one request each", async () => {
    const registry = await forgetfulRegistry((authorization) => authorization !== undefined);
    const client = testClient();
    const at = registryAt(registry.url);
    expect(await statusOf(client, at)).toBe(200);
    for (let i = 0; i < 5; i++) expect(await statusOf(client, at, { path: `blobs/${blob}` })).toBe(403);
    expect([registry.count({ path: /blobs/ }), registry.tokenRequests.length]).toEqual([6, 2]);
  });

  test("of a manifest is believed at once", async () => {
    const registry = await bearerRegistry();
    const client = testClient();
    const at = registryAt(registry.url);
    expect(await statusOf(client, at)).toBe(200);
    registry.faults.manifest.status = 403;
    const before = registry.count();
    expect(await statusOf(client, at)).toBe(403);
    expect([registry.count() - before, registry.tokenRequests.length]).toEqual([1, 1]);
  });
});
