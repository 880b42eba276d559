/** In whose name a push is sent, and what those hear who may not (protocol R65, R66, R75, R117, R164; product section 5). */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { basicHeader, type Farm, layerOf, startFarm } from "../support/farm.ts";
import { digestOf, makeImage, randomBytes } from "../support/images.ts";
import { beginUpload, finishUpload, pushImage, type PushPlace, pushRequest } from "../support/pushing.ts";

const ALICE = "alice:secret";
const WRITES: [string, string, string | undefined][] = [
  ["POST", "/blobs/uploads/", ""],
  ["POST", `/blobs/uploads/?digest=${makeImage().digest}`, "x"],
  ["PUT", "/manifests/v1", "{}"],
  ["DELETE", "/manifests/v1", undefined],
  ["DELETE", `/manifests/${makeImage().digest}`, undefined],
  ["DELETE", `/blobs/${makeImage().digest}`, undefined],
];

describe("with --allow-push", () => {
  let farm: Farm;
  beforeAll(async () => {
    farm = await startFarm({
      args: ["--allow-push", "--share-private"],
      entries: {
        ghcr: { login: "relay", credentials: [{ username: "alice", password: "secret" }] },
      },
    });
  });
  afterEach(() => farm.reset());
  afterAll(() => farm.stop());
  const at = (path: string, authorization?: string): PushPlace => ({
    server: farm.layover.url,
    path,
    ...(authorization === undefined ? {} : { authorization }),
  });
  const writesAt = (registry: "hub" | "ghcr" | "basic") =>
    farm[registry].requests.filter(({ method }) => method !== "GET" && method !== "HEAD");

  for (const [key, path, login] of [
    ["hub", "/v2/org/owned", ALICE],
    ["ghcr", "/v2/ghcr.io/org/owned", `ghcr/${ALICE}`],
    ["basic", "/v2/basic/org/owned", `basic/${ALICE}`],
  ] as const) {
    for (const form of ["token", "Basic"] as const) {
      test(`[R114, C17] ${key}: the client's own login, as ${form}, pushes in its name`, async () => {
        const image = makeImage({ seed: `${key} ${form}`, layers: [2000] });
        const authorization =
          form === "token"
            ? `Bearer ${await farm.token(`/token/${key}`, login.replace(/^.*\//, ""))}`
            : basicHeader(login);
        await pushImage(at(path, authorization), image);
        expect(farm[key].content.repositories.get("org/owned")?.tags.get("latest")).toBe(image.digest);
        const gone = await pushRequest(at(path, authorization), `/manifests/${image.digest}`, { method: "DELETE" });
        expect(gone.status).toBe(202);
      });
    }

    test(`[R117, R164] ${key}: without a login each write is 401 with a challenge that can be followed`, async () => {
      for (const [method, rest, body] of WRITES) {
        const answer = await pushRequest(at(path), rest, { method, ...(body === undefined ? {} : { body }) });
        const challenge = answer.headers.get("www-authenticate") ?? "";
        expect([method, rest, answer.status]).toEqual([method, rest, 401]);
        expect(challenge).toContain(`scope="repository:${path.slice(4)}:pull,push"`);
        const realm = new URL(/realm="([^"]+)"/.exec(challenge)?.[1] ?? "");
        expect(realm.pathname).toBe(`/token/${key}`);
        const scope = /scope="([^"]+)"/.exec(challenge)?.[1] ?? "";
        const token = await farm.token(
          `${realm.pathname}?scope=${encodeURIComponent(scope)}`,
          login.replace(/^.*\//, ""),
        );
        const again = await pushRequest(at(path, `Bearer ${token}`), rest, {
          method,
          ...(body === undefined ? {} : { body }),
        });
        expect([method, rest, [401, 403].includes(again.status)]).toEqual([method, rest, false]);
      }
    });

    test(`${key}: nobody's token, and another registry's login, are told to log in; nothing was written`, async () => {
      const nobody = `Bearer ${await farm.token(`/token/${key}`)}`;
      const foreign = key === "hub" ? basicHeader(`ghcr/${ALICE}`) : basicHeader(ALICE);
      for (const [authorization, error] of [
        [nobody, "insufficient_scope"],
        [foreign, "invalid_token"],
      ] as const) {
        for (const [method, rest, body] of WRITES) {
          const answer = await pushRequest(at(path, authorization), rest, {
            method,
            ...(body === undefined ? {} : { body }),
          });
          expect([method, rest, answer.status]).toEqual([method, rest, 401]);
          expect(answer.headers.get("www-authenticate")).toContain(`error="${error}"`);
        }
      }
      for (const { headers } of writesAt(key)) {
        expect(headers.get("authorization") ?? "").not.toBe(basicHeader(ALICE));
      }
      expect(
        farm[key].tokenRequests.every(({ headers, body }) => !headers.has("authorization") && !body.includes("secret")),
      ).toBe(true);
    });
  }

  test("--share-private is for reading: what is configured writes nothing for nobody", async () => {
    const read = await farm.ask("/v2/ghcr.io/org/private/manifests/latest", {
      headers: { authorization: `Bearer ${await farm.token("/token/ghcr")}` },
    });
    expect(read.status).toBe(200);
    farm.ghcr.requests.length = 0;
    for (const [method, rest, body] of WRITES) {
      const answer = await pushRequest(at("/v2/ghcr.io/org/private"), rest, {
        method,
        ...(body === undefined ? {} : { body }),
      });
      expect([method, rest, answer.status]).toEqual([method, rest, 401]);
    }
    expect(farm.ghcr.content.repositories.get("org/private")?.tags.size).toBe(1);
  });

  test("a login without the right is 403, in the registry's own words where it has some", async () => {
    for (const [method, rest, body] of WRITES) {
      const answer = await pushRequest(at("/v2/org/others", basicHeader("bob:hunter2")), rest, {
        method,
        ...(body === undefined ? {} : { body }),
      });
      expect([method, rest, answer.status, await codeOf(answer)]).toEqual([method, rest, 403, "DENIED"]);
    }
    Object.assign(farm.hub.faults.push, {
      status: 403,
      body: '{"errors":[{"code":"DENIED","message":"quota exceeded"}]}',
    });
    const full = await pushRequest(at("/v2/org/owned", basicHeader(ALICE)), "/blobs/uploads/", { method: "POST" });
    expect([full.status, await full.text()]).toEqual([
      403,
      '{"errors":[{"code":"DENIED","message":"quota exceeded"}]}',
    ]);
  });

  test("[R75] a mount asks for the right to read the source", async () => {
    const layer = layerOf(farm.images.secret);
    const query = `/blobs/uploads/?mount=${layer}&from=org/private`;
    const done = await pushRequest(at("/v2/org/mounted", basicHeader(ALICE)), query, { method: "POST" });
    expect(done.status).toBe(201);
    const scopes = farm.hub.tokenRequests.map(({ query: asked, body }) =>
      new URLSearchParams(`${asked}&${body}`).getAll("scope").join(" "),
    );
    expect(scopes.at(-1)).toContain("repository:org/private:pull");
    expect((await pushRequest(at("/v2/org/mounted"), query, { method: "POST" })).status).toBe(401);
  });

  test("a mount from another registry's name does not lead the login there: what is pushed says whose it is", async () => {
    const query = "scope=repository:ghcr.io/org/app:pull&scope=repository:org/named:push,pull";
    const token = await farm.token(`/token?${query}`, ALICE);
    expect(farm.ghcr.tokenRequests.length + farm.ghcr.count()).toBe(0);
    const begun = await pushRequest(at("/v2/org/named", `Bearer ${token}`), "/blobs/uploads/", { method: "POST" });
    expect(begun.status).toBe(202);
  });

  test("a session is the upload's, not the right to it: another client is asked who it is", async () => {
    const mine = at("/v2/org/session", basicHeader(ALICE));
    const location = await beginUpload(mine);
    const content = randomBytes("session", 100);
    const stolen = await finishUpload(at("/v2/org/session"), location, {
      digest: digestOf(content),
      body: Buffer.from(content),
    });
    expect(stolen.status).toBe(401);
    expect((await finishUpload(mine, location, { digest: digestOf(content), body: Buffer.from(content) })).status).toBe(
      201,
    );
  });

  test("[R69] an upload that goes on elsewhere takes no credential there, nor back", async () => {
    farm.hub.faults.push.location = "elsewhere";
    const mine = at("/v2/org/elsewhere", basicHeader(ALICE));
    const content = randomBytes("elsewhere", 5000);
    const location = await beginUpload(mine);
    expect((await finishUpload(mine, location, { digest: digestOf(content), body: Buffer.from(content) })).status).toBe(
      201,
    );
    expect(farm.hub.cdnRequests.map(({ method, headers }) => [method, headers.get("authorization")])).toEqual([
      ["PUT", null],
    ]);
  });
});

