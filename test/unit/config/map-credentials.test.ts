/** Where the map's credentials come from, and which upstream each belongs to. */
import { describe, expect, test } from "bun:test";
import type { HostLogin } from "../../../src/config/docker-config.ts";
import type { Registry } from "../../../src/registry/registry.ts";
import { type Given, parseMap, problemsOfMap } from "./map-parsing.ts";

const auth = (login: string) => ({ auth: Buffer.from(login).toString("base64") });
const PROGRAM = { timeoutMs: 10_000, env: [] };

const DOCKER = {
  auths: {
    "https://index.docker.io/v1/": auth("hub:hunter2"),
    "ghcr.io": { username: "gh", password: "hunter2" },
    "https://id.test/v2/": { ...auth("<token>:"), identitytoken: "hunter2" },
    "quay.io/org": auth("podman:hunter2"),
    "stored.test": {},
    "helped.test": auth("old:hunter2"),
  },
  credHelpers: { "helped.test": "ecr-login" },
  credsStore: "desktop",
};

async function credentialsOf(entry: unknown, given?: Given): Promise<Registry["credentials"]> {
  return (await parseMap({ one: entry }, given)).default.credentials;
}

describe("a credential of the map", () => {
  test("may come from a variable, a file, docker's configuration or a program", async () => {
    const entry = {
      upstreams: ["https://ghcr.io"],
      credentials: [
        { username: "a", passwordEnv: "GHCR_PASSWORD", repositories: ["a/**"] },
        { identityTokenFile: "/token" },
        { dockerConfig: "/docker.json", repositories: ["d/**"] },
        { exec: ["aws-ecr-token", "--region", "eu"], timeout: "5s", env: ["AWS_PROFILE"] },
        { username: "AWS", exec: ["/usr/bin/aws", "ecr", "get-login-password"] },
      ],
    };
    const files = { "/token": "hunter2\n", "/docker.json": JSON.stringify(DOCKER) };
    const found = await credentialsOf(entry, { files, env: { GHCR_PASSWORD: "hunter2" } });
    const origin = "https://ghcr.io";
    expect(found).toEqual([
      { origin, repositories: ["a/**"], source: { kind: "password", username: "a", password: "hunter2" } },
      { origin, repositories: [], source: { kind: "identity-token", token: "hunter2" } },
      { origin, repositories: ["d/**"], source: { kind: "password", username: "gh", password: "hunter2" } },
      {
        origin,
        repositories: [],
        source: {
          kind: "exec",
          argv: ["aws-ecr-token", "--region", "eu"],
          timeoutMs: 5_000,
          env: ["AWS_PROFILE"],
        },
      },
      {
        origin,
        repositories: [],
        source: { kind: "exec", argv: ["/usr/bin/aws", "ecr", "get-login-password"], username: "AWS", ...PROGRAM },
      },
    ]);
  });

  test.each([
    [{ username: "a", exec: ["./relative"] }, "exec[0]: expected the name of a program or its absolute path"],
    [{ exec: [] }, "exec"],
    [{ exec: ["x"], timeout: "21s" }, 'timeout: expected a time from 1ms to 20s, got "21s"'],
    [{ exec: ["x"], env: ["A=B"] }, "env[0]: expected the name of an environment variable"],
    [{ exec: ["x"], password: "hunter2", username: "u" }, "expected one of password, passwordFile"],
    [{ password: "hunter2" }, "expected a username beside password"],
    [{ identityTokenFile: "/token", username: "u" }, "expected no username beside identityTokenFile"],
    [{ username: "u", password: "hunter2", timeout: "1s" }, "expected no timeout and env beside password"],
    [{ username: "u", passwordEnv: "NOT_SET" }, "passwordEnv: expected a password in $NOT_SET, got nothing"],
    [{ identityTokenFile: "/none" }, "identityTokenFile: cannot read /none"],
    [{ dockerConfig: "/none" }, "dockerConfig: cannot read /none"],
    [{ dockerConfig: "/empty.json" }, "dockerConfig: expected an account of h.test in /empty.json"],
    [{ dockerConfig: "/garbage" }, "/garbage: expected object, got something else"],
    [{ dockerConfig: "/bad.json" }, '["auths"]["h.test"]: expected auth as base64 of user:password'],
    [{ dockerConfig: "/path.json" }, "expected a helper's name such as ecr-login"],
  ])("[R248] %j is refused", async (credential, why) => {
    const files = {
      "/token": "hunter2",
      "/empty.json": "{}",
      "/garbage": "hunter2 {",
      "/bad.json": JSON.stringify({ auths: { "h.test": { auth: "hunter2" } } }),
      "/path.json": JSON.stringify({ credHelpers: { "h.test": "../../bin/sh" } }),
    };
    const problems = await problemsOfMap(
      { one: { upstreams: ["https://h.test"], credentials: [credential] } },
      { files },
    );
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(why);
    expect(problems[0]).not.toContain("hunter2");
  });

  test.each([
    [{ exec: ["sh", "-c", "curl evil"] }],
    [{ dockerConfig: "/root/.docker/config.json" }],
    [{ identityTokenFile: "/x" }],
    [{ username: "u", passwordEnv: "HOME" }],
  ])("[C38, R248] %j has no place in a map from a URL", async (credential) => {
    const problems = await problemsOfMap(
      { one: { upstreams: ["https://h"], credentials: [credential] } },
      { source: "url", env: { HOME: "x" } },
    );
    expect(problems[0]).toStartWith("map: one.credentials: not allowed in a map from a URL");
  });

  test("tells which files hold secrets", async () => {
    const paths: string[] = [];
    const credentials = [
      { username: "a", passwordFile: "/pw" },
      { dockerConfig: "/docker.json" },
      { username: "b", password: "inline" },
    ];
    await parseMap(
      { one: { upstreams: ["https://ghcr.io"], credentials } },
      {
        files: { "/pw": "x", "/docker.json": JSON.stringify(DOCKER) },
        onSecretFile: (path) => void paths.push(path),
      },
    );
    expect(paths.sort()).toEqual(["/docker.json", "/pw", "map"]);
  });
});

