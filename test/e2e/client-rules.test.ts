/** What users may do where, and how their files come into force while Layover runs (product section 5, client access). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import { runCommand } from "../support/command.ts";
import { type Farm, basicHeader, layerOf, startFarm } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

const APP = "/v2/quay/org/app/manifests/latest";
const USERS = { alice: "wonder", ci: "robot", ops: "keys" };
const RULES = [
  { users: ["*"], repositories: ["docker.io/library/**"], rights: ["pull"] },
  { users: ["anonymous"], repositories: ["docker.io/app"], rights: ["pull"] },
  { users: ["ci"], repositories: ["quay.io/org/*", "ghcr/**"], rights: ["pull", "push"] },
  { users: ["ops", "nobody-yet"], repositories: ["**"], rights: ["pull", "push", "delete"] },
];

/** Lines that stay as they are: hashes are salted anew each time. */
let others: string;
let dir: TempDir;
let farm: Farm;
beforeAll(async () => {
  dir = await createTempDir("layover-rules-");
  others = await htpasswdText({ alice: USERS.alice, ci: USERS.ci });
  await write("users", others + (await htpasswdText({ ops: USERS.ops })));
  await writeRules(RULES);
  farm = await startFarm({
    args: ["--htpasswd", dir.file("users"), "--access-rules", dir.file("rules.json"), "--allow-push"],
    entries: { quay: { deny: ["org/secret"] } },
  });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

async function write(name: string, text: string): Promise<void> {
  await Bun.write(dir.file(`${name}.new`), text);
  await rename(dir.file(`${name}.new`), dir.file(name));
}

function writeRules(rules: readonly unknown[]): Promise<void> {
  return write("rules.json", JSON.stringify({ rules }));
}

/** SIGHUP, until the line that says how it went. */
async function reload(outcome: RegExp): Promise<string> {
  const lines = () => farm.layover.log.filter(({ msg }) => outcome.test(msg ?? ""));
  const before = lines().length;
  farm.layover.signal("SIGHUP");
  while (lines().length === before) await farm.ask("/healthz").then((answer) => answer.bytes());
  return JSON.stringify(lines().at(-1));
}
const LOADED = /users and access rules loaded/;
const REFUSED = /new users or access rules refused/;

async function ask(login: string | undefined, path: string, method = "GET"): Promise<number> {
  const headers: Record<string, string> =
    login === undefined ? {} : { authorization: login.includes(":") ? basicHeader(login) : `Bearer ${login}` };
  const answer = await farm.ask(path, { method, headers });
  await answer.bytes();
  return answer.status;
}

describe("the rules", () => {
  const digest = () => farm.images.quay.digest;
  const cases: [who: string | undefined, method: string, path: () => string, status: number][] = [
    ["alice:wonder", "GET", () => "/v2/library/app/manifests/latest", 200],
    ["alice:wonder", "GET", () => "/v2/app/manifests/latest", 200],
    ["alice:wonder", "GET", () => "/v2/hub/org/app/manifests/latest", 403],
    ["alice:wonder", "GET", () => APP, 403],
    ["alice:wonder", "HEAD", () => `/v2/quay/org/app/blobs/${layerOf(farm.images.quay)}`, 403],
    ["alice:wonder", "GET", () => "/v2/quay/org/app/tags/list", 403],
    ["alice:wonder", "GET", () => `/v2/quay/org/app/referrers/${digest()}`, 403],
    ["alice:wonder", "POST", () => "/v2/library/app/blobs/uploads/", 403],
    ["ci:robot", "GET", () => APP, 200],
    ["ci:robot", "POST", () => "/v2/quay/org/app/blobs/uploads/", 202],
    ["ci:robot", "POST", () => "/v2/quay/org/deeper/app/blobs/uploads/", 403],
    ["ci:robot", "POST", () => "/v2/library/app/blobs/uploads/", 403],
    ["ci:robot", "DELETE", () => `/v2/quay/org/app/manifests/${digest()}`, 403],
    ["ops:keys", "GET", () => "/v2/hub/org/app/manifests/latest", 200],
    ["ops:keys", "DELETE", () => `/v2/quay/org/app/manifests/sha256:${"0".repeat(64)}`, 404],
    // A registry's own patterns stand above all rules, whatever the verb.
    ["ops:keys", "GET", () => "/v2/quay/org/secret/manifests/latest", 403],
    ["ops:keys", "POST", () => "/v2/quay/org/secret/blobs/uploads/", 403],
    ["ops:keys", "DELETE", () => "/v2/quay/org/secret/manifests/latest", 403],
    // Who is no user: the one repository of the rule, and a login for everything else.
    [undefined, "GET", () => "/v2/library/app/manifests/latest", 200],
    [undefined, "GET", () => APP, 401],
    [undefined, "POST", () => "/v2/library/app/blobs/uploads/", 401],
    [undefined, "GET", () => "/help", 401],
  ];
  test.each(cases)("%s %s %s is %i", async (who, method, path, status) => {
    expect(await ask(who, path(), method)).toBe(status);
  });

  test("what is refused never reaches a registry", async () => {
    farm.reset();
    for (const [who, method, path, status] of cases)
      if (status === 401 || status === 403) await ask(who, path(), method);
    expect([farm.hub, farm.quay, farm.ghcr].map((registry) => registry.count())).toEqual([0, 0, 0]);
  });

  test("an anonymous token reads what the rule for others says", async () => {
    const token = await farm.token("/token/hub");
    expect(await ask(token, "/v2/")).toBe(200);
    expect(await ask(token, "/v2/app/manifests/latest")).toBe(200);
    expect(await ask(token, APP)).toBe(401);
  });

  test("a blob is mounted only from where the user may read", async () => {
    const from = async (source: string): Promise<string> => {
      farm.reset();
      const mount = `mount=${layerOf(farm.images.quay)}&from=${source}`;
      await ask("ci:robot", `/v2/quay/org/other/blobs/uploads/?${mount}`, "POST");
      return farm.quay.requests.at(-1)?.query ?? "";
    };
    expect(await from("org/app")).toContain("from=org%2Fapp");
    expect(await from("elsewhere/app")).not.toContain("from=");
  });
});

test("a name that means nobody is said in the log", async () => {
  const line = await farm.layover.logLine(({ msg }) => /"nobody-yet" is no user/.test(msg ?? ""));
  expect(line.level).toBe("warn");
});

describe("while it runs", () => {
  test("a changed password ends the tokens of the old one, and nobody else's", async () => {
    const [ops, ci] = [await farm.token("/token", "ops:keys"), await farm.token("/token", "ci:robot")];
    expect([await ask(ops, APP), await ask(ci, APP), await ask("ops:keys", APP)]).toEqual([200, 200, 200]);
    await write("users", others + (await htpasswdText({ ops: "changed" })));
    await reload(LOADED);
    expect([await ask(ops, APP), await ask("ops:keys", APP), await ask("ops:changed", APP)]).toEqual([401, 401, 200]);
    expect(await ask(ci, APP)).toBe(200);
  });

  test("a removed user is gone at once", async () => {
    const token = await farm.token("/token", "ci:robot");
    expect(await ask(token, APP)).toBe(200);
    await write("users", await htpasswdText({ ops: "keys" }));
    await reload(LOADED);
    expect([await ask(token, APP), await ask("ci:robot", APP), await ask("ops:keys", APP)]).toEqual([401, 401, 200]);
    await write("users", await htpasswdText(USERS));
    await reload(LOADED);
  });

  test("files are read again without a signal", async () => {
    const before = farm.layover.log.filter(({ msg }) => LOADED.test(msg ?? "")).length;
    await writeRules([...RULES, { users: ["alice"], repositories: ["quay.io/org/app"], rights: ["pull"] }]);
    while (farm.layover.log.filter(({ msg }) => LOADED.test(msg ?? "")).length === before)
      await farm.ask("/healthz").then((answer) => answer.bytes());
    expect(await ask("alice:wonder", APP)).toBe(200);
    await writeRules(RULES);
    await reload(LOADED);
    expect(await ask("alice:wonder", APP)).toBe(403);
  });

  test("a bad file changes nothing, and is one line that names everything", async () => {
    await write("users", `${await htpasswdText({ ci: "robot" })}eve:$apr1$abc$def\n`);
    await write(
      "rules.json",
      JSON.stringify({ rules: [{ users: ["ci"], repositories: ["quay.io/**"], rights: ["pul"] }] }),
    );
    const line = await reload(REFUSED);
    for (const word of ["eve", "MD5", "htpasswd -B", "did you mean pull?"]) expect(line).toContain(word);
    expect(line).not.toContain("$apr1$");
    expect([await ask("ops:keys", APP), await ask("alice:wonder", APP)]).toEqual([200, 403]);
    await Promise.all([write("users", await htpasswdText(USERS)), writeRules(RULES)]);
    await reload(LOADED);
  });

  test("no request fails while the files are read again and again", async () => {
    let isOver = false;
    const load = Array.from({ length: 8 }, async () => {
      const seen = new Set<number>();
      while (!isOver) seen.add(await ask("ci:robot", APP));
      return [...seen];
    });
    for (let i = 0; i < 20; i += 1) await reload(LOADED);
    isOver = true;
    expect(await Promise.all(load)).toEqual(load.map(() => [200]));
  });
});

test("without htpasswd the rules for others bound what accounts of registries may do", async () => {
  await writeRules([{ users: ["anonymous"], repositories: ["ghcr.io/org/private"], rights: ["pull"] }]);
  const open = await startFarm({ args: ["--access-rules", dir.file("rules.json"), "--allow-push"] });
  const token = { authorization: `Bearer ${await open.token("/token/ghcr", "alice:secret")}` };
  const status = async (path: string, method = "GET"): Promise<number> => {
    const answer = await open.ask(path, { method, headers: token });
    await answer.bytes();
    return answer.status;
  };
  expect(await status("/v2/ghcr/org/private/manifests/latest")).toBe(200);
  expect(await status("/v2/ghcr/org/app/manifests/latest")).toBe(403);
  expect(await status("/v2/ghcr/org/private/blobs/uploads/", "POST")).toBe(403);
  expect((await open.ask("/help")).status).toBe(403);
  await open.stop();
});

test("[R112] ten refused logins of a registry's account in a minute are 429 as well", async () => {
  const open = await startFarm();
  const login = async (name: string): Promise<number> => {
    const answer = await open.ask("/token/ghcr", { headers: { authorization: basicHeader(name) } });
    await answer.bytes();
    return answer.status;
  };
  for (let i = 0; i < 10; i += 1) expect(await login(`alice:no${i}`)).toBe(401);
  const asked = open.ghcr.tokenRequests.length;
  expect(await login("alice:secret")).toBe(429);
  expect(open.ghcr.tokenRequests.length).toBe(asked);
  expect(await login("bob:hunter2")).toBe(200);
  await open.stop();
});

test.each(["ghcr", "basic"])("ten refused passwords on resources of %s are 429, and right ones never", async (key) => {
  const open = await startFarm({ args: ["--domain-suffix", "example.test"] });
  const pull = async (login: string, repository = "private"): Promise<number> => {
    const headers = { authorization: basicHeader(login), host: `${key}.example.test` };
    const answer = await open.ask(`/v2/org/${repository}/manifests/latest`, { headers });
    await answer.bytes();
    return answer.status;
  };
  for (let i = 0; i < 12; i += 1) expect(await pull("alice:secret")).toBe(200);
  for (let i = 0; i < 10; i += 1) expect(await pull(`alice:no${i}`)).toBe(403);
  expect(await pull("alice:secret")).toBe(429);
  expect(await pull("bob:hunter2", "bobs")).toBe(404);
  await open.stop();
});

test("files that cannot be used stop the start with everything that is wrong", async () => {
  await using own = await createTempDir("layover-bad-");
  await Bun.write(own.file("users"), "plain:secret\nsha:{SHA}abc\nnocolon\n");
  await Bun.write(own.file("rules.yaml"), "rules:\n  - users: [a]\n    repositories: ['*']\n    right: [pull]\n");
  const { code, err } = await runCommand(
    ["--listen", "127.0.0.1:0", "--htpasswd", "users", "--access-rules", "rules.yaml"],
    { cwd: own.path },
  );
  expect(code).toBe(2);
  const wanted = ['"plain"', '"sha"', "SHA-1", "line 3", "did you mean rights?", "docker.io/library/**", "htpasswd -B"];
  for (const word of wanted) expect(err).toContain(word);
  expect(err).not.toContain("secret");
});
