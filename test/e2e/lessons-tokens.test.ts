/** The lessons about token servers: in trouble, unwilling (T9), and in strangers' hands (T26), with the figures they name. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Cached, ageGrants, startCached } from "../support/cached.ts";
import { type FakeRegistry, type FakeRegistryOptions, createFakeRegistry } from "../support/fake-registry.ts";
import { basicHeader, layerOf } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";

const MINUTE_MS = 60_000;

describe("a token server in trouble", () => {
  const TROUBLES: [name: string, spoil: (registry: FakeRegistry) => void][] = [
    ["answers 500", ({ faults }) => (faults.token = { status: 500 })],
    ["answers 429", ({ faults }) => (faults.token = { status: 429, retryAfter: "60" })],
    ["answers nothing", ({ faults }) => (faults.token = { stallBeforeHeaders: true })],
    ["answers ten bytes a second", ({ faults }) => (faults.token = { bytesPerSecond: 10 })],
    ["breaks connections", ({ faults }) => (faults.token = { hangUp: "reset" })],
    // Nothing listens on port 1: the connection is refused at once.
    ["cannot be reached", ({ faults }) => (faults.auth.realm = "http://127.0.0.1:1/token")],
  ];

  test.each(TROUBLES)(
    "[T9, R211, R241] that %s: what is cached is served, no answer takes five seconds",
    async (_name, spoil) => {
      await using state = await createTempDir("layover-state-"); // tokens of ours outlive the restart
      await using own = await startCached({ seed: "token", args: ["--state-dir", state.path] });
      const { ghcr, images } = own.farm;
      const login = { authorization: `Bearer ${await own.farm.token("/token/ghcr", "alice:secret")}` };
      await pullAll(own, "org/app", {});
      await pullAll(own, "org/private", login);
      await own.layover.stop();
      ageGrants(own.directory, 20 * MINUTE_MS);
      ghcr.expireTokens();
      spoil(ghcr);
      await own.restart(); // it knows no token any more
      const app = `/v2/ghcr/org/app`;
      const secret = "/v2/ghcr/org/private";
      for (const [path, headers, state] of [
        [`${app}/manifests/latest`, {}, "STALE"],
        [`${app}/manifests/${images.ghcr.digest}`, {}, "HIT"],
        [`${app}/blobs/${layerOf(images.ghcr)}`, {}, "HIT"],
        [`${secret}/manifests/latest`, login, "STALE"],
        [`${secret}/blobs/${layerOf(images.secret)}`, login, "HIT"],
        ["/token/ghcr", {}, null],
        ["/ghcr/v2/", {}, null],
      ] as const) {
        const begun = performance.now();
        const { status, cache } = await own.pull(path, headers);
        expect([path, status === 401 ? path === "/ghcr/v2/" : status === 200, cache]).toEqual([path, true, state]);
        expect(performance.now() - begun).toBeLessThan(5_000);
      }
      ghcr.release();
    },
  );
});

/** Tag, manifest and layer of what `org/app` or `org/private` of ghcr holds. */
async function pullAll(own: Cached, repository: "org/app" | "org/private", headers: Record<string, string>) {
  const image = repository === "org/app" ? own.farm.images.ghcr : own.farm.images.secret;
  const statuses: number[] = [];
  for (const what of ["manifests/latest", `manifests/${image.digest}`, `blobs/${layerOf(image)}`])
    statuses.push((await own.pull(`/v2/ghcr/${repository}/${what}`, headers)).status);
  return statuses;
}

describe("a token server that refuses anonymous clients", () => {
  test.each([401, 403])(
    "[T9] with %d: the repository is public no more, until its registry shows it again",
    async (status) => {
      await using own = await startCached({ seed: "refused" });
      const { ghcr } = own.farm;
      expect(await pullAll(own, "org/app", {})).toEqual([200, 200, 200]);
      ghcr.expireTokens();
      ghcr.faults.token.status = status;
      expect(await pullAll(own, "org/app", {})).toEqual([401, 401, 401]);
      ghcr.faults.token = {};
      expect(await pullAll(own, "org/app", {})).toEqual([200, 200, 200]);
    },
  );
});

