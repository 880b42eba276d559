import { describe, expect, test } from "bun:test";
import builtIn from "../../../registrymap.json";
import type { Registry } from "../../../src/registry/registry.ts";
import { testAuthority } from "../../support/certs.ts";
import { type Given, parseMap, problemsOfMap } from "./map-parsing.ts";

const FILES: Record<string, string> = { "/pw": "hunter2\n", "/empty": " \n", "/junk.pem": "-----BEGIN NOTHING-----" };

const parse = (map: unknown, given: Given = {}) => parseMap(map, { files: FILES, ...given });
const problemsOf = (map: unknown, given: Given = {}) => problemsOfMap(map, { files: FILES, ...given });

async function first(entry: unknown, given: Given = {}): Promise<Registry> {
  const { default: registry } = await parse({ one: entry }, given);
  return registry;
}

describe("the built-in map", () => {
  test("[C7, C8] has every key of the older tools, and Docker Hub as default", async () => {
    const map = await parse(builtIn, { source: "built in" });
    const keys = "docker docker-staging quay gcr k8s k8sgcr k8s-gcr ghcr ecr cloudsmith nvcr gitlab mcr";
    expect([...map.byKey.keys()].sort()).toEqual(keys.split(" ").sort());
    expect(map.byKey.get("k8s-gcr")).toBe(map.byKey.get("k8sgcr"));
    expect(map.default.key).toBe("docker");
    expect(map.registries.filter(({ singleNames }) => singleNames).map(({ key }) => key)).toEqual([
      "k8s",
      "k8sgcr",
      "mcr",
    ]);
    expect(map.registries.filter(({ isDockerHub }) => isDockerHub).map(({ key }) => key)).toEqual(["docker"]);
    expect(map.default.standIns).toEqual([{ key: "ecr", prefix: "docker/", repositories: ["library/**"] }]);
    expect(map.registries.filter(({ standIns }) => standIns.length > 0)).toHaveLength(1);
  });

  test.each([
    ["docker.io", "docker"],
    ["index.docker.io", "docker"],
    ["registry-1.docker.io", "docker"],
    ["registry.hub.docker.com", "docker"],
    ["quay.io", "quay"],
    ["gcr.io", "gcr"],
    ["ghcr.io", "ghcr"],
    ["registry.k8s.io", "k8s"],
    ["k8s.gcr.io", "k8sgcr"],
    ["public.ecr.aws", "ecr"],
    ["docker.cloudsmith.io", "cloudsmith"],
    ["nvcr.io", "nvcr"],
    ["registry.gitlab.com", "gitlab"],
    ["mcr.microsoft.com", "mcr"],
    ["registry-1.stage.docker.io", "docker-staging"],
  ])("[R126] knows %s as %s", async (host, key) => {
    expect((await parse(builtIn)).byHost.get(host)?.key).toBe(key);
  });
});

describe("upstream URLs", () => {
  test.each([
    ["https://ghcr.io", "https://ghcr.io", "", ""],
    ["https://GHCR.io:443/", "https://ghcr.io", "", ""],
    ["http://[::1]:5000", "http://[::1]:5000", "", ""],
    ["https://h/v2", "https://h", "", ""],
    ["https://h/v2/", "https://h", "", ""],
    ["https://h/artifactory/api/docker/x", "https://h", "/artifactory/api/docker/x", ""],
    ["https://h/artifactory/api/docker/x/v2/", "https://h", "/artifactory/api/docker/x", ""],
    ["https://h/v2/project", "https://h", "", "project/"],
    ["https://h/v2/a/b_c/", "https://h", "", "a/b_c/"],
    ["https://h/base/v2/project", "https://h", "/base", "project/"],
    ["https://h/v2x/y", "https://h", "/v2x/y", ""],
  ])("[R145] %s", async (url, origin, basePath, namePrefix) => {
    expect((await first(url)).upstreams).toEqual([{ origin, basePath, namePrefix }]);
  });

  test.each([
    ["ghcr.io", "expected an http or https URL"],
    ["ftp://h", "expected an http or https URL"],
    ["https://u:hunter2@h", 'expected a URL without user and password, got "https://***@h"; use credentials'],
    ["https://h?x=1", "without a query or fragment"],
    ["https://h/#", "without a query or fragment"],
    ["https://h/a%2fb", "a plain path before /v2"],
    ["https://h//a", "a plain path before /v2"],
    ["https://h/v2/Project", "a repository name behind /v2/"],
    ["https://h/v2/a//b", "a repository name behind /v2/"],
    ["https://h h", "expected an http or https URL"],
  ])("[R145] refuses %s", async (url, why) => {
    const [problem, ...others] = await problemsOf({ one: url });
    expect(problem).toContain(why);
    expect(problem).not.toContain("hunter2");
    expect(others).toEqual([]);
  });
});

