/** Configured credentials of every source, with real programs: whose account is shown to which registry, and when it is asked for. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { runCommand } from "../support/command.ts";
import { createFakeRegistry, type FakeRegistry } from "../support/fake-registry.ts";
import { type Farm, basicHeader, startFarm } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let farm: Farm;

/** A program that leaves a line in `<name>.runs` each time and then runs this shell script. */
async function program(name: string, script: string): Promise<string> {
  await writeFile(dir.file(name), `#!/bin/sh\necho "$*" >> ${dir.file(`${name}.runs`)}\n${script}\n`);
  await chmod(dir.file(name), 0o755);
  return dir.file(name);
}

async function runsOf(name: string): Promise<number> {
  const text = await readFile(dir.file(`${name}.runs`), "utf8").catch(() => "");
  return text.split("\n").length - 1;
}

async function statusOf(path: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await farm.ask(path, { headers });
  await response.arrayBuffer();
  return response.status;
}

const password = (value: string) => `printf '{"username":"alice","password":"%s","expiresIn":3600}' "${value}"`;

beforeAll(async () => {
  dir = await createTempDir("layover-credentials-");
  await writeFile(dir.file("answer"), "secret");
  const mint = await program("mint", password(`$(cat ${dir.file("answer")})`));
  await program(
    "docker-credential-fake",
    `read server; printf '{"Username":"<token>","Secret":"%s"}' "$(cat ${dir.file("refresh")})"`,
  );
  await writeFile(dir.file("docker.json"), JSON.stringify({ credHelpers: { "ghcr.io": "fake" } }));
  farm = await startFarm({
    args: ["--share-private", "--docker-config", dir.file("docker.json")],
    env: { PATH: `${dir.path}:${process.env["PATH"] ?? ""}` },
    entries: {
      hub: { credentials: [{ exec: [mint, "--now"] }] },
      basic: {
        credentials: [
          { repositories: ["org/**"], username: "bob", password: "hunter2" },
          { repositories: ["org/private"], username: "alice", password: "secret" },
        ],
      },
    },
  });
  farm.hub.add("org/bobs", makeImage({ seed: "bobs" }));
  farm.basic.add("org/bobs", makeImage({ seed: "bobs" }));
});
afterEach(() => farm.reset());
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

describe("a configured credential", () => {
  test("of a program is asked for once, and again when its registry refuses it", async () => {
    for (let i = 0; i < 3; i++) expect(await statusOf("/v2/hub/org/private/manifests/latest")).toBe(200);
    expect(await runsOf("mint")).toBe(1);
    farm.hub.access.users["alice"] = { password: "rotated" };
    farm.hub.access.expireTokens();
    await writeFile(dir.file("answer"), "rotated");
    const refused = await statusOf("/v2/hub/org/bobs/manifests/latest");
    expect([401, 404]).toContain(refused);
    expect(await statusOf("/v2/hub/org/bobs/manifests/latest")).toBe(200);
    expect(await runsOf("mint")).toBe(2);
    farm.hub.access.users["alice"] = { password: "secret" };
  });

  test("[R99] of docker's helper may be an identity token, which only the token server sees", async () => {
    const refresh = farm.ghcr.access.issueRefreshToken("alice");
    await writeFile(dir.file("refresh"), refresh);
    expect(await statusOf("/v2/ghcr/org/private/manifests/latest")).toBe(200);
    const asked = farm.ghcr.tokenRequests.filter(({ method }) => method === "POST");
    expect(asked.map(({ body }) => new URLSearchParams(body).get("refresh_token"))).toEqual([refresh]);
    expect(JSON.stringify(farm.ghcr.requests.map(({ lines }) => lines))).not.toContain(refresh);
  });

  test("is the one with the longest pattern that fits the repository", async () => {
    const shown = async (repository: string) => {
      farm.basic.reset();
      const status = await statusOf(`/v2/basic.test/${repository}/manifests/latest`);
      return [status, farm.basic.requests.at(-1)?.headers.get("authorization")];
    };
    expect(await shown("org/private")).toEqual([200, basicHeader("alice:secret")]);
    expect(await shown("org/bobs")).toEqual([200, basicHeader("bob:hunter2")]);
  });
});

