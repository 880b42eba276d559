/** Registries that count pulls, as Docker Hub does: accounts in turn, who is limited is left alone, and what is kept is served. */
import { describe, expect, test } from "bun:test";
import { type Cached, type CachedOptions, startCached } from "../support/cached.ts";
import { basicHeader } from "../support/farm.ts";
import { runCommand } from "../support/command.ts";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { makeImage } from "../support/images.ts";
import { metricsOf, total } from "../support/metrics.ts";
import { createTempDir } from "../support/temp-dir.ts";

const APP = "/v2/org/app/manifests/latest";
const HUB_ACCOUNTS = [
  { username: "alice", password: "secret" },
  { username: "bob", password: "hunter2" },
];

/** With alice's and bob's accounts at Docker Hub. */
function startAccounts(options: Partial<CachedOptions> = {}): Promise<Cached> {
  return startCached({ seed: "quota", isCached: false, entries: { hub: { credentials: HUB_ACCOUNTS } }, ...options });
}

async function statusOf(cached: Cached, path: string, headers: Record<string, string> = {}): Promise<number> {
  return (await cached.pull(path, headers)).status;
}

/** Manifests that the hub was asked for with a user's token or as nobody, in their order; challenges are left out. */
function askers({ farm: { hub } }: Cached): string[] {
  return hub.requests.flatMap(({ method, path, headers }) => {
    const token = hub.access.bearer(headers.get("authorization"));
    if (method !== "GET" || !path.includes("/manifests/") || token === undefined) return [];
    return [token === "bad" ? "bad" : (token.user ?? "nobody")];
  });
}