const ONE_SOURCE = "expected one of password, passwordFile, passwordEnv, identityTokenFile, dockerConfig, exec";

describe("entries", () => {
  test("[R146] the long form keeps everything it says", async () => {
    const { certPem, issue } = testAuthority();
    const leaf = issue({ usage: "client" });
    const files = { ...FILES, "/ca.pem": certPem, "/c.pem": leaf.certPem, "/k.pem": leaf.keyPem };
    const registry = await first(
      {
        upstreams: ["https://one.example", "https://two.example/x"],
        hosts: ["Names.example:5000", "other.example:443"],
        login: "relay",
        credentials: [
          { repositories: ["org/**"], username: "a", passwordFile: "/pw" },
          { username: "b", password: "p", upstream: "https://two.example/x" },
        ],
        tags: [{ match: "(stable|nightly)", ttl: "60d" }],
        allow: ["org/**"],
        deny: ["org/secret*"],
        alsoAt: [],
        push: false,
        proxy: "socks5://127.0.0.1:1080",
        trustedRealms: ["auth.example"],
        tls: { caFile: "/ca.pem", certFile: "/c.pem", keyFile: "/k.pem", insecureSkipVerify: true },
        allowAddresses: ["10.0.0.0/8"],
      },
      { files },
    );
    expect(registry).toEqual({
      key: "one",
      keys: ["one"],
      upstreams: [
        { origin: "https://one.example", basePath: "", namePrefix: "" },
        { origin: "https://two.example", basePath: "/x", namePrefix: "" },
      ],
      hosts: ["names.example:5000", "other.example", "one.example"],
      isDockerHub: false,
      singleNames: false,
      login: "relay",
      credentials: [
        {
          origin: "https://one.example",
          repositories: ["org/**"],
          source: { kind: "password", username: "a", password: "hunter2" },
        },
        {
          origin: "https://two.example",
          repositories: [],
          source: { kind: "password", username: "b", password: "p" },
        },
      ],
      allow: ["org/**"],
      deny: ["org/secret*"],
      tags: [{ match: "(stable|nightly)", ttlMs: 60 * 86_400_000 }],
      proxy: "socks5://127.0.0.1:1080",
      standIns: [],
      push: false,
      trustedRealms: ["auth.example"],
      allowAddresses: ["10.0.0.0/8"],
      tls: { ca: certPem, cert: leaf.certPem, key: leaf.keyPem, insecureSkipVerify: true },
    });
  });

  test("the short form is a registry with every default", async () => {
    expect(await first("https://h")).toMatchObject({
      login: "relay",
      credentials: [],
      allow: [],
      deny: [],
      tags: [],
      proxy: undefined,
      tls: { insecureSkipVerify: false },
    });
  });

  test("login is proxy where credentials are configured, and relay where the map says so", async () => {
    const entry = { upstreams: ["https://h"], credentials: [{ username: "$oauthtoken", password: "p" }] };
    expect((await first(entry)).login).toBe("proxy");
    expect((await first({ ...entry, login: "relay" })).login).toBe("relay");
    expect((await first({ upstreams: ["https://h"], proxy: false })).proxy).toBe(false);
  });

  test.each([
    [
      { upstream: "https://h" },
      [
        "map: one.upstreams: expected array, received undefined",
        "map: one.upstream: unknown key; did you mean upstreams?",
      ],
    ],
    [{ upstreams: [] }, ["map: one.upstreams: Too small: expected array to have >=1 items"]],
    [{ upstreams: ["https://h"], hosts: ["a/b"] }, [expect.stringContaining("map: one.hosts[0]: expected a host")]],
    [
      { upstreams: ["https://h"], hosts: ["*.gcr.io"] },
      [expect.stringContaining("map: one.hosts[0]: expected a host")],
    ],
    [{ upstreams: ["https://h"], login: "basic" }, ['map: one.login: expected one of "relay"|"proxy"']],
    [
      { upstreams: ["https://h"], allow: ["A", "a b"] },
      [expect.stringContaining("map: one.allow[0]"), expect.stringContaining("map: one.allow[1]")],
    ],
    [{ upstreams: ["https://h"], proxy: "ftp://u:hunter2@x" }, ["map: one.proxy: expected a proxy's URL or false"]],
    [{ upstreams: ["https://h"], tls: { cafile: "x" } }, ["map: one.tls.cafile: unknown key; did you mean caFile?"]],
    [
      { upstreams: ["https://h"], tls: { certFile: "/c.pem" } },
      ["map: one.tls: expected certFile and keyFile together"],
    ],
    [
      { upstreams: ["https://h"], tls: { caFile: "/junk.pem" } },
      ["map: one.tls.caFile: expected a PEM certificate without passphrase in /junk.pem"],
    ],
    [
      { upstreams: ["https://h"], tags: [{ match: "(", ttl: "x" }] },
      [expect.stringContaining("tags[0].match: expected a regular expression"), expect.stringContaining("tags[0].ttl")],
    ],
    [
      { upstreams: ["https://h"], allowAddresses: ["10.1/8"] },
      [expect.stringContaining("map: one.allowAddresses[0]: expected an address range")],
    ],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a:b", password: "x" }] },
      [expect.stringContaining("credentials[0].username: expected a user name without colon")],
    ],
    [{ upstreams: ["https://h"], credentials: [{ username: "a" }] }, [`map: one.credentials[0]: ${ONE_SOURCE}`]],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a", password: "x", passwordFile: "/pw" }] },
      [`map: one.credentials[0]: ${ONE_SOURCE}`],
    ],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a", pasword: "hunter2" }] },
      [
        expect.stringContaining("credentials[0].pasword: unknown key; did you mean password?"),
        expect.stringContaining(ONE_SOURCE),
      ],
    ],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a", passwordFile: "/none" }] },
      ["map: one.credentials[0].passwordFile: cannot read /none: ENOENT /none"],
    ],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a", passwordFile: "/empty" }] },
      ["map: one.credentials[0].passwordFile: expected a password in /empty, got nothing"],
    ],
    [
      { upstreams: ["https://h"], credentials: [{ username: "a", password: "x", upstream: "https://evil" }] },
      [expect.stringContaining("credentials[0].upstream: expected one of the registry's upstreams, got https://evil")],
    ],
    [5, ["map: one: expected object, received number"]],
    [null, ["map: one: expected object, received null"]],
    [["https://h"], ["map: one: expected object, received array"]],
  ])("refuses %j", async (entry, problems) => {
    const found = await problemsOf({ one: entry });
    expect(found).toEqual(problems);
    expect(found.join()).not.toContain("hunter2");
  });
});

