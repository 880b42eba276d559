/**
 * Registries that are dead in the ways of real networks, with real processes: a port that drops SYNs, one that takes
 * connections and says nothing, one that refuses. What is known dead is not asked, by nobody but one request a window.
 */
import { describe, expect, test } from "bun:test";
import { type Cached, startCached } from "../support/cached.ts";
import { type FakeRegistry, createFakeRegistry } from "../support/fake-registry.ts";
import { layerOf } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { metricsOf, total } from "../support/metrics.ts";
import { type Relay, startRelay } from "../support/relay.ts";

/** Far below the time-outs, far above what an answer takes on a busy machine. */
const AT_ONCE_MS = 400;
/** What the lesson says, of the answer in the middle of many: a busy machine may hold up some of them. */
const DEAD_MS = 50;
const TIMEOUTS = ["--connect-timeout", "1s", "--header-timeout", "1s"];

const image = makeImage({ seed: "outage", layers: [300_000] });
const layer = layerOf(image);
const MANIFEST = "/v2/lab/org/app/manifests/latest";
const BLOB = `/v2/lab/org/app/blobs/${layer}`;

interface Lab extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly relay: Relay;
  readonly cached: Cached;
}

/** Layover before a registry that is reached through a relay, and before others behind it. */
async function startLab(seed: string, behind: readonly FakeRegistry[] = []): Promise<Lab> {
  const registry = await createFakeRegistry();
  registry.add("org/app", image);
  registry.add("org/other", makeImage({ seed: `${seed} other` }));
  const relay = await startRelay(registry.url);
  const upstreams = [relay.url, ...behind.map(({ url }) => url)];
  const cached = await startCached({ seed, args: TIMEOUTS, map: { lab: { upstreams, hosts: ["lab.test"] } } });
  return {
    registry,
    relay,
    cached,
    async [Symbol.asyncDispose]() {
      relay.thaw();
      await cached[Symbol.asyncDispose]();
      await relay[Symbol.asyncDispose]();
      await registry.close();
    },
  };
}

/** One request, how long its answer took, and what it said. */
async function timed({ cached }: Pick<Lab, "cached">, path: string) {
  const startedAtMs = performance.now();
  const { status, cache, headers } = await cached.pull(path);
  return { status, cache, retryAfter: headers.get("retry-after"), ms: performance.now() - startedAtMs };
}

/** Requests to the upstream so far, and those that were refused instead. */
async function counts({ cached }: Pick<Lab, "cached">) {
  const samples = await metricsOf(cached.layover.url);
  const of = (name: string) => total(samples, `layover_upstream_requests_${name}`, { registry: "lab" });
  return { asked: of("total"), refused: of("not_sent_total") };
}

/** All of these are answered so at once, and nobody is asked. */
async function expectAtOnce(lab: Lab, paths: readonly string[], expected: { status: number; cache: string | null }) {
  const before = await counts(lab);
  const times: number[] = [];
  for (const path of paths) {
    const { status, cache, ms, retryAfter } = await timed(lab, path);
    times.push(ms);
    const came = ms < AT_ONCE_MS ? "at once" : `after ${ms} ms`;
    expect({ path, status, cache, came }).toEqual({ path, ...expected, came: "at once" });
    if (status === 503) expect(Number(retryAfter)).toBeGreaterThan(0);
  }
  expect(times.toSorted((one, other) => one - other)[times.length >> 1]).toBeLessThan(DEAD_MS);
  return { asked: (await counts(lab)).asked - before.asked, refused: (await counts(lab)).refused - before.refused };
}

function linesOf({ cached }: Lab, beginning: string): string[] {
  const lines = cached.layover.log.filter(({ msg, registry }) => registry === "lab" && msg?.startsWith(beginning));
  return lines.map(({ msg }) => String(msg));
}

async function healthOf({ cached }: Lab): Promise<unknown> {
  const { upstreams } = (await (await cached.ask("/readyz")).json()) as { upstreams: Record<string, unknown> };
  return upstreams["lab"];
}

/** Asks when the moment of the next try has come, until it comes. */
async function untilServed(lab: Lab, path: string): Promise<void> {
  for (;;) {
    while (/"state":"open"/.test(JSON.stringify(await healthOf(lab)))) continue;
    if ((await timed(lab, path)).status === 200) return;
  }
}

