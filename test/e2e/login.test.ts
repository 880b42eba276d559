/** Who may read what: challenges, tokens, logins in every spelling, and where credentials go (product section 5). */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Farm, basicHeader, layerOf, startFarm } from "../support/farm.ts";
import { rawRequest } from "../support/raw-http.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({ args: ["--domain-suffix", "example.test"] });
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

const PRIVATE = "/v2/ghcr/org/private/manifests/latest";

async function codeOf(response: Response): Promise<string | undefined> {
  return ((await response.json()) as { errors: { code: string }[] }).errors[0]?.code;
}

function bearer(token: string): { headers: Record<string, string> } {
  return { headers: { authorization: `Bearer ${token}` } };
}

/** Everything that reached a registry or its token server, as one text. */
function sentTo(registry: Farm["hub"]): string {
  return [...registry.requests, ...registry.tokenRequests, ...registry.cdnRequests]
    .map((request) => `${request.headers.get("authorization") ?? ""} ${request.query} ${request.body}`)
    .map((text) => text.replace(/Basic (\S+)/, (_, encoded: string) => Buffer.from(encoded, "base64").toString()))
    .join("\n");
}

describe("the ping", () => {
  test("[C3, R3, R117, R119] is 401 with an absolute realm on the client's host, without asking anybody", async () => {
    const answer = await farm.ask("/v2/");
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toBe(
      `Bearer realm="http://${farm.layover.host}/token",service="${farm.layover.host}"`,
    );
    expect(answer.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
    expect(farm.hub.count() + farm.hub.tokenRequests.length).toBe(0);
    await answer.text();
  });

  test.each([
    ["[R4] /v2", "/v2", undefined, ""],
    ["host", "/v2/", "quay.example.test", "/quay"],
    ["path before", "/quay/v2/", undefined, "/quay"],
    ["ns", "/v2/?ns=ghcr.io", undefined, "/ghcr"],
  ] as const)("%s names its registry in the realm", async (_title, path, host, key) => {
    const answer = await farm.ask(path, { headers: host === undefined ? {} : { host } });
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toContain(`realm="http://${host ?? farm.layover.host}/token${key}"`);
    await answer.text();
  });

  test("[R90, R121] is one challenge on one line, all values quoted", async () => {
    const answer = await rawRequest(farm.layover.url, "GET /v2/");
    expect(answer.all("www-authenticate")).toHaveLength(1);
    expect(answer.header("www-authenticate")).toMatch(/^Bearer (?:[a-z]+="[^"]*",?)+$/);
  });

  test("[R3] is 200 with an anonymous token, and with one that a login gave", async () => {
    for (const login of [undefined, "alice:secret"]) {
      const answer = await farm.ask("/v2/", bearer(await farm.token("/token", login)));
      expect([answer.status, answer.headers.get("content-type"), await answer.text()]).toEqual([
        200,
        "application/json",
        "{}",
      ]);
    }
  });

  test("a token that is not ours is 401 invalid_token", async () => {
    const answer = await farm.ask("/v2/", bearer("not-ours"));
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"');
    await answer.text();
  });
});

describe("tokens", () => {
  test("[R115] neither they nor the ping are for any cache on the way", async () => {
    const token = await farm.token("/token");
    for (const answer of [await farm.ask("/v2/"), await farm.ask("/v2/", bearer(token)), await farm.ask("/token")]) {
      expect(answer.headers.get("cache-control")).toContain("no-store");
      await answer.text();
    }
  });

  test("[R103] a catalog scope gives a token like any other: for nobody, and for no catalog", async () => {
    const token = await farm.token("/token?service=x&scope=registry:catalog:*");
    expect((await farm.ask("/v2/_catalog", bearer(token))).status).toBe(404);
    expect((await farm.ask("/v2/app/manifests/latest", bearer(token))).status).toBe(200);
  });

  test("[C26, C4] an anonymous one is made at once, without any upstream", async () => {
    farm.hub.faults.token.stallBeforeHeaders = true;
    farm.ghcr.faults.token.stallBeforeHeaders = true;
    for (const path of [
      "/token",
      "/token/ghcr",
      "/v2/auth",
      "/auth/token",
      "/token?scope=repository:library/app:pull&service=x",
    ]) {
      expect((await farm.token(path)).length).toBeGreaterThan(20);
    }
    expect(farm.hub.tokenRequests.length + farm.ghcr.tokenRequests.length).toBe(0);
  });

  test("[R94, R95] they carry both names and a life of an hour", async () => {
    const answer = (await (await farm.ask("/token")).json()) as Record<string, unknown>;
    expect(answer["token"]).toBe(answer["access_token"] as string);
    expect(answer["expires_in"]).toBe(3600);
    expect(Date.parse(String(answer["issued_at"]))).toBeGreaterThan(0);
  });

  test("[R98] a form with a password works as GET with Basic does", async () => {
    const form = { method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" } };
    const good = await farm.ask("/token/ghcr", {
      ...form,
      body: "grant_type=password&username=alice&password=secret&service=x&client_id=y&scope=repository:org/private:pull",
    });
    expect(good.status).toBe(200);
    const { access_token } = (await good.json()) as { access_token: string };
    expect((await farm.ask(PRIVATE, bearer(access_token))).status).toBe(200);
    const other = await farm.ask("/token/ghcr", { ...form, body: "grant_type=refresh_token" });
    expect(other.status).toBe(400); // clients then use GET
    await other.text();
  });

  test("[R99] a form with an identity token is checked at the registry's token server, and holds there", async () => {
    const refresh = farm.ghcr.access.issueRefreshToken("alice");
    const ask = (token: string) =>
      farm.ask("/token/ghcr", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `grant_type=refresh_token&service=x&client_id=docker&refresh_token=${token}`,
      });
    const good = await ask(refresh);
    expect(good.status).toBe(200);
    const { access_token } = (await good.json()) as { access_token: string };
    expect(access_token).not.toContain(refresh);
    expect((await farm.ask(PRIVATE, bearer(access_token))).status).toBe(200);
    const bad = await ask("z");
    expect(bad.status).toBe(401);
    await bad.text();
    expect(JSON.stringify(farm.ghcr.requests.map(({ lines }) => lines))).not.toContain(refresh);
  });

  test("wrong credentials are 401 without a token", async () => {
    for (const key of ["ghcr", "basic", "hub"]) {
      const answer = await farm.ask(`/token/${key}`, { headers: { authorization: basicHeader("alice:wrong") } });
      expect(answer.status).toBe(401);
      expect(await codeOf(answer)).toBe("UNAUTHORIZED");
    }
  });

  test("[T9] a token server in trouble is 503, not a refusal of the credentials", async () => {
    farm.ghcr.faults.token.status = 500;
    const answer = await farm.ask("/token/ghcr", { headers: { authorization: basicHeader("alice:other") } });
    expect(answer.status).toBe(503);
    await answer.text();
  });

  test("[C34] a URL is only a look-up of realms that upstreams announced", async () => {
    const realm = `/token/${farm.ghcr.tokenUrl}/token`;
    await (await farm.ask("/v2/ghcr/org/app/manifests/latest")).bytes(); // now it is known
    expect((await farm.token(realm)).length).toBeGreaterThan(20);
    const unknown = await farm.ask("/token/https://evil.test/token");
    expect(unknown.status).toBe(404);
    expect(await unknown.text()).not.toContain("evil");
  });

  test("an unknown key is 404, another method 405", async () => {
    expect((await farm.ask("/token/nope")).status).toBe(404);
    expect((await farm.ask("/token", { method: "DELETE" })).status).toBe(405);
  });

  test("upstream tokens never reach a client", async () => {
    const token = await farm.token("/token/ghcr", "alice:secret");
    const answer = await farm.ask(PRIVATE, bearer(token));
    const upstream = farm.ghcr.requests.at(-1)?.headers.get("authorization") ?? "";
    expect(upstream).toStartWith("Bearer ");
    const seen = JSON.stringify([...answer.headers]) + (await answer.text()) + token;
    expect(seen).not.toContain(upstream.slice("Bearer ".length));
  });
});

describe("a private repository", () => {
  test("[R164, R118, C3] without Authorization: 401 on the resource, with our realm, our service and the client's own scope", async () => {
    const answer = await farm.ask(PRIVATE);
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toBe(
      `Bearer realm="http://${farm.layover.host}/token/ghcr?host=shared",service="${farm.layover.host}",scope="repository:ghcr/org/private:pull"`,
    );
    expect(await codeOf(answer)).toBe("UNAUTHORIZED");
  });

  test("[R27, R118] one that does not exist is answered like a private one, where the registry hides which it is", async () => {
    farm.ghcr.faults.auth.hideAbsent = true;
    const token = await farm.token("/token/ghcr");
    for (const name of ["org/none", "org/private"]) {
      const answer = await farm.ask(`/v2/ghcr/${name}/manifests/latest`, bearer(token));
      expect([answer.status, await codeOf(answer)]).toEqual([404, "NAME_UNKNOWN"]);
    }
  });

  test("[R128, R113, R102] ghcr.io: placeholder scope, 403 of the token server, no referrers, signatures by tag", async () => {
    farm.ghcr.faults.token.denies = true;
    farm.ghcr.faults.token.refusesPushScope = true;
    farm.ghcr.faults.referrers = { status: 404, code: "MANIFEST_UNKNOWN" };
    const { digest } = farm.images.ghcr;
    farm.ghcr.add("org/app", { ...farm.images.ghcr, tags: new Map([[digest.replace(":", "-"), digest]]) });
    const open = await farm.ask("/v2/ghcr.io/org/app/manifests/latest");
    expect(open.status).toBe(200);
    await open.bytes();
    const referrers = await farm.ask(`/v2/ghcr.io/org/app/referrers/${digest}`);
    expect([referrers.status, await codeOf(referrers)]).toEqual([404, "MANIFEST_UNKNOWN"]);
    const signature = await farm.ask(`/v2/ghcr.io/org/app/manifests/${digest.replace(":", "-")}`);
    expect(signature.status).toBe(200);
    await signature.bytes();
    const asked = farm.ghcr.tokenRequests.length;
    const closed = await farm.ask("/v2/ghcr.io/org/private/manifests/latest", bearer(await farm.token("/token/ghcr")));
    expect([closed.status, await codeOf(closed)]).toEqual([404, "NAME_UNKNOWN"]);
    expect(farm.ghcr.tokenRequests.length - asked).toBe(1);
  });

  test("[T14] read with credentials, then without, then by digest through another repository: refused both times", async () => {
    const token = await farm.token("/token/ghcr", "alice:secret");
    const allowed = await farm.ask(PRIVATE, bearer(token));
    expect(allowed.status).toBe(200);
    await allowed.bytes();
    const layer = layerOf(farm.images.secret);
    const own = await farm.ask(`/v2/ghcr/org/private/blobs/${layer}`, bearer(token));
    expect(own.status).toBe(200);
    await own.bytes();
    const nobody = bearer(await farm.token("/token/ghcr"));
    for (const path of ["org/private/manifests/latest", `org/private/blobs/${layer}`, `org/app/blobs/${layer}`]) {
      const refused = await farm.ask(`/v2/ghcr/${path}`, nobody);
      expect([path, refused.status]).toEqual([path, 404]);
      await refused.text();
    }
  });

  test("[R118] with our anonymous token: 404, as if it were not there", async () => {
    const token = await farm.token("/token/ghcr");
    const answer = await farm.ask(PRIVATE, bearer(token));
    expect([answer.status, await codeOf(answer)]).toEqual([404, "NAME_UNKNOWN"]);
    const referrers = await farm.ask(`/v2/ghcr/org/private/referrers/${farm.images.secret.digest}`, bearer(token));
    expect([referrers.status, await codeOf(referrers)]).toEqual([404, "MANIFEST_UNKNOWN"]); // R35
  });

  test("with a login that has the right: everything", async () => {
    const token = await farm.token("/token/ghcr", "alice:secret");
    const manifest = await farm.ask(PRIVATE, bearer(token));
    expect([manifest.status, manifest.headers.get("docker-content-digest")]).toEqual([200, farm.images.secret.digest]);
    await manifest.bytes();
    const blob = await farm.ask(`/v2/ghcr/org/private/blobs/${layerOf(farm.images.secret)}`, bearer(token));
    expect(blob.status).toBe(200);
    await blob.bytes();
  });

  test("with accepted credentials that lack the right: 403", async () => {
    const token = await farm.token("/token/ghcr", "bob:hunter2");
    const answer = await farm.ask(PRIVATE, bearer(token));
    expect([answer.status, await codeOf(answer)]).toEqual([403, "DENIED"]);
  });

  test("a forged token is 401 with the right realm, never anonymous", async () => {
    for (const token of ["x", "a".repeat(500), `${await farm.token("/token/ghcr", "alice:secret")}x`.slice(1)]) {
      const answer = await farm.ask("/v2/ghcr/org/app/manifests/latest", bearer(token));
      expect(answer.status).toBe(401);
      expect(answer.headers.get("www-authenticate")).toContain('/token/ghcr?host=shared",');
      expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"');
      await answer.text();
    }
  });

  test("[R122] Basic-only upstreams and clients that send Basic work too", async () => {
    const token = await farm.token("/token/basic", "alice:secret");
    const withToken = await farm.ask("/v2/basic/org/private/manifests/latest", bearer(token));
    expect(withToken.status).toBe(200);
    await withToken.bytes();
    const withBasic = await farm.ask("/basic/v2/org/private/manifests/latest", {
      headers: { authorization: basicHeader("alice:secret") },
    });
    expect(withBasic.status).toBe(200);
    await withBasic.bytes();
    const wrong = await farm.ask("/basic/v2/org/private/manifests/latest", {
      headers: { authorization: basicHeader("alice:wrong") },
    });
    expect(wrong.status).toBe(403);
    await wrong.text();
  });
});

describe("where credentials go", () => {
  // A verdict on a login is remembered for minutes: each test has a user of its own, whom every registry lets read all.
  let users = 0;
  let login = "";
  beforeEach(() => {
    users += 1;
    login = `user${users}:secret`;
    for (const { access } of [farm.hub, farm.ghcr, farm.basic]) access.users[`user${users}`] = { password: "secret" };
  });

  test("[R123, T30] a login of one registry counts as anonymous at another, and its password is not sent there", async () => {
    const token = await farm.token("/token/ghcr", login);
    const open = await farm.ask("/v2/org/app/manifests/latest", bearer(token));
    expect(open.status).toBe(200);
    await open.bytes();
    const closed = await farm.ask("/v2/org/private/manifests/latest", bearer(token));
    expect(closed.status).toBe(401);
    expect(closed.headers.get("www-authenticate")).toContain("/token/hub?host=shared");
    await closed.text();
    expect(sentTo(farm.hub)).not.toContain("secret");
    expect(sentTo(farm.ghcr)).toContain(login);
  });

  test("on a host of several registries a plain name means the default registry, at every realm", async () => {
    await farm.token("/token", login);
    await farm.token("/token/ghcr?host=shared", login);
    await farm.token("/token/basic?host=shared", login);
    expect(sentTo(farm.hub)).toContain(login);
    expect(sentTo(farm.ghcr) + sentTo(farm.basic)).not.toContain("secret");
  });

  test("a name with a key in front means that registry and no other", async () => {
    const token = await farm.token("/token", `ghcr/${login}`);
    const answer = await farm.ask(PRIVATE, bearer(token));
    expect(answer.status).toBe(200);
    await answer.bytes();
    await farm.token("/token/hub?host=shared", `ghcr/${login}`);
    expect(sentTo(farm.hub) + sentTo(farm.basic)).not.toContain("secret");
  });

  test("[R184] podman's scope names the registry where the realm does not", async () => {
    const token = await farm.token("/token?scope=repository:ghcr.io/org/private:pull", login);
    const answer = await farm.ask("/v2/ghcr.io/org/private/manifests/latest", bearer(token));
    expect(answer.status).toBe(200);
    await answer.bytes();
    expect(sentTo(farm.hub)).not.toContain("secret");
  });

  test("a foreign scope does not move credentials away from the realm's registry", async () => {
    await farm.token(
      "/token/ghcr?scope=repository:docker.io/library/app:pull&scope=repository:quay.io/a/b:pull",
      "alice:secret",
    );
    expect(sentTo(farm.hub) + sentTo(farm.quay)).not.toContain("secret");
  });

  test("[R120, C4] a pull secret sent with ns reaches only that registry", async () => {
    const refused = await farm.ask("/v2/org/private/manifests/latest?ns=ghcr.io");
    const realm = /realm="http:\/\/[^/]*([^"]*)"/.exec(refused.headers.get("www-authenticate") ?? "")?.[1] ?? "";
    expect(realm).toBe("/token/ghcr");
    await refused.text();
    const token = await farm.token(`${realm}?scope=repository:org/private:pull`, login);
    const answer = await farm.ask("/v2/org/private/manifests/latest?ns=ghcr.io", bearer(token));
    expect(answer.status).toBe(200);
    await answer.bytes();
    expect(sentTo(farm.hub) + sentTo(farm.quay) + sentTo(farm.basic)).not.toContain("secret");
  });

  test("[R113, R114, R127] the scope asked upstream is our own: the name there, pull only", async () => {
    await (await farm.ask("/v2/app/manifests/latest")).bytes();
    await (await farm.ask("/v2/ghcr/org/app/manifests/latest")).bytes();
    expect(farm.hub.tokenRequests.map(({ query }) => new URLSearchParams(query).getAll("scope"))).toEqual([
      ["repository:library/app:pull"],
    ]);
    expect(farm.ghcr.tokenRequests.map(({ query }) => new URLSearchParams(query).getAll("scope"))).toEqual([
      ["repository:org/app:pull"],
    ]);
  });

  test("[T30, R110] two users of one repository do not share a token", async () => {
    const alice = await farm.token("/token/ghcr", "alice:secret");
    const bob = await farm.token("/token/ghcr", "bob:hunter2");
    const statuses = await Promise.all(
      [alice, bob, alice, bob].map(async (token) => {
        const answer = await farm.ask(PRIVATE, bearer(token));
        await answer.bytes();
        return answer.status;
      }),
    );
    expect(statuses).toEqual([200, 403, 200, 403]);
  });

  test("secrets and tokens are in no log line", async () => {
    const token = await farm.token("/token/ghcr", login);
    await (await farm.ask(PRIVATE, bearer(token))).bytes();
    const log = JSON.stringify(farm.layover.log);
    expect(log).not.toContain('secret"');
    expect(log).not.toContain(token);
    expect(log).not.toContain(Buffer.from(login).toString("base64"));
  });
});

describe("restarts", () => {
  test("a token outlives the process, and dies with its key", async () => {
    const { createTempDir } = await import("../support/temp-dir.ts");
    const dir = await createTempDir("layover-state-");
    const args = ["--state-dir", dir.path];
    const first = await startFarm({ args });
    const token = await first.token("/token");
    await first.stop();
    const second = await startFarm({ args });
    expect((await second.ask("/v2/", bearer(token))).status).toBe(200);
    await second.stop();
    const other = await startFarm();
    expect((await other.ask("/v2/", bearer(token))).status).toBe(401);
    await other.stop();
    await dir.remove();
  });
});
