/**
 * What one registry of the map, or one who can answer for it, tries against the others and against the clients of this proxy:
 * each test is an attack that worked once.
 */
import { afterEach, expect, test } from "bun:test";
import { createFakeRegistry, type FakeRegistry, type FakeRegistryOptions } from "../support/fake-registry.ts";
import { makeImage } from "../support/images.ts";
import { type LayoverOptions, type RunningLayover, startLayover } from "../support/layover.ts";

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