describe("a registry whose port drops everything", () => {
  test("[T6, R262] is known after one request, then refused at once, and found again by one request", async () => {
    await using lab = await startLab("drops");
    await lab.relay.freeze("dropping");
    expect(await timed(lab, MANIFEST)).toMatchObject({ status: 503, retryAfter: "5" });
    const missing = [MANIFEST, BLOB, "/v2/lab/org/other/manifests/latest", "/v2/lab/org/app/tags/list"];
    expect(await expectAtOnce(lab, [...missing, ...missing], { status: 503, cache: null })).toMatchObject({ asked: 0 });
    expect(await healthOf(lab)).toMatchObject({
      last: "timeout",
      upstreams: [{ upstream: new URL(lab.relay.url).host, state: "open", why: "timeout" }],
    });
    const samples = await metricsOf(lab.cached.layover.url);
    expect(total(samples, "layover_upstream_health", { registry: "lab", state: "open" })).toBe(1);
    expect(linesOf(lab, "the upstream gives no answer")).toHaveLength(1);
    const before = await counts(lab);
    lab.relay.thaw();
    await untilServed(lab, MANIFEST);
    expect((await counts(lab)).asked - before.asked).toBeLessThanOrEqual(2); // HEAD and GET
    expect(linesOf(lab, "the upstream answers again")).toHaveLength(1);
    expect(await healthOf(lab)).toMatchObject({ upstreams: [{ state: "closed" }] });
    expect((await timed(lab, BLOB)).status).toBe(200);
  });

  test("[T6] what is cached is served at once, and the registry probed once a window", async () => {
    await using lab = await startLab("drops-cached");
    for (const path of [MANIFEST, BLOB]) expect((await timed(lab, path)).status).toBe(200);
    await lab.relay.freeze("dropping");
    expect(await timed(lab, MANIFEST)).toMatchObject({ status: 200, cache: "STALE" });
    const again = Array.from({ length: 20 }, () => MANIFEST);
    expect(await expectAtOnce(lab, again, { status: 200, cache: "STALE" })).toMatchObject({ asked: 0 });
    expect(await expectAtOnce(lab, [BLOB, BLOB], { status: 200, cache: "HIT" })).toMatchObject({ asked: 0 });
  });

  test("[C11, R142] is passed over for the next upstream without waiting", async () => {
    const second = await createFakeRegistry();
    second.add("org/app", image);
    {
      await using lab = await startLab("drops-next", [second]);
      await lab.relay.freeze("dropping");
      expect((await timed(lab, MANIFEST)).status).toBe(200);
      expect(await timed(lab, BLOB)).toMatchObject({ status: 200, cache: "MISS" });
      expect((await timed(lab, BLOB)).ms).toBeLessThan(AT_ONCE_MS);
      const absent = await timed(lab, "/v2/lab/org/other/manifests/latest");
      expect([absent.status, absent.ms < AT_ONCE_MS]).toEqual([503, true]); // the dead one may have it
      lab.relay.thaw();
      await untilServed(lab, "/v2/lab/org/other/manifests/latest");
    }
    await second.close();
  });
});

describe("a registry that takes connections and says nothing", () => {
  test("[T6] is known after three silences, then refused at once, and found again", async () => {
    await using lab = await startLab("silent");
    await lab.relay.freeze("silent");
    for (let i = 0; i < 3; i++) expect((await timed(lab, MANIFEST)).status).toBe(503);
    expect(await expectAtOnce(lab, [MANIFEST, BLOB, MANIFEST], { status: 503, cache: null })).toMatchObject({
      asked: 0,
    });
    expect(linesOf(lab, "the upstream gives no answer")).toHaveLength(1);
    lab.relay.thaw();
    await untilServed(lab, MANIFEST);
  });

  test("[T6] makes nobody wait for what is cached but the first", async () => {
    await using lab = await startLab("silent-cached");
    expect((await timed(lab, MANIFEST)).status).toBe(200);
    await lab.relay.freeze("silent");
    expect(await timed(lab, MANIFEST)).toMatchObject({ status: 200, cache: "STALE" });
    const again = Array.from({ length: 20 }, () => MANIFEST);
    expect(await expectAtOnce(lab, again, { status: 200, cache: "STALE" })).toMatchObject({ asked: 0 });
  });
});

test("[T6, R262] a registry that refuses connections is known at once, and is written down once", async () => {
  await using lab = await startLab("refuses");
  await lab.relay[Symbol.asyncDispose]();
  expect(await timed(lab, MANIFEST)).toMatchObject({ status: 503, retryAfter: "5" });
  const { asked, refused } = await expectAtOnce(
    lab,
    Array.from({ length: 30 }, () => MANIFEST),
    {
      status: 503,
      cache: null,
    },
  );
  expect([asked, refused]).toEqual([0, 30]);
  expect(linesOf(lab, "the upstream gives no answer")).toHaveLength(1);
});

test("[R262, T6] a client that asks for what makes a registry fail takes it from nobody, with a cache", async () => {
  await using lab = await startLab("odd");
  const { registry } = lab;
  expect((await timed(lab, MANIFEST)).status).toBe(200);
  registry.faults.manifest.match = ({ path }) => path.includes("odd");
  registry.faults.manifest.status = 500;
  const odd = Array.from({ length: 8 }, (_, i) => `/v2/lab/org/odd-${i}/manifests/latest`);
  const askOdd = () => Promise.all(odd.map((path) => timed(lab, path)));
  for (const { status } of await askOdd()) expect([502, 503]).toContain(status);
  expect(await healthOf(lab)).toMatchObject({ upstreams: [{ state: "open" }] });
  const repeated = askOdd();
  // What is new is fetched, and the tag that is kept is looked after.
  expect(await timed(lab, "/v2/lab/org/other/manifests/latest")).toMatchObject({ status: 200, cache: "MISS" });
  expect(await timed(lab, MANIFEST)).toMatchObject({ status: 200, cache: "REVALIDATED" });
  expect((await timed(lab, BLOB)).status).toBe(200);
  await repeated;
});