describe("without --allow-push", () => {
  let farm: Farm;
  beforeAll(async () => {
    farm = await startFarm({ entries: { quay: { push: true } } });
  });
  afterAll(() => farm.stop());

  test("[R65, R66, C17] writes are 405 with a message, and `push` of the map opens one registry alone", async () => {
    for (const [method, rest, body] of WRITES) {
      const answer = await farm.ask(`/v2/ghcr.io/org/app${rest}`, {
        method,
        ...(body === undefined ? {} : { body }),
        headers: { authorization: basicHeader(`ghcr/${ALICE}`) },
      });
      expect([method, rest, answer.status, answer.headers.get("allow")]).toEqual([method, rest, 405, "GET, HEAD"]);
      expect(await answer.json()).toEqual({
        errors: [{ code: "UNSUPPORTED", message: expect.stringContaining("read-only") }],
      });
    }
    expect(farm.ghcr.count()).toBe(0);
    await pushImage({ server: farm.layover.url, path: "/v2/quay.io/org/open" }, makeImage({ seed: "open" }));
    expect(farm.quay.content.repositories.get("org/open")?.tags.size).toBe(1);
  });
});

async function codeOf(response: Response): Promise<string | undefined> {
  const body = (await response.json()) as { errors?: { code: string }[] };
  return body.errors?.[0]?.code;
}
