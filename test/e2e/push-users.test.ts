/** Users of Layover's own write with what is configured, as far as the rules let each of them (product section 5). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { basicHeader, type Farm, layerOf, startFarm } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { digestOf, makeImage, randomBytes } from "../support/images.ts";
import { beginUpload, finishUpload, pushImage, type PushPlace, pushRequest } from "../support/pushing.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";

const PASSWORDS = { pusher: "one", keeper: "two", reader: "three" };
const RULES = [
  { users: ["pusher"], repositories: ["ghcr.io/org/team/**", "ghcr.io/org/app"], rights: ["pull", "push"] },
  { users: ["keeper"], repositories: ["**"], rights: ["pull", "push", "delete"] },
  { users: ["reader"], repositories: ["**"], rights: ["pull"] },
];

let dir: TempDir;
let farm: Farm;
beforeAll(async () => {
  dir = await createTempDir("layover-push-users-");
  await Bun.write(dir.file("users"), await htpasswdText(PASSWORDS));
  await Bun.write(dir.file("rules.json"), JSON.stringify({ rules: RULES }));
  farm = await startFarm({
    args: ["--allow-push", "--htpasswd", dir.file("users"), "--access-rules", dir.file("rules.json")],
    entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } },
  });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

const as = (name: keyof typeof PASSWORDS, repository: string): PushPlace => ({
  server: farm.layover.url,
  path: `/v2/ghcr.io/${repository}`,
  authorization: basicHeader(`${name}:${PASSWORDS[name]}`),
});

test("a user with the right pushes with the configured credential, by Basic and by token", async () => {
  const image = makeImage({ seed: "user" });
  await pushImage(as("pusher", "org/team/app"), image);
  const token = await farm.token("/token/ghcr", `pusher:${PASSWORDS.pusher}`);
  const again = makeImage({ seed: "user with a token", tags: ["token"] });
  await pushImage({ ...as("pusher", "org/team/app"), authorization: `Bearer ${token}` }, again);
  expect([...(farm.ghcr.content.repositories.get("org/team/app")?.tags.keys() ?? [])]).toEqual(["latest", "token"]);
});

test("a right is for its repositories and its verb alone, and what it does not cover asks no registry", async () => {
  const { digest } = makeImage();
  const before = farm.ghcr.count();
  const refused: [PushPlace, string, string][] = [
    [as("pusher", "org/other"), "POST", "/blobs/uploads/"],
    [as("pusher", "org/other"), "PUT", "/manifests/v1"],
    [as("pusher", "org/team/app"), "DELETE", "/manifests/latest"],
    [as("pusher", "org/team/app"), "DELETE", `/blobs/${digest}`],
    [as("reader", "org/team/app"), "POST", "/blobs/uploads/"],
    [as("reader", "org/team/app"), "PUT", "/manifests/v1"],
    [as("reader", "org/team/app"), "DELETE", "/manifests/latest"],
  ];
  for (const [place, method, rest] of refused) {
    const answer = await pushRequest(place, rest, { method, ...(method === "DELETE" ? {} : { body: "{}" }) });
    expect([place.path, method, rest, answer.status]).toEqual([place.path, method, rest, 403]);
    expect(await answer.json()).toHaveProperty("errors.0.code", "DENIED");
  }
  expect(farm.ghcr.count()).toBe(before);
  const gone = await pushRequest(as("keeper", "org/team/app"), "/manifests/latest", { method: "DELETE" });
  expect(gone.status).toBe(202);
});

test("an upload is given up with the right to push, not to delete; nobody else can go on with it", async () => {
  const location = await beginUpload(as("pusher", "org/team/app"));
  const content = randomBytes("user's session", 100);
  const asked = { digest: digestOf(content), body: Buffer.from(content) };
  expect((await finishUpload(as("reader", "org/team/app"), location, asked)).status).toBe(403);
  expect((await pushRequest(as("pusher", "org/team/app"), location, { method: "DELETE" })).status).toBe(204);
});

test("[R75] a mount takes only from what the user may read, and never from wherever the credential may", async () => {
  const query = (from: string) => `/blobs/uploads/?mount=${layerOf(farm.images.secret)}${from}`;
  const mount = (name: keyof typeof PASSWORDS, from: string) =>
    pushRequest(as(name, "org/team/mounted"), query(from), { method: "POST" });
  expect((await mount("keeper", "&from=ghcr.io/org/private")).status).toBe(201);
  expect((await mount("pusher", "&from=ghcr.io/org/private")).status).toBe(202);
  expect((await mount("keeper", "")).status).toBe(202);
  const asked = farm.ghcr.requests.filter(({ method }) => method === "POST").map((request) => request.query);
  expect(asked.slice(-2)).toEqual(["", ""]);
});

test("without a login a write is 401, whatever is configured", async () => {
  const { authorization: _, ...nobody } = as("pusher", "org/team/app");
  const answer = await pushRequest(nobody, "/blobs/uploads/", { method: "POST" });
  expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([401, expect.stringContaining("pull,push")]);
});
