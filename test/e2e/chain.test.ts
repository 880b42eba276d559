/** Layover in front of Layover, and Layover in front of itself (protocol R147, lesson T23). */
import { afterAll, expect, test } from "bun:test";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, makeImage } from "../support/images.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";

const users = { alice: { password: "secret" } };
const registry = await createFakeRegistry({ auth: "bearer", users, privateRepositories: ["org/private"] });
const image = makeImage({ seed: "chain", layers: [700_000] });
for (const name of ["org/app", "org/private"]) registry.add(name, image);
const started: RunningLayover[] = [];

afterAll(async () => {
  for (const layover of started.reverse()) await layover.stop();
  await registry.close();
});

async function start(options: Parameters<typeof startLayover>[0]): Promise<RunningLayover> {
  const layover = await startLayover(options);
  started.push(layover);
  return layover;
}

const map = (url: string) => ({ default: "lab", lab: { upstreams: [url], hosts: ["lab.test"] } });

test("[T23] Layover behind Layover pulls, logs in, and keeps both names in Via", async () => {
  const inner = await start({ map: map(registry.url) });
  const outer = await start({ map: map(inner.url) });
  const manifest = await fetch(`${outer.url}/v2/org/app/manifests/latest`);
  expect([manifest.status, manifest.headers.get("docker-content-digest")]).toEqual([200, image.digest]);
  expect(digestOf(await manifest.bytes())).toBe(image.digest);
  const blob = await fetch(`${outer.url}/v2/org/app/blobs/${layerOf(image)}`);
  expect(digestOf(await blob.bytes())).toBe(layerOf(image));
  expect(registry.requests.at(-1)?.headers.get("via")).toMatch(/^1\.1 layover-[0-9a-f]+, 1\.1 layover-[0-9a-f]+$/);

  const authorization = `Basic ${Buffer.from("alice:secret").toString("base64")}`;
  const login = await fetch(`${outer.url}/token/lab`, { headers: { authorization } });
  const { token } = (await login.json()) as { token: string };
  const own = await fetch(`${outer.url}/v2/org/private/manifests/latest`, {
    headers: { authorization: `Bearer ${token}` },
  });
  expect([login.status, own.status]).toEqual([200, 200]);
  await own.bytes();
  // The inner one tells an anonymous token's holder nothing of private names, so the outer one cannot either.
  const nobody = await fetch(`${outer.url}/v2/org/private/manifests/latest`);
  expect(nobody.status).toBe(404);
  await nobody.text();
});

test("[T23, R238] with a cache each: many clients cost the registry its bytes once, and it may go away then", async () => {
  await using dir = await createTempDir("layover-chain-");
  const cache = (name: string) => ["--cache-dir", dir.file(name), "--cache-min-free", "0"];
  const inner = await start({ map: map(registry.url), args: cache("inner") });
  const outer = await start({ map: map(inner.url), args: cache("outer") });
  registry.reset();
  const pull = async (path: string) => {
    const answer = await fetch(`${outer.url}/v2/org/app/${path}`);
    return [answer.status, digestOf(await answer.bytes()), answer.headers.get("x-cache")];
  };
  expect(await pull("manifests/latest")).toEqual([200, image.digest, "MISS"]);
  const pulls = await Promise.all(Array.from({ length: 10 }, () => pull(`blobs/${layerOf(image)}`)));
  for (const [status, digest] of pulls) expect([status, digest]).toEqual([200, layerOf(image)]);
  expect(registry.count({ method: "GET", path: /blobs/ })).toBe(1);
  for (const kind of ["manifest", "blob", "token", "ping"] as const) registry.faults[kind].status = 500;
  // The inner one answers what it knew last, which is an answer to the outer one.
  expect(await pull("manifests/latest")).toEqual([200, image.digest, "REVALIDATED"]);
  expect(await pull(`blobs/${layerOf(image)}`)).toEqual([200, layerOf(image), "HIT"]);
  registry.reset();
});

test("[T23, R147] its name in Via is random and kept with the state: a restart is no other, another start is", async () => {
  await using dir = await createTempDir("layover-state-");
  const nameOf = async (state: string): Promise<string> => {
    const layover = await startLayover({ map: map(registry.url), args: ["--state-dir", dir.file(state)] });
    await (await fetch(`${layover.url}/v2/org/app/manifests/latest`)).bytes();
    await layover.stop();
    return registry.requests.at(-1)?.headers.get("via") ?? "";
  };
  const [first, restarted, other] = [await nameOf("one"), await nameOf("one"), await nameOf("two")];
  expect(first).toMatch(/^1\.1 layover-[0-9a-f]{16}$/);
  expect([restarted === first, other === first]).toEqual([true, false]);
});

test("[T23, R147] two that point at each other refuse the loop when it comes back to the first", async () => {
  await using dir = await createTempDir("layover-circle-");
  const file = dir.file("map.json");
  await Bun.write(file, JSON.stringify(map(registry.url)));
  const one = await start({ args: ["--registry-map", file] });
  const other = await start({ map: map(one.url) });
  await Bun.write(file, JSON.stringify(map(other.url)));
  one.signal("SIGHUP");
  await one.logLine(({ msg }) => msg === "registry map loaded");
  const before = registry.count();
  const answer = await fetch(`${one.url}/v2/org/app/manifests/latest`);
  expect(answer.status).toBeGreaterThanOrEqual(502);
  const id = answer.headers.get("x-request-id");
  await answer.text();
  await one.logLine((line) => line["id"] === id);
  const turns = one.log.filter(({ msg, uri }) => msg === "request" && uri === "/v2/org/app/manifests/latest");
  // The client's request, and what the other one brought back: each of the two tries again at most twice.
  expect(turns.filter(({ status }) => status === 508).length).toBe(turns.length - 1);
  expect(turns.length).toBeLessThanOrEqual(1 + 3 * 3);
  expect(registry.count()).toBe(before);
});

test("[T23, R147] pointing at itself it refuses the loop at its first turn", async () => {
  const dir = await createTempDir("layover-loop-");
  const file = dir.file("map.json");
  await Bun.write(file, JSON.stringify(map(registry.url)));
  const layover = await start({ args: ["--registry-map", file] });
  await Bun.write(file, JSON.stringify(map(layover.url)));
  layover.signal("SIGHUP");
  while (!(await (await fetch(`${layover.url}/help`)).text()).includes(layover.host)) await Bun.sleep(5);
  const answer = await fetch(`${layover.url}/v2/org/app/manifests/latest`);
  expect(answer.status).toBeGreaterThanOrEqual(502);
  const id = answer.headers.get("x-request-id");
  await answer.text();
  await layover.logLine((line) => line["id"] === id);
  const turns = layover.log.filter(({ msg, uri }) => msg === "request" && uri === "/v2/org/app/manifests/latest");
  // The client's request, and what this one asked itself: tried again at most twice, and no turn led to another.
  expect(turns.filter(({ status }) => status === 508).length).toBe(turns.length - 1);
  expect(turns.length).toBeLessThanOrEqual(4);
  await dir.remove();
});