describe("a registry whose challenge names a stranger's token server", () => {
  const users = { alice: { password: "secret" }, carol: { password: "secret too" }, robot: { password: "machine" } };
  let own: FakeRegistry; // asked in the name of each client
  let configured: FakeRegistry; // asked in the name of robot
  let thief: FakeRegistry;
  let layover: RunningLayover;
  const image = makeImage({ seed: "stolen" });

  beforeAll(async () => {
    const closed: FakeRegistryOptions = { auth: "bearer", users, privateRepositories: ["org/**"] };
    [own, configured] = await Promise.all([createFakeRegistry(closed), createFakeRegistry(closed)]);
    thief = await createFakeRegistry({ auth: "bearer", users, hostname: "127.0.0.2" });
    for (const registry of [own, configured]) registry.add("org/app", image);
    const credentials = [{ username: "robot", password: "machine" }];
    layover = await startLayover({
      map: { default: "own", own: own.url, configured: { upstreams: [configured.url], credentials } },
      args: ["--share-private", "--allow-push"],
    });
  });
  beforeEach(() => {
    for (const each of [own, configured, thief]) each.reset();
  });
  afterAll(async () => {
    await layover.stop();
    await Promise.all([own, configured, thief].map((each) => each.close()));
  });

  const LURES: [name: string, lure: (registry: FakeRegistry) => void][] = [
    ["by its address", (registry) => (registry.faults.auth.realm = `${thief.tokenUrl}/token`)],
    [
      "behind a name that looks like its own",
      (registry) => (registry.faults.auth.realm = `${thief.tokenUrl.replace("//", "//127.0.0.1@")}/token#127.0.0.1`),
    ],
    [
      "by a redirect of its own token server",
      (registry) => (registry.faults.token = { status: 307, headers: [["Location", `${thief.tokenUrl}/token`]] }),
    ],
  ];

  test.each(LURES)(
    "[T26, R105, R42] %s: neither configured credentials nor a client's login go there",
    async (_name, lure) => {
      const login = { authorization: basicHeader("alice:secret") };
      const answer = await fetch(`${layover.url}/token/own`, { headers: login });
      const { token } = (await answer.json()) as { token: string };
      const sealed = { authorization: `Bearer ${token}` };
      expect(await statusOf("/v2/own/org/app/manifests/latest", sealed)).toBe(200);
      expect(await statusOf("/v2/configured/org/app/manifests/latest")).toBe(200);

      for (const registry of [own, configured]) {
        registry.expireTokens();
        lure(registry);
      }
      const refused: number[] = [];
      for (const what of ["manifests/latest", `blobs/${layerOf(image)}`, "tags/list"]) {
        refused.push(await statusOf(`/v2/own/org/app/${what}`, sealed));
        refused.push(await statusOf(`/v2/configured/org/app/${what}`));
      }
      refused.push(await statusOf("/v2/own/org/app/blobs/uploads/", sealed, "POST"));
      refused.push(await statusOf("/token/own", { authorization: basicHeader("carol:secret too") }));
      expect(refused.filter((status) => status < 400)).toEqual([]);
      const seen = [...thief.tokenRequests, ...thief.requests];
      expect(seen.filter(({ headers }) => headers.has("authorization") || headers.has("cookie"))).toEqual([]);
      expect(seen.filter(({ query, body }) => /secret|machine|alice|carol|robot/.test(query + body))).toEqual([]);
    },
  );

  test("[T26, R106] the operator is told what would trust it", async () => {
    configured.faults.auth.realm = `${thief.tokenUrl}/token`;
    await statusOf("/v2/configured/org/app/manifests/latest");
    const line = await layover.logLine(({ msg }) => /trustedRealms/.test(msg ?? ""));
    expect(JSON.stringify(line)).toContain("127.0.0.2");
    expect(JSON.stringify(layover.log)).not.toMatch(/secret|machine/);
  });

  async function statusOf(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<number> {
    const answer = await fetch(`${layover.url}${path}`, { method, headers: { accept: "*/*", ...headers } });
    await answer.bytes();
    return answer.status;
  }
});