describe("--docker-config", () => {
  const files = { "/docker.json": JSON.stringify(DOCKER) };
  const given = { files, dockerConfig: "/docker.json" };

  test("gives each registry the account of its host, and the helper it names", async () => {
    const { byKey } = await parseMap(
      {
        docker: "https://registry-1.docker.io",
        ghcr: "https://ghcr.io",
        quay: "https://quay.io",
        id: "https://id.test",
        stored: "https://stored.test",
        helped: "https://helped.test",
        other: "https://other.test",
      },
      given,
    );
    const sourceOf = (key: string) => byKey.get(key)?.credentials.map(({ source }) => source);
    expect(sourceOf("docker")).toEqual([{ kind: "password", username: "hub", password: "hunter2" }]);
    expect(sourceOf("ghcr")).toEqual([{ kind: "password", username: "gh", password: "hunter2" }]);
    expect(sourceOf("id")).toEqual([{ kind: "identity-token", token: "hunter2" }]);
    expect(byKey.get("quay")?.credentials).toMatchObject([{ repositories: ["org", "org/**"] }]);
    const helper = { kind: "helper", ...PROGRAM } as const;
    expect(sourceOf("stored")).toEqual([{ ...helper, program: "docker-credential-desktop", serverUrl: "stored.test" }]);
    expect(sourceOf("helped")).toEqual([
      { ...helper, program: "docker-credential-ecr-login", serverUrl: "helped.test" },
    ]);
    expect(sourceOf("other")).toEqual([]);
    expect(byKey.get("other")?.login).toBe("relay");
    expect(byKey.get("ghcr")?.login).toBe("proxy");
  });

  test("gives way to credentials of the map", async () => {
    const own = { upstreams: ["https://ghcr.io"], credentials: [{ username: "own", password: "p" }] };
    expect(await credentialsOf(own, given)).toMatchObject([{ source: { username: "own" } }]);
  });

  test("[C38, R248] goes to the upstream with that host, and in a map from a URL to nothing else", async () => {
    const mirror = { upstreams: ["https://mirror.test", "https://ghcr.io"], hosts: ["ghcr.io"] };
    expect(await credentialsOf(mirror, given)).toMatchObject([{ origin: "https://ghcr.io" }]);
    const standIn = { upstreams: ["https://mirror.test"], hosts: ["ghcr.io"] };
    expect(await credentialsOf(standIn, given)).toMatchObject([{ origin: "https://mirror.test" }]);
    for (const entry of [standIn, "http://ghcr.io"])
      expect(await credentialsOf(entry, { ...given, source: "url" })).toEqual([]);
    expect(await credentialsOf(mirror, { ...given, source: "url" })).toMatchObject([{ origin: "https://ghcr.io" }]);
  });

  test("that cannot be read stops the start", async () => {
    expect(await problemsOfMap({ one: "https://h" }, { dockerConfig: "/none" })).toEqual([
      "--docker-config: cannot read /none: ENOENT /none",
    ]);
    const problems = await problemsOfMap(
      { one: "https://h" },
      { dockerConfig: "/x", files: { "/x": '{"auths": "hunter2"}' } },
    );
    expect(problems).toEqual(['--docker-config: /x["auths"]: expected record, received string']);
  });

  test("asks the general store for a registry that names the file itself", async () => {
    const stored = { "/s.json": '{"credsStore": "pass"}' };
    const entry = (upstream: string) => ({ upstreams: [upstream], credentials: [{ dockerConfig: "/s.json" }] });
    const [one] = await credentialsOf(entry("https://h.test"), { files: stored });
    expect(one).toMatchObject({ source: { program: "docker-credential-pass", serverUrl: "h.test" } });
    const [hub] = await credentialsOf(entry("https://registry-1.docker.io"), { files: stored });
    expect(hub).toMatchObject({ source: { serverUrl: "https://index.docker.io/v1/" } });
  });
});