describe("keys", () => {
  test.each(["v1", "v2", "token", "auth", "docs", "help", "metrics", "healthz", "health", "readyz", "setup", "api"])(
    "%s is a path of ours",
    async (key) => {
      expect(await problemsOf({ [key]: "https://h" })).toEqual([
        `map: ${key}: expected another key: this one is a path of our own`,
      ]);
    },
  );

  test.each(["Docker", "a_b", "a.b", "-a", "", "a".repeat(64), "__proto__"])("%p is no DNS label", async (key) => {
    expect(await problemsOf(`{${JSON.stringify(key)}: "https://h"}`)).toEqual([
      `map: ${key}: expected a DNS label in lower case as key`,
    ]);
  });

  test("with equal upstreams are one registry, named by the first", async () => {
    const map = await parse({
      b: "https://h/",
      a: { upstreams: ["https://H:443"], allow: ["x/**"] },
      c: "https://other",
    });
    expect(map.registries.map(({ keys }) => keys)).toEqual([["b", "a"], ["c"]]);
    expect(map.byKey.get("b")?.allow).toEqual(["x/**"]);
  });

  test("with equal upstreams cannot have contrary settings", async () => {
    const entry = { upstreams: ["https://h"], allow: ["x/**"] };
    expect(await problemsOf({ a: entry, b: { ...entry, allow: ["y/**"] } })).toEqual([
      "map: b: expected the settings of a: keys with equal upstreams are one registry",
    ]);
    expect((await parse({ a: entry, b: entry })).registries).toHaveLength(1);
  });
});

