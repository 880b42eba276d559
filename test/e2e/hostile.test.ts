/**
 * What one registry of the map, or one who can answer for it, tries against the others and against the clients of this proxy:
 * each test is an attack that worked once.
 */
import { afterEach, expect, test } from "bun:test";
import { createFakeRegistry, type FakeRegistry, type FakeRegistryOptions } from "../support/fake-registry.ts";
import { basicHeader } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { type LayoverOptions, type RunningLayover, startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";

const CREDENTIAL = { username: "robot", password: "pw" };
let ends: (() => Promise<void>)[] = [];

afterEach(async () => {
  const each = ends;
  ends = [];
  for (const end of each) await end();
});

async function fake(options: FakeRegistryOptions): Promise<FakeRegistry> {
  const registry = await createFakeRegistry(options);
  ends.push(() => registry.close());
  return registry;
}

async function start(options: LayoverOptions): Promise<RunningLayover> {
  const layover = await startLayover(options);
  ends.unshift(() => layover.stop()); // first: a registry complains about answers that are still open
  return layover;
}

/** A map that the test may replace; `reload` waits until the new one is in force. */
async function startWithMap(map: Record<string, unknown>): Promise<{
  readonly layover: RunningLayover;
  reload(map: Record<string, unknown>): Promise<void>;
}> {
  const dir = await createTempDir("layover-hostile-");
  ends.push(() => dir.remove());
  const file = dir.file("map.json");
  await Bun.write(file, JSON.stringify(map));
  const layover = await start({ args: ["--registry-map", file] });
  return {
    layover,
    async reload(changed) {
      await Bun.write(file, JSON.stringify(changed));
      layover.signal("SIGHUP");
      await layover.logLine(({ msg }) => msg === "registry map loaded");
    },
  };
}

async function statusOf(url: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await fetch(url, { headers: { accept: "*/*", ...headers } });
  await response.bytes();
  return response.status;
}

test("[R245, R246] createAccess() keeps one project private when another of the same origin is public", async () => {
  const origin = await fake({
    auth: "bearer",
    users: { robot: { password: "pw" } },
    privateRepositories: ["closed/app"],
  });
  origin.add("open/app", makeImage({ seed: "open" }));
  origin.add("closed/app", makeImage({ seed: "closed" }));
  const { url } = await start({
    map: {
      default: "open",
      open: { upstreams: [`${origin.url}/v2/open`], hosts: ["open.test"] },
      closed: { upstreams: [`${origin.url}/v2/closed`], hosts: ["closed.test"], credentials: [CREDENTIAL] },
    },
  });
  expect(await statusOf(`${url}/v2/open.test/app/manifests/latest`)).toBe(200);
  expect(await statusOf(`${url}/v2/closed.test/app/manifests/latest`)).toBe(401);
});

test("[R147, T23] createLoginService() refuses the loop when a login's registry is this proxy", async () => {
  const { layover, reload } = await startWithMap({ default: "lab", lab: "http://127.0.0.1:1" });
  await reload({ default: "lab", lab: layover.url });
  const { url } = layover;
  expect(await statusOf(`${url}/token/lab`, { authorization: basicHeader("alice:secret") })).toBe(502);
  await layover.logLine(({ msg, uri }) => msg === "request" && uri === "/token/lab");
  const turns = layover.log.filter(({ msg }) => msg === "request").map(({ uri, status }) => `${uri} ${status}`);
  expect(turns).toEqual(["/v2/ 508", "/token/lab 502"]);
});

test("[R147] createTokenHandler() refuses the loop when a registry's token server is this proxy", async () => {
  const registry = await fake({ auth: "bearer" });
  const { url } = await start({ map: { default: "lab", lab: registry.url } });
  registry.faults.auth.realm = `${url}/token/lab`;
  expect(await statusOf(`${url}/token/lab`, { authorization: basicHeader("alice:secret") })).toBe(503);
  expect(registry.requests.map(({ path }) => path)).toEqual(["/v2/"]);
});

test("[R112] createLoginService() checks a password once however many clients send it at once", async () => {
  const registry = await fake({ auth: "bearer", users: { alice: { password: "secret" } } });
  const { url } = await start({ map: { default: "lab", lab: registry.url } });
  const authorization = basicHeader("alice:wrong");
  const answers = await Promise.all(Array.from({ length: 20 }, () => statusOf(`${url}/token/lab`, { authorization })));
  expect(new Set(answers)).toEqual(new Set([401]));
  expect(registry.tokenRequests.length).toBe(1);
});

test("createLoginService() goes on with a check when the client that began it leaves", async () => {
  const registry = await fake({ auth: "bearer", users: { alice: { password: "secret" } } });
  const { url } = await start({ map: { default: "lab", lab: registry.url } });
  const authorization = basicHeader("alice:secret");
  registry.faults.token.stallBeforeHeaders = true;
  const leaver = new AbortController();
  const left = fetch(`${url}/token/lab`, { headers: { authorization }, signal: leaver.signal }).catch(() => "left");
  await registry.untilHeld(1);
  const stayed = statusOf(`${url}/token/lab`, { authorization });
  leaver.abort();
  expect(await left).toBe("left");
  registry.release();
  expect(await stayed).toBe(200);
  expect(registry.tokenRequests.length).toBe(1);
});

test("[C34, T26] createAuthorizer() lets no registry claim the realm of another", async () => {
  const honest = await fake({ auth: "bearer", users: { alice: { password: "secret" } } });
  const hostile = await fake({ auth: "bearer", hostname: "127.0.0.2" });
  const { url } = await start({
    map: { default: "honest", honest: honest.url, hostile: { upstreams: [hostile.url], hosts: ["hostile.test"] } },
  });
  const realm = `${honest.tokenUrl}/token`;
  await statusOf(`${url}/v2/org/app/manifests/latest`);
  hostile.faults.auth.realm = realm;
  await statusOf(`${url}/v2/hostile.test/org/app/manifests/latest`);
  hostile.faults.auth.challenges = ['Basic realm="hostile"'];
  expect(await statusOf(`${url}/token/${realm}`, { authorization: basicHeader("alice:secret") })).toBe(200);
  expect(hostile.requests.filter(({ headers }) => headers.get("authorization")?.startsWith("Basic"))).toEqual([]);
});

test("Clients.identify() does not pass on a login that was made before the registry's mode became proxy", async () => {
  const registry = await fake({ auth: "basic", users: { alice: { password: "secret" } } });
  registry.add("org/app", makeImage({ seed: "app" }));
  const { layover, reload } = await startWithMap({ default: "lab", lab: { upstreams: [registry.url] } });
  const answer = await fetch(`${layover.url}/token/lab`, { headers: { authorization: basicHeader("alice:secret") } });
  const { token } = (await answer.json()) as { token: string };
  const authorization = `Bearer ${token}`;
  expect(await statusOf(`${layover.url}/v2/org/app/manifests/latest`, { authorization })).toBe(200);
  await reload({ default: "lab", lab: { upstreams: [registry.url], login: "proxy" } });
  expect(await statusOf(`${layover.url}/v2/org/app/manifests/latest`, { authorization })).toBe(401);
});