describe("accounts of AUTH_REGISTRIES", () => {
  const login = (host: string): HostLogin => ({
    host,
    repositories: [],
    source: { kind: "password", username: "u", password: "p" },
  });

  test("are those of the upstream with that host, or of the registry beside a git host", async () => {
    const hosts = ["docker.io", "gitlab.com", "git.test", "port.test", "quay.io"];
    const authRegistries = hosts.map(login);
    const { byKey } = await parseMap(
      {
        docker: "https://registry-1.docker.io",
        gitlab: "https://registry.gitlab.com",
        own: { upstreams: ["https://reg.test"], trustedRealms: ["git.test"] },
        port: "https://port.test:5050",
        ghcr: "https://ghcr.io",
      },
      { authRegistries },
    );
    const origins = (key: string) => byKey.get(key)?.credentials.map(({ origin }) => origin);
    expect(origins("docker")).toEqual(["https://registry-1.docker.io"]);
    expect(origins("gitlab")).toEqual(["https://registry.gitlab.com"]);
    expect(origins("own")).toEqual(["https://reg.test"]);
    expect(origins("port")).toEqual(["https://port.test:5050"]);
    expect(origins("ghcr")).toEqual([]);
    const served = await parseMap({ port: "https://port.test:5050" }, { authRegistries, source: "url" });
    expect(served.default.credentials).toEqual([]);
  });

  test("leave logins to the clients, whose own credentials win", async () => {
    const map = await parseMap({ docker: "https://registry-1.docker.io" }, { authRegistries: [login("docker.io")] });
    expect(map.default.login).toBe("relay");
    expect(map.default.credentials).toHaveLength(1);
  });
});