describe("hosts", () => {
  test("two registries that claim one host are refused", async () => {
    expect(
      await problemsOf({
        docker: "https://registry-1.docker.io",
        mirror: { upstreams: ["https://mirror.gcr.io"], hosts: ["docker.io"] },
      }),
    ).toEqual(["map: mirror: host docker.io belongs to docker already"]);
  });

  test("a mirror under the key of an older tool stands for that registry", async () => {
    const { default: hub } = await parse({ docker: "https://mirror.gcr.io", k8s: "https://mirror.example/v2/k8s" });
    expect(hub.isDockerHub).toBe(true);
    expect(hub.hosts).toContain("docker.io");
    const map = await parse({ k8s: "https://mirror.example/v2/k8s" });
    expect(map.byHost.get("registry.k8s.io")).toMatchObject({ key: "k8s", singleNames: true });
    expect(map.byHost.has("mirror.example")).toBe(false);
  });

  test("an entry that names hosts says itself what its key means", async () => {
    const map = await parse({
      docker: { upstreams: ["https://reg.example"], hosts: ["corp.example"] },
      hub: "https://registry-1.docker.io",
    });
    expect(map.byKey.get("docker")).toMatchObject({ isDockerHub: false, hosts: ["corp.example", "reg.example"] });
    expect(map.byHost.get("docker.io")?.key).toBe("hub");
    expect(map.default.key).toBe("docker");
    const alone = await parse({ docker: { upstreams: ["https://reg.example"], hosts: ["corp.example"] } });
    expect(alone.byHost.has("docker.io")).toBe(false);
  });

  test("a further upstream's host counts where nobody claims it", async () => {
    const map = await parse({
      a: { upstreams: ["https://a.example", "https://b.example"] },
      b: "https://b.example",
    });
    expect(map.byHost.get("b.example")?.key).toBe("b");
    const other = await parse({ gh: { upstreams: ["https://mirror.example", "https://ghcr.io"] } });
    expect(other.byHost.get("ghcr.io")?.key).toBe("gh");
  });
});

describe("the default registry", () => {
  const TWO = { quay: "https://quay.io", gh: { upstreams: ["https://ghcr.io", "https://m.example"] } };

  test.each([
    [{ ...TWO, default: "gh" }, undefined, "gh"],
    [{ ...TWO, default: "https://ghcr.io/" }, undefined, "gh"],
    [{ ...TWO, default: "https://quay.io" }, "gh", "gh"],
    [{ ...TWO, default: "gh" }, "https://quay.io", "quay"],
    [{ ...TWO, default: "https://new.example/v2/x" }, undefined, "default"],
    [TWO, "https://m.example", "default"],
    [TWO, undefined, "quay"],
    [{ ...TWO, hub: "https://registry-1.docker.io" }, undefined, "hub"],
  ])("[C31] of %j with --default-registry %p is %s", async (map, defaultRegistry, key) => {
    expect((await parse(map, { defaultRegistry })).default.key).toBe(key);
  });

  test.each([
    [
      { ...TWO, default: "quai" },
      undefined,
      'map: default: expected a key of the map or a URL, got "quai"; did you mean quay?',
    ],
    [TWO, "qay", '--default-registry: expected a key of the map or a URL, got "qay"; did you mean quay?'],
    [{ ...TWO, default: {} }, undefined, "map: default: expected a key or a URL"],
    [{ ...TWO, default: "ftp://h" }, undefined, 'map: default: expected an http or https URL, got "ftp://h"'],
    [{}, undefined, "map: expected at least one registry"],
  ])("refuses %j with %p", async (map, defaultRegistry, problem) =>
    expect(await problemsOf(map, { defaultRegistry })).toEqual([problem]),
  );

  test("of a refused entry is not complained about twice", async () => {
    expect(await problemsOf({ one: "ftp://h", default: "one" })).toHaveLength(1);
  });
});

