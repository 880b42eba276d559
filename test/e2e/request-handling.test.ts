/** docs/request-handling.md, line by line: each test shows the decision that the line of its number tells. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Farm, basicHeader, layerOf, startFarm } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { digestOf } from "../support/images.ts";
import { openRaw, rawRequest } from "../support/raw-http.ts";
import { createTempDir } from "../support/temp-dir.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({ entries: { quay: { deny: ["org/denied"] } } });
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

async function codeOf(answer: Response): Promise<string | undefined> {
  return ((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code;
}

const asked = () => [farm.hub, farm.quay, farm.ghcr, farm.basic].reduce((sum, registry) => sum + registry.count(), 0);

test("0. the raw request is checked before anything is made of it", async () => {
  const answer = await rawRequest(farm.layover.url, "GET /v2/%2e%2e/x", ["Host: a.test"]);
  expect(answer.status).toBe(400);
  expect(asked()).toBe(0);
});

test("1. a connection becomes an exchange, and serves the next one", async () => {
  const connection = await openRaw(farm.layover.url);
  for (const _ of [1, 2]) {
    connection.send("GET /healthz HTTP/1.1\r\nHost: a.test\r\n\r\n");
    expect((await connection.readAnswer()).status).toBe(200);
  }
  connection.end();
});

test("2. a route is chosen: system, token, registry, nothing", async () => {
  const statuses = await Promise.all(
    ["/healthz", "/token", "/v2/quay/org/app/manifests/latest", "/nothing"].map(async (path) => {
      const answer = await farm.ask(path);
      await answer.bytes();
      return answer.status;
    }),
  );
  expect(statuses).toEqual([200, 200, 200, 404]);
});

describe("3. the endpoint", () => {
  test.each([
    ["/v2/Bad/manifests/latest", 400, "NAME_INVALID"],
    ["/v2/a/b/blobs/sha256:bad", 400, "DIGEST_INVALID"],
    ["/v2/a/b/manifests/-bad", 400, "TAG_INVALID"],
    ["/v2/_catalog", 404, "UNSUPPORTED"],
  ])("%s is %i %s, and nobody is asked", async (path, status, code) => {
    const answer = await farm.ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([status, code]);
    expect(asked()).toBe(0);
  });

  test("[R15] is read from the right", async () => {
    farm.quay.add("org/manifests/v2/blobs", farm.images.quay);
    const answer = await farm.ask("/v2/quay/org/manifests/v2/blobs/manifests/latest");
    expect(answer.status).toBe(200);
    await answer.bytes();
  });

  test("the ping asks nobody, writes are 405", async () => {
    expect((await farm.ask("/v2/")).status).toBe(401);
    const write = await farm.ask("/v2/a/b/manifests/latest", { method: "PUT", body: "{}" });
    expect([write.status, await codeOf(write)]).toEqual([405, "UNSUPPORTED"]);
    expect(asked()).toBe(0);
  });
});

test("4. the route: a registry of the map or 404, and its patterns", async () => {
  const unknown = await farm.ask("/v2/evil.test/a/b/manifests/latest");
  expect([unknown.status, await codeOf(unknown)]).toEqual([404, "NAME_UNKNOWN"]);
  const denied = await farm.ask("/v2/quay/org/denied/manifests/latest");
  expect([denied.status, await codeOf(denied)]).toEqual([403, "DENIED"]);
  expect(asked()).toBe(0);
});

test("5. the client: a token that is not ours is 401, and nobody is asked", async () => {
  const answer = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { authorization: "Bearer forged" } });
  expect(answer.status).toBe(401);
  expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"');
  await answer.text();
  expect(asked()).toBe(0);
});

test("5. with client access: who comes in before the map, the right before any registry", async () => {
  await using dir = await createTempDir();
  await Bun.write(dir.file("users"), await htpasswdText({ alice: "wonder" }));
  const rules = [{ users: ["alice"], repositories: ["quay.io/**"], rights: ["pull"] }];
  await Bun.write(dir.file("rules.json"), JSON.stringify({ rules }));
  const args = ["--htpasswd", dir.file("users"), "--access-rules", dir.file("rules.json")];
  const guarded = await startFarm({ args });
  const status = async (path: string, headers: Record<string, string> = {}): Promise<number> => {
    const answer = await guarded.ask(path, { headers });
    await answer.bytes();
    return answer.status;
  };
  const alice = { authorization: basicHeader("alice:wonder") };
  expect(await status("/v2/nobody.test/org/app/manifests/latest")).toBe(401);
  expect(await status("/v2/nobody.test/org/app/manifests/latest", alice)).toBe(404);
  expect(await status("/v2/hub/org/app/manifests/latest", alice)).toBe(403);
  expect(await status("/help")).toBe(401);
  expect([guarded.hub.count(), guarded.quay.count()]).toEqual([0, 0]);
  expect(await status("/v2/quay/org/app/manifests/latest", alice)).toBe(200);
  await guarded.stop();
});

test("6. the upstream is asked in the client's name, and its no has three faces", async () => {
  const path = "/v2/ghcr/org/private/manifests/latest";
  const as = async (login?: string) => ({
    headers: { authorization: `Bearer ${await farm.token("/token/ghcr", login)}` },
  });
  const statuses = [
    await farm.ask(path),
    await farm.ask(path, await as()),
    await farm.ask(path, await as("bob:hunter2")),
    await farm.ask(path, await as("alice:secret")),
  ];
  expect(statuses.map(({ status }) => status)).toEqual([401, 404, 403, 200]);
  await Promise.all(statuses.map((answer) => answer.bytes()));
});

test("6. a write goes once to one upstream where it is allowed, and what it leads to is sealed", async () => {
  const open = await startFarm({ entries: { quay: { push: true } } });
  const begun = await open.ask("/v2/quay/org/app/blobs/uploads/", { method: "POST", body: "" });
  expect([begun.status, open.quay.count({ method: "POST" })]).toEqual([202, 1]);
  const location = begun.headers.get("location") ?? "";
  expect(location).toStartWith(`${open.layover.url}/v2/quay/org/app/blobs/uploads/`);
  const path = location.slice(open.layover.url.length);
  expect((await open.ask(path)).status).toBe(204);
  expect((await open.ask(path.replace("/org/app/", "/org/other/"))).status).toBe(404);
  expect((await open.ask("/v2/ghcr/org/app/blobs/uploads/", { method: "POST", body: "" })).status).toBe(405);
  await open.stop();
});

test("7. the upstream answers, or the client learns why not", async () => {
  const path = "/v2/quay/org/app/manifests/latest";
  const seen: (string | number)[] = [];
  const own = await startFarm(); // who is limited stays so, whatever the registry would answer next
  for (const fault of [
    { status: 500 },
    { hangUp: "reset" as const },
    { status: 404, code: "NAME_UNKNOWN" },
    { status: 429 },
  ]) {
    own.reset();
    Object.assign(own.quay.faults.manifest, fault);
    const answer = await own.ask(path);
    seen.push(answer.status, (await codeOf(answer)) ?? "");
  }
  expect(seen).toEqual([502, "UNAVAILABLE", 502, "UNAVAILABLE", 404, "NAME_UNKNOWN", 429, "TOOMANYREQUESTS"]);
  await own.stop();
});

test("8. content is checked: a wrong manifest is 502, a wrong blob breaks off", async () => {
  farm.quay.faults.manifest.corrupt = true;
  farm.quay.faults.blob.corrupt = true;
  expect((await farm.ask(`/v2/quay/org/app/manifests/${farm.images.quay.digest}`)).status).toBe(502);
  const blob = await farm.ask(`/v2/quay/org/app/blobs/${layerOf(farm.images.quay)}`);
  await expect(blob.bytes()).rejects.toThrow();
});

test("9. the reply: 200, HEAD, 206, 304, 416", async () => {
  const digest = layerOf(farm.images.quay);
  const path = `/v2/quay/org/app/blobs/${digest}`;
  const answers = [
    await farm.ask(path),
    await farm.ask(path, { method: "HEAD" }),
    await farm.ask(path, { headers: { range: "bytes=10-19" } }),
    await farm.ask(path, { headers: { "if-none-match": `"${digest}"` } }),
    await farm.ask(path, { headers: { range: "bytes=99999999-" } }),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 206, 304, 416]);
  const bodies = await Promise.all(answers.map((answer) => answer.bytes()));
  expect(digestOf(bodies[0] ?? new Uint8Array())).toBe(digest);
  expect(bodies.slice(1, 4).map((body) => body.byteLength)).toEqual([0, 10, 0]);
});

test("10. one access line, when the body ended", async () => {
  const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
  await answer.bytes();
  const id = answer.headers.get("x-request-id");
  const line = await farm.layover.logLine((entry) => entry["id"] === id);
  expect([line["status"], line["registry"], line["repository"]]).toEqual([200, "quay", "org/app"]);
});