describe("AUTH_REGISTRIES", () => {
  let own: Farm;
  beforeAll(async () => {
    own = await startFarm({
      args: ["--share-private"],
      env: {
        AUTH_REGISTRIES: "ghcr.io|bob|hunter2;;unknown.test|u|p",
        AUTH_REGISTRIES_DELIMITER: ";;",
        AUTH_REGISTRY_DELIMITER: "|",
      },
    });
    own.ghcr.add("org/bobs", makeImage({ seed: "bobs" }));
  });
  afterAll(() => own.stop());

  test("[C31] is used for who shows none; a client's own login wins over it", async () => {
    const ask = async (repository: string, headers: Record<string, string> = {}) => {
      const response = await own.ask(`/v2/ghcr.io/${repository}/manifests/latest`, { headers });
      await response.arrayBuffer();
      return response.status;
    };
    expect(await ask("org/bobs")).toBe(200);
    expect(await ask("org/private")).toBe(401);
    const token = await own.token("/token/ghcr?service=x&scope=repository:org/private:pull", "alice:secret");
    expect(await ask("org/private", { authorization: `Bearer ${token}` })).toBe(200);
    const line = await own.layover.logLine(({ host }) => host === "unknown.test");
    expect(line.msg).toContain("AUTH_REGISTRIES is not used");
  });
});

describe("another upstream", () => {
  test("[R248] sees no credential of the first, and no name that may be private", async () => {
    const mirror = await createFakeRegistry({ auth: "basic" });
    mirror.add("org/app", makeImage({ seed: "mirror" }));
    const own = await startFarm({
      args: ["--share-private"],
      mirrors: { quay: mirror.url },
      entries: { quay: { credentials: [{ username: "u", password: "hunter2" }] } },
    });
    await own.quay.close();
    const response = await own.ask("/v2/quay.io/org/app/manifests/latest");
    await response.arrayBuffer();
    expect(response.status).toBe(503);
    expect(mirror.requests).toEqual([]);
    await own.layover.stop();
    await Promise.all([mirror, own.hub, own.ghcr, own.basic].map((registry) => registry.close()));
  });
});

describe("layover check", () => {
  let registry: FakeRegistry;
  beforeAll(async () => {
    registry = await createFakeRegistry({ auth: "bearer", users: { alice: { password: "secret" } } });
  });
  afterAll(() => registry.close());

  async function check(credential: Record<string, unknown>) {
    const map = { one: { upstreams: [registry.url], credentials: [credential] } };
    await writeFile(dir.file("map.json"), JSON.stringify(map), { mode: 0o600 });
    return runCommand(["check", "--registry-map", dir.file("map.json")], { cwd: dir.path });
  }

  test("shows that a program's credential works and when it ends, and never the secret", async () => {
    const { code, out } = await check({ exec: [await program("good", password("secret"))] });
    expect(out).toMatch(/OK +one +program \S+good at \S+: accepted; renewed before 20\d\d-\d\d-\d\dT/);
    expect(out).not.toContain("secret");
    expect(code).toBe(0);
  });

  test.each([
    ["refused", password("hunter2"), ": refused; check the account"],
    ["broken", "echo hunter2 >&2; echo hunter2; exit 7", "could not be tried: program"],
    ["garbage", "echo hunter2", "expected JSON with username and password, or a token"],
  ])("[R248] says that a program's credential is %s", async (name, script, why) => {
    const { code, out, err } = await check({ exec: [await program(name, script)] });
    expect(out).toContain(why);
    expect(`${out}${err}`).not.toContain("hunter2");
    expect(code).toBe(1);
  });

  test("tells files with secrets that everybody may read", async () => {
    await writeFile(dir.file("pw"), "secret", { mode: 0o644 });
    await chmod(dir.file("pw"), 0o644);
    const { code, out } = await check({ username: "alice", passwordFile: dir.file("pw") });
    expect(out).toContain(`WARN  secrets`);
    expect(out).toContain(`chmod o-r ${dir.file("pw")}`);
    expect(code).toBe(0);
    await chmod(dir.file("pw"), 0o600);
    expect((await check({ username: "alice", passwordFile: dir.file("pw") })).out).not.toContain("secrets");
  });
});