describe("a map from a URL", () => {
  test("[C38] may hold URLs, hosts, tags, allow and deny", async () => {
    const entry = {
      upstreams: ["https://h"],
      hosts: ["n.example"],
      tags: [{ match: "x", ttl: "1m" }],
      allow: ["a/**"],
      deny: ["a/b"],
    };
    const map = await parse({ default: "one", one: entry, two: "https://quay.io" }, { source: "url" });
    expect(map.default.allow).toEqual(["a/**"]);
  });

  test.each(["credentials", "login", "push", "proxy", "trustedRealms", "tls", "alsoAt", "allowAddresses"])(
    "[C38] is refused with %s, whatever its value",
    async (field) => {
      const problems = await problemsOf(
        { one: { upstreams: ["https://h"], [field]: { file: "/etc/shadow" } } },
        { source: "url" },
      );
      expect(problems[0]).toBe(
        `map: one.${field}: not allowed in a map from a URL, which may hold only upstreams, hosts, tags, allow, deny`,
      );
    },
  );

  test("[C38] reads no file", async () => {
    const read: string[] = [];
    const readFile = async (path: string) => String(read.push(path));
    await problemsOf(
      {
        one: { upstreams: ["https://h"], tls: { caFile: "/x" }, credentials: [{ username: "a", passwordFile: "/y" }] },
      },
      { source: "url", readFile },
    );
    expect(read).toEqual([]);
  });
});

describe("the credential of the environment", () => {
  const dockerHub = { username: "me", password: "p" };

  test("[C9] belongs to Docker Hub's own upstream", async () => {
    const map = await parse(
      { docker: { upstreams: ["https://mirror.example", "https://registry-1.docker.io"] } },
      { dockerHub },
    );
    expect(map.default).toMatchObject({
      login: "proxy",
      credentials: [{ origin: "https://registry-1.docker.io", source: { kind: "password", ...dockerHub } }],
    });
  });

  test("goes to a stand-in only in a map of the operator's own", async () => {
    const map = { docker: "http://stand-in.test:5000" };
    expect((await parse(map, { dockerHub })).default.credentials).toMatchObject([
      { origin: "http://stand-in.test:5000" },
    ]);
    expect((await parse(map, { dockerHub, source: "url" })).default.credentials).toEqual([]);
  });

  test("gives way to the map's own credentials, and stays with Docker Hub", async () => {
    const own = { upstreams: ["https://registry-1.docker.io"], credentials: [{ username: "map", password: "p" }] };
    const map = await parse({ docker: own, quay: "https://quay.io" }, { dockerHub });
    expect(map.default.credentials).toMatchObject([{ source: { username: "map" } }]);
    expect(map.byKey.get("quay")?.credentials).toEqual([]);
  });
});

test("verifyTls: false is laid over every registry", async () => {
  const map = await parse({ a: "https://a", b: { upstreams: ["https://b"], tls: {} } }, { verifyTls: false });
  expect(map.registries.map(({ tls }) => tls.insecureSkipVerify)).toEqual([true, true]);
});

test.each([
  ["[", "map: expected a JSON object of keys and URLs: JSONC Parse error"],
  ["[]", "map: expected a JSON object of keys and URLs"],
  ["null", "map: expected a JSON object of keys and URLs"],
  ['"x"', "map: expected a JSON object of keys and URLs"],
  ["", "map: expected a JSON object of keys and URLs"],
])("parseRegistryMap() refuses the text %p", async (text, problem) => {
  expect((await problemsOf(text))[0]).toStartWith(problem);
});

test("parseRegistryMap() takes comments and trailing commas", async () => {
  expect((await parse('{ // mine\n "a": "https://a", }')).default.key).toBe("a");
});

test("parseRegistryMap() tells all problems of all entries at once", async () => {
  const problems = await problemsOf({
    v2: "https://x",
    a: "ftp://x",
    b: { upstreams: ["https://y"], hots: [], login: 1 },
    default: "c",
  });
  expect(problems).toHaveLength(5);
});
