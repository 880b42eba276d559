/** Who may use the proxy: passwords, addresses, certificates and rules, on every endpoint (product section 5, client access). */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import { type AskOptions, type Farm, basicHeader, layerOf, startFarm } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

const HERE = { "x-forwarded-for": "10.1.2.3" };
const ELSEWHERE = { "x-forwarded-for": "192.0.2.7" };
/** The test speaks for clients of any address, as a reverse proxy does. */
const BEHIND_PROXY = ["--trusted-proxies", "127.0.0.0/8"];
const USERS = { alice: "wonder", ci: "robot", idle: "nothing" };

let dir: TempDir;
beforeAll(async () => {
  dir = await createTempDir("layover-access-");
  await write("users", await htpasswdText(USERS));
});
afterAll(() => dir.remove());

/** In one step, as a person's editor does. */
async function write(name: string, text: string): Promise<void> {
  await Bun.write(dir.file(`${name}.new`), text);
  await rename(dir.file(`${name}.new`), dir.file(name));
}

function writeRules(name: string, rules: readonly unknown[]): Promise<void> {
  return write(name, JSON.stringify({ rules }));
}

async function status(farm: Farm, path: string, options: AskOptions = {}): Promise<number> {
  const answer = await farm.ask(path, options);
  await answer.bytes();
  return answer.status;
}