describe("a registry that answers 429", () => {
  test("[T8, R178, R211] to something new is asked twice by fifty clients that try five times each, and each is told 429", async () => {
    await using own = await startCached({ seed: "storm" });
    const { path } = own.fresh();
    const { quay } = own.farm;
    quay.quota.limits.set("", 0);
    quay.quota.retryAfter = "600";
    const told = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const tries = [];
        for (let i = 0; i < 5; i++) tries.push(await own.pull(`${path}/manifests/latest`));
        return tries;
      }),
    );
    for (const { status, headers, body } of told.flat()) {
      const { errors } = JSON.parse(new TextDecoder().decode(body)) as { errors: { code: string; message: string }[] };
      expect([status, errors[0]?.code]).toEqual([429, "TOOMANYREQUESTS"]);
      // docker shows this, and no header.
      expect(errors[0]?.message).toBe("the registry limits its pulls: try again in 10 minutes");
      expect(Number(headers.get("retry-after"))).toBeWithin(590, 601);
    }
    expect(quay.count({ path: /manifests/ })).toBeLessThanOrEqual(2);
  });

  test("[T8, R178, R211] to a tag that moved is asked twice by fifty clients, and each gets what is kept", async () => {
    await using own = await startCached({ seed: "moved" });
    const { path, repository, image } = own.fresh();
    const { quay } = own.farm;
    await own.pull(`${path}/manifests/latest`);
    quay.add(repository, makeImage({ seed: "moved on" }));
    quay.quota.limits.set("", 0);
    quay.quota.retryAfter = "600";
    const before = quay.count({ path: /manifests/ });
    for (let round = 0; round < 2; round++) {
      const pulls = await Promise.all(Array.from({ length: 50 }, () => own.pull(`${path}/manifests/latest`)));
      for (const { status, cache, headers } of pulls)
        expect([status, cache, headers.get("docker-content-digest")]).toEqual([200, "STALE", image.digest]);
    }
    expect(quay.count({ path: /manifests/ }) - before).toBeLessThanOrEqual(2);
  });

  test("[T8, R211] is asked again when Retry-After is over, and everything is as before", async () => {
    await using own = await startCached({ seed: "over" });
    const { path, repository } = own.fresh();
    const { quay } = own.farm;
    await own.pull(`${path}/manifests/latest`);
    const next = makeImage({ seed: "over and out" });
    quay.add(repository, next);
    quay.faults.manifest = { status: 429, retryAfter: "1", times: 1 };
    expect((await own.pull(`${path}/manifests/latest`)).cache).toBe("STALE");
    let last = await own.pull(`${path}/manifests/latest`);
    while (last.cache === "STALE") last = await own.pull(`${path}/manifests/latest`);
    expect([last.status, last.headers.get("docker-content-digest")]).toEqual([200, next.digest]);
    await own.layover.logLine(({ msg }) => msg === `${quay.host} no longer limits pulls of account anonymous`);
  });

  test("[R211] limits manifests alone: blobs of the same account go on", async () => {
    await using own = await startCached({ seed: "blobs", isCached: false });
    const { path, layer } = own.fresh();
    own.farm.quay.faults.manifest = { status: 429, retryAfter: "600" };
    expect(await statusOf(own, `${path}/manifests/latest`)).toBe(429);
    expect(await statusOf(own, `${path}/blobs/${layer}`)).toBe(200);
  });

  test("[C11, R207] is told of in one line, with what it said, and shown by metrics and /readyz", async () => {
    await using own = await startCached({ seed: "told", isCached: false });
    const { hub } = own.farm;
    hub.quota.limits.set("", 1);
    hub.quota.retryAfter = "600";
    const labels = { registry: "hub", upstream: hub.host, account: "anonymous" };
    const gauges = async () => {
      const samples = await metricsOf(own.layover.url);
      const [limit, remaining] = ["limit", "remaining"].map((name) =>
        total(samples, `layover_upstream_quota_${name}`, labels),
      );
      return { limit, remaining, seconds: total(samples, "layover_upstream_limited_seconds", labels) };
    };
    expect(await statusOf(own, APP)).toBe(200);
    expect(await gauges()).toEqual({ limit: 1, remaining: 0, seconds: 0 });
    for (let i = 0; i < 3; i++) expect(await statusOf(own, APP)).toBe(429);
    const { seconds, ...rest } = await gauges();
    expect(rest).toEqual({ limit: 1, remaining: 0 });
    expect(seconds).toBeWithin(590, 601);
    const lines = own.layover.log.filter(({ msg }) => msg?.includes("limits pulls"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ registry: "hub", limit: 1, remaining: 0, source: "192.0.2.1", retryAfter: "600" });
    expect(lines[0]?.msg).toMatch(/limits pulls of account anonymous: asked again at \d{4}-\d\d-\d\dT[\d:.]+Z$/);
    const { upstreams } = (await (await own.ask("/readyz")).json()) as {
      upstreams: { hub: { accounts: { limitedSeconds: number }[] } };
    };
    expect(upstreams.hub.accounts).toMatchObject([{ account: "anonymous", limit: 1, remaining: 0 }]);
    expect(upstreams.hub.accounts[0]?.limitedSeconds).toBeWithin(590, 601);
  });
});

test("[R207, R220] what an account has left reaches no client, neither from the registry nor from the cache", async () => {
  await using own = await startCached({ seed: "headers" });
  own.farm.hub.quota.limits.set("", 100);
  for (const state of ["MISS", "REVALIDATED"]) {
    const { cache, headers } = await own.pull(APP);
    expect([cache, [...headers.keys()].filter((name) => name.includes("ratelimit"))]).toEqual([state, []]);
  }
});

describe("several accounts", () => {
  test("[R206, R211] share what is public: a limited one costs one request, the next is asked for the same client", async () => {
    await using own = await startAccounts();
    const { quota } = own.farm.hub;
    quota.limits.set("alice", 2).set("bob", 3).set("", 4);
    const statuses = [];
    for (let i = 0; i < 10; i++) statuses.push(await statusOf(own, APP));
    // By account, and then what nobody has left.
    expect(statuses).toEqual([200, 200, 200, 200, 200, 200, 200, 200, 200, 429]);
    expect(Object.fromEntries(quota.used)).toEqual({ alice: 2, bob: 3, "": 4 });
    const refused = askers(own).length - 9;
    expect(refused).toBe(3); // each account was refused once
  });

  test("[R206] are asked by what they have left", async () => {
    await using own = await startAccounts();
    own.farm.hub.quota.limits.set("alice", 100).set("bob", 2000);
    for (let i = 0; i < 6; i++) await statusOf(own, APP);
    expect(askers(own)).toEqual(["alice", "bob", "bob", "bob", "bob", "bob"]);
  });

  test("[R206] one with a wrong password is passed over", async () => {
    const credentials = [{ username: "alice", password: "outdated" }, HUB_ACCOUNTS[1]];
    await using own = await startAccounts({ entries: { hub: { credentials } } });
    for (let i = 0; i < 3; i++) expect(await statusOf(own, APP)).toBe(200);
    expect(askers(own)).toEqual(["bob", "bob", "bob"]);
  });

  test("[R206, R208] are used though nobody has a pull left: a look shows that it is public", async () => {
    await using own = await startAccounts();
    own.farm.hub.quota.limits.set("", 0);
    for (let i = 0; i < 3; i++) expect(await statusOf(own, APP)).toBe(200);
    expect(askers(own)).toEqual(["alice", "alice", "alice"]);
    expect(own.farm.hub.count({ method: "HEAD" })).toBe(2); // the challenge, and the look
  });

  test("[R206, R110] what a login alone may read is asked for with no other account", async () => {
    const entries = { hub: { login: "relay", credentials: [HUB_ACCOUNTS[1]] } };
    await using own = await startAccounts({ entries });
    const { hub } = own.farm;
    const token = await own.farm.token("/token/hub", "alice:secret");
    const headers = { authorization: `Bearer ${token}` };
    const path = "/v2/org/private/manifests/latest";
    expect(await statusOf(own, path, headers)).toBe(200);
    hub.quota.limits.set("alice", 0);
    for (let i = 0; i < 3; i++) expect(await statusOf(own, path, headers)).toBe(429);
    const asBob = basicHeader("bob:hunter2");
    const ofBob = hub.tokenRequests.filter((request) => request.headers.get("authorization") === asBob);
    expect(ofBob.filter(({ query }) => query.includes("private"))).toEqual([]);
    expect(new Set(askers(own))).toEqual(new Set(["alice"]));
    expect(own.layover.log.filter(({ msg }) => msg?.includes("limits")).map(({ msg }) => msg)).toEqual([
      expect.stringMatching(/limits pulls of a client's account: asked again at/),
    ]);
    expect(await (await own.ask("/metrics")).text()).not.toContain("alice");
  });
});

test("[T8, R211] a login whose account is limited keeps its private image, and another login goes on as before", async () => {
  await using own = await startCached({ seed: "logins" });
  const { hub, images } = own.farm;
  const [alice, bob] = await Promise.all(
    ["alice:secret", "bob:hunter2"].map(async (login) => ({
      authorization: `Bearer ${await own.farm.token("/token/hub", login)}`,
    })),
  );
  hub.add("org/bobs", images.secret);
  const path = (name: string) => `/v2/org/${name}/manifests/latest`;
  await own.pull(path("private"), alice);
  hub.quota.limits.set("alice", 0);
  hub.add("org/private", makeImage({ seed: "moved on" }));
  const { status, cache, headers } = await own.pull(path("private"), alice);
  expect([status, cache, headers.get("docker-content-digest")]).toEqual([200, "STALE", images.secret.digest]);
  expect(await statusOf(own, path("bobs"), bob)).toBe(200);
  expect(await statusOf(own, path("private"), bob)).toBe(403);
  expect(await statusOf(own, path("private"))).toBe(401);
});

test("[T8, R211] a token server that answers 429 is asked once, and so is the registry behind it", async () => {
  await using own = await startCached({ seed: "tokens", isCached: false });
  const { hub } = own.farm;
  hub.faults.token = { status: 429, retryAfter: "600" };
  for (let i = 0; i < 20; i++) {
    const { status, headers, body } = await own.pull(APP);
    expect([status, headers.get("retry-after")]).toEqual([429, expect.stringMatching(/^(600|59\d)$/)]);
    expect(new TextDecoder().decode(body)).toContain("token server limits its requests: try again in 10 minutes");
  }
  expect([hub.tokenRequests.length, hub.count()]).toEqual([1, 1]);
});

describe("a tag is looked after", () => {
  test("[R208] by a hundred HEADs for a hundred pulls, and no GET", async () => {
    await using own = await startCached({ seed: "heads" });
    const { path } = own.fresh();
    const { quay } = own.farm;
    await own.pull(`${path}/manifests/latest`);
    const manifests = (method: string) => quay.count({ method, path: /manifests/ });
    const before = [manifests("HEAD"), manifests("GET")];
    for (let i = 0; i < 100; i++) expect((await own.pull(`${path}/manifests/latest`)).cache).toBe("REVALIDATED");
    expect([manifests("HEAD") - (before[0] ?? 0), manifests("GET") - (before[1] ?? 0)]).toEqual([100, 0]);
  });

  test.each([
    ["as ever while there are pulls left", 100, "REVALIDATED"],
    ["less often while there are few", 10, "HIT"],
  ])("[R206] %s", async (_title, limit, state) => {
    await using own = await startCached({ seed: "few" });
    const { path } = own.fresh();
    const { quay } = own.farm;
    quay.quota.limits.set("", limit);
    quay.quota.used.set("", limit === 100 ? 20 : 9);
    await own.pull(`${path}/manifests/latest`);
    const asked = quay.count();
    expect((await own.pull(`${path}/manifests/latest`)).cache).toBe(state);
    expect(quay.count() - asked).toBe(state === "HIT" ? 0 : 1);
  });
});

test("[R207, R213] layover check tells what each account and nobody have left, and that costs no pull", async () => {
  const users = { alice: { password: "secret" }, bob: { password: "hunter2" } };
  const hub = await createFakeRegistry({ auth: "bearer", users });
  hub.add("ratelimitpreview/test", makeImage({ seed: "limits" }));
  hub.quota.limits.set("alice", 200).set("", 100);
  hub.quota.used.set("alice", 20).set("", 100);
  await using dir = await createTempDir("layover-check-");
  const map = { hub: { upstreams: [hub.url], hosts: ["docker.io"], credentials: HUB_ACCOUNTS } };
  await Bun.write(dir.file("map.json"), JSON.stringify(map));
  const { code, out } = await runCommand(["check", "--registry-map", dir.file("map.json")], { cwd: dir.path });
  expect(out).toMatch(/OK +hub +\S*user alice at \S+: accepted, 180 of 200 pulls left\n/);
  expect(out).toMatch(/OK +hub +\S*user bob at \S+: accepted\n/); // unlimited
  expect(out).toMatch(/WARN +hub +without a login, from this address: 0 of 100 pulls left\n/);
  expect([code, hub.quota.used.get("alice"), hub.count({ method: "GET", path: /manifests/ })]).toEqual([0, 20, 0]);
  await hub.close();
});

test("layover check fails where a token server gives no token, though the registry answers", async () => {
  const hub = await createFakeRegistry({ auth: "bearer" });
  hub.faults.token.status = 500;
  await using dir = await createTempDir("layover-check-");
  await Bun.write(dir.file("map.json"), JSON.stringify({ hub: hub.url }));
  const command = ["check", "--registry-map", dir.file("map.json")];
  const broken = await runCommand(command, { cwd: dir.path });
  expect(broken.out).toMatch(
    /FAIL +hub +\S+: no token can be had, so nothing can be pulled: \S+\/token: the token server answered 500; /,
  );
  expect(broken.code).toBe(1);
  delete hub.faults.token.status;
  const { code, out } = await runCommand(command, { cwd: dir.path });
  expect([code, out]).toEqual([0, expect.stringMatching(/OK +hub +\S+: asks for tokens/)]);
  await hub.close();
});