async function code(answer: Response): Promise<string | undefined> {
  return ((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code;
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

function loginAs(name: keyof typeof USERS): Record<string, string> {
  return { authorization: basicHeader(`${name}:${USERS[name]}`) };
}

/** What each kind of endpoint answers. */
async function answers(farm: Farm, headers: Record<string, string>): Promise<Record<string, number>> {
  const { quay } = farm.images;
  const paths = {
    ping: "/v2/",
    tag: "/v2/quay/org/app/manifests/latest",
    digest: `/v2/quay/org/app/manifests/${quay.digest}`,
    blob: `/v2/quay/org/app/blobs/${layerOf(quay)}`,
    tags: "/v2/quay/org/app/tags/list",
    unknown: "/v2/nobody.test/org/app/manifests/latest",
    catalog: "/v2/_catalog",
    token: "/token/quay",
    help: "/help",
    root: "/",
    docs: "/docs",
    nothing: "/nothing",
    alive: "/healthz",
    ready: "/readyz",
  };
  const all = Object.entries(paths).map(async ([name, path]) => {
    const given = name === "token" ? withoutCredentials(headers) : headers;
    return [name, await status(farm, path, { headers: given })] as const;
  });
  return Object.fromEntries(await Promise.all(all));
}

function withoutCredentials(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization"));
}

const OPEN = { token: 200, alive: 200, ready: 200 };
const CONTENT = { tag: 200, digest: 200, blob: 200, tags: 200 };
const WELCOME = {
  ...OPEN,
  ...CONTENT,
  ping: 200,
  unknown: 404,
  catalog: 404,
  help: 200,
  root: 200,
  docs: 200,
  nothing: 404,
};
const EVERYTHING = Object.keys(WELCOME);
const only = (status: number) => ({ ...Object.fromEntries(EVERYTHING.map((name) => [name, status])), ...OPEN });

describe("--htpasswd", () => {
  let farm: Farm;
  beforeAll(async () => {
    farm = await startFarm({
      args: [...BEHIND_PROXY, "--htpasswd", dir.file("users")],
      entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } },
    });
  });
  afterAll(() => farm.stop());
  beforeEach(() => farm.reset());

  test("without a login everything is 401 but health and the token service, and nobody is asked", async () => {
    expect(await answers(farm, {})).toEqual(only(401));
    expect(farm.quay.count()).toBe(0);
  });

  test("[R117, R119, R121] the challenge names the registry and the repository, also without a ping", async () => {
    const answer = await farm.ask("/v2/quay.io/org/app/manifests/latest");
    await answer.bytes();
    expect(answer.headers.get("www-authenticate")).toBe(
      `Bearer realm="http://${farm.layover.host}/token/quay?host=shared",service="${farm.layover.host}",scope="repository:quay.io/org/app:pull"`,
    );
    const page = await farm.ask("/help");
    await page.bytes();
    expect(page.headers.get("www-authenticate")).toBe('Basic realm="Layover"');
  });

  test("an anonymous token does not help: 401 insufficient_scope", async () => {
    const token = await farm.token("/token/quay");
    expect(await answers(farm, bearer(token))).toEqual(only(401));
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: bearer(token) });
    await answer.bytes();
    expect(answer.headers.get("www-authenticate")).toContain('error="insufficient_scope"');
  });

  test("a user's token opens every registry and page", async () => {
    const token = await farm.token("/token/hub", "alice:wonder");
    expect(await answers(farm, bearer(token))).toEqual(WELCOME);
    for (const key of ["hub", "quay", "ghcr"])
      expect(await status(farm, `/v2/${key}/org/app/manifests/latest`, { headers: bearer(token) })).toBe(200);
  });

  test("[R122] Basic works everywhere, for clients that know nothing else", async () => {
    expect(await answers(farm, loginAs("alice"))).toEqual(WELCOME);
  });

  test("[R98] the form of containerd works too", async () => {
    const answer = await farm.ask("/token/quay", {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: "grant_type=password&username=alice&password=wonder&service=x&client_id=y",
    });
    const { access_token } = (await answer.json()) as { access_token: string };
    expect(await status(farm, "/v2/quay/org/app/manifests/latest", { headers: bearer(access_token) })).toBe(200);
  });

  test.each(["alice:wrong", "nobody:wonder", "alice:", "anonymous:x", "*:x"])(
    "%s is refused by the token service, the ping, pages and content",
    async (login) => {
      const headers = { ...ELSEWHERE, authorization: basicHeader(login) };
      for (const path of ["/token/hub", "/v2/", "/help", "/v2/quay/org/app/manifests/latest"])
        expect(await status(farm, path, { headers })).toBe(401);
    },
  );

  test("credentials of a registry are none of ours: they are not passed on", async () => {
    const headers = { ...ELSEWHERE, authorization: basicHeader("bob:hunter2") };
    expect(await status(farm, "/token/ghcr", { headers })).toBe(401);
    expect(await status(farm, "/v2/ghcr/org/bobs/manifests/latest", { headers })).toBe(401);
    expect(farm.ghcr.tokenRequests.length + farm.ghcr.count()).toBe(0);
  });

  test("a user may push nothing without rules", async () => {
    const answer = await farm.ask("/v2/quay/org/app/blobs/uploads/", { method: "POST", headers: loginAs("alice") });
    expect([answer.status, await code(answer)]).toEqual([405, "UNSUPPORTED"]);
  });

  test("[T14] a private image is for users, by the configured credential", async () => {
    const path = "/v2/ghcr/org/private/manifests/latest";
    expect(await status(farm, path, { headers: loginAs("alice") })).toBe(200);
    expect(await status(farm, path)).toBe(401);
    expect(await status(farm, path, { headers: bearer(await farm.token("/token/ghcr")) })).toBe(401);
    await farm.layover.logLine(({ msg }) => /private ones for Layover's users/.test(msg ?? ""));
  });

  test("ten wrong passwords in a minute are 429, for that address and that name alone", async () => {
    const from = (address: string, login: string) => ({
      headers: { "x-forwarded-for": address, authorization: basicHeader(login) },
    });
    for (let i = 0; i < 10; i += 1)
      expect(await status(farm, "/token/hub", from("198.51.100.1", `ci:no${i}`))).toBe(401);
    for (const path of ["/token/hub", "/help", "/v2/", "/v2/quay/org/app/manifests/latest"]) {
      const answer = await farm.ask(path, from("198.51.100.1", "ci:robot"));
      expect([path, answer.status]).toEqual([path, 429]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
      await answer.bytes();
    }
    expect(await status(farm, "/token/hub", from("198.51.100.2", "ci:robot"))).toBe(200);
    expect(await status(farm, "/token/hub", from("198.51.100.1", "alice:wonder"))).toBe(200);
  });

  test("the log names the user of a request", async () => {
    await farm.layover.logLine(({ user, repository }) => user === "alice" && repository === "org/app");
  });

  test("no password and no hash is ever logged", async () => {
    const text = JSON.stringify(farm.layover.log);
    for (const secret of ["wonder", "robot", "$2y$", basicHeader("alice:wonder").slice(6)])
      expect(text).not.toContain(secret);
  });
});

describe("--allow-from", () => {
  let farm: Farm;
  beforeAll(async () => {
    farm = await startFarm({
      args: [...BEHIND_PROXY, "--allow-from", "10.0.0.0/8"],
      entries: { basic: { credentials: [{ username: "alice", password: "secret" }] } },
    });
  });
  afterAll(() => farm.stop());
  beforeEach(() => farm.reset());

  test("an address in the list is served as if there were no list", async () => {
    // Registries of the list take logins of their own.
    expect(await answers(farm, HERE)).toEqual({ ...WELCOME, ping: 401 });
    const login = { headers: { ...HERE, authorization: basicHeader("alice:secret") } };
    expect(await status(farm, "/token/ghcr", login)).toBe(200);
  });

  test("another is 403 without a challenge, and nobody is asked", async () => {
    expect(await answers(farm, ELSEWHERE)).toEqual(only(403));
    const answer = await farm.ask("/v2/", { headers: ELSEWHERE });
    expect([answer.headers.get("www-authenticate"), await code(answer)]).toEqual([null, "DENIED"]);
    const login = { headers: { ...ELSEWHERE, authorization: basicHeader("alice:secret") } };
    expect(await status(farm, "/token/ghcr", login)).toBe(403);
    expect(farm.ghcr.tokenRequests.length + farm.quay.count()).toBe(0);
  });

  test("[T14] what configured credentials may read is not for addresses", async () => {
    expect(await status(farm, "/v2/basic/org/private/manifests/latest", { headers: HERE })).not.toBe(200);
  });
});

test("[R229] a forged X-Forwarded-For of a peer that is not trusted changes nothing", async () => {
  const farm = await startFarm({ args: ["--allow-from", "10.0.0.0/8,unix"] });
  for (const forged of ["10.1.2.3", "unix", "10.1.2.3, 127.0.0.1"]) {
    for (const name of ["x-forwarded-for", "x-real-ip"])
      expect(await status(farm, "/v2/quay/org/app/manifests/latest", { headers: { [name]: forged } })).toBe(403);
    const headers = { forwarded: `for=${forged.split(",")[0]}` };
    expect(await status(farm, "/v2/quay/org/app/manifests/latest", { headers })).toBe(403);
  }
  await farm.stop();
});

describe("--htpasswd and --allow-from together", () => {
  let farm: Farm;
  beforeAll(async () => {
    await writeRules("some.json", [{ users: ["ci"], repositories: ["quay.io/org/**"], rights: ["pull", "push"] }]);
    farm = await startFarm({
      args: [
        ...BEHIND_PROXY,
        "--htpasswd",
        dir.file("users"),
        "--allow-from",
        "10.0.0.0/8",
        "--allow-push",
        "--access-rules",
        dir.file("some.json"),
      ],
      entries: { ghcr: { credentials: [{ username: "alice", password: "secret" }] } },
    });
  });
  afterAll(() => farm.stop());

  test("an address in the list reads as anonymous, and is still told that it can log in", async () => {
    expect(await answers(farm, HERE)).toEqual({ ...WELCOME, ping: 401 });
    const token = await farm.token("/token");
    expect(await answers(farm, { ...HERE, ...bearer(token) })).toEqual(WELCOME);
    expect(
      await status(farm, "/v2/ghcr/org/private/manifests/latest", { headers: { ...HERE, ...bearer(token) } }),
    ).toBe(404);
  });

  test("a user reads there no less than without the login, and pushes where the rules say", async () => {
    const ci = { ...HERE, ...loginAs("ci") };
    expect(await status(farm, "/v2/hub/org/app/manifests/latest", { headers: ci })).toBe(200);
    const upload = (key: string) => status(farm, `/v2/${key}/org/app/blobs/uploads/`, { method: "POST", headers: ci });
    expect(await upload("quay")).toBe(202);
    expect(await upload("hub")).toBe(403);
  });

  test("elsewhere a login is needed", async () => {
    expect(await answers(farm, ELSEWHERE)).toEqual(only(401));
  });
});
