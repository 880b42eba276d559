/** More blobs are wanted from one registry than may come at once: who waits, who does not, and that no place is ever lost. */
import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { type Farm, startFarm } from "../support/farm.ts";
import { type Image, makeImage } from "../support/images.ts";
import { startLayover } from "../support/layover.ts";
import { metricsOf, total, untilTotal } from "../support/metrics.ts";
import { createTempDir } from "../support/temp-dir.ts";

const BOUND = 2;
/** More than a socket buffers, so that a body that is not read stays open. */
const LAYER_BYTES = 100_000;
const HELD_AFTER = 1_000;

let farm: Farm;
let many: Image;
let other: Image;
beforeAll(async () => {
  farm = await startFarm({ args: ["--upstream-transfers", String(BOUND)] });
  many = makeImage({ seed: "many", layers: Array.from({ length: 30 }, (_, index) => LAYER_BYTES + index) });
  other = makeImage({ seed: "other", layers: [LAYER_BYTES] });
  farm.quay.add("org/many", many);
  farm.quay.add("org/other", other);
  farm.hub.add("library/many", many);
});
afterAll(() => farm.stop());
afterEach(async () => {
  farm.reset();
  await untilIdle();
});

const layersOf = (image: Image) =>
  [...image.blobs].filter(([, bytes]) => bytes.byteLength >= LAYER_BYTES).map(([digest]) => digest);
const isBlobOf = (repository: string) => ({ method: "GET", path: new RegExp(`^/v2/${repository}/blobs/`) });
const pathOf = (repository: string, digest: string) => `/v2/quay/${repository}/blobs/${digest}`;
const reading = async (name: string) => total(await metricsOf(farm.layover.url), name, { registry: "quay" });

/** Until no blob comes or waits: a test that leaves one behind fails here. */
async function untilIdle(): Promise<void> {
  for (;;) {
    const running = await reading("layover_upstream_transfers");
    if (running + (await reading("layover_waiting_transfers")) === 0) return;
  }
}

/** Wants so many layers of `org/many`, each of which stalls when it comes. */
async function want(count: number): Promise<{ leave: () => void; answer: Promise<Response> }[]> {
  farm.quay.faults.blob.stallAfterBytes = HELD_AFTER;
  const wanted = layersOf(many)
    .slice(0, count)
    .map((digest) => {
      const leaving = new AbortController();
      const answer = farm.ask(pathOf("org/many", digest), { signal: leaving.signal });
      answer.catch(() => undefined); // some are left on purpose
      return { leave: () => leaving.abort(), answer };
    });
  await farm.quay.until(isBlobOf("org/many"), Math.min(count, BOUND));
  await untilTotal(farm.layover.url, ["layover_waiting_transfers", { registry: "quay" }], Math.max(0, count - BOUND));
  return wanted;
}

/** Lets all that stall go on, again and again, until each answer was read. */
async function readAll(wanted: readonly { answer: Promise<Response> }[]): Promise<number[]> {
  delete farm.quay.faults.blob.stallAfterBytes;
  farm.quay.release();
  return Promise.all(wanted.map(async ({ answer }) => (await (await answer).bytes()).byteLength));
}

describe("with as many blobs of a registry under way as may come", () => {
  test("nothing but blobs of that registry waits, and each comes in its turn", async () => {
    const wanted = await want(10);
    expect(farm.quay.count(isBlobOf("org/many"))).toBe(BOUND);
    const [manifest, tags, head, elsewhere, token] = await Promise.all([
      farm.ask("/v2/quay/org/many/manifests/latest"),
      farm.ask("/v2/quay/org/many/tags/list"),
      farm.ask(pathOf("org/many", layersOf(many)[9] ?? ""), { method: "HEAD" }),
      farm.ask(`/v2/library/many/blobs/${layersOf(many)[0]}`, {
        headers: { authorization: `Bearer ${await farm.token("/token/hub")}` },
      }),
      farm.token("/token/ghcr", "alice:secret"),
    ]);
    expect([manifest.status, tags.status, head.status, elsewhere.status]).toEqual([200, 200, 200, 200]);
    expect(token).not.toBe("");
    await Promise.all([manifest, tags, elsewhere].map((answer) => answer.bytes()));
    expect(farm.quay.count(isBlobOf("org/many"))).toBe(BOUND);
    const bytes = await readAll(wanted);
    expect(bytes).toEqual(
      layersOf(many)
        .slice(0, 10)
        .map((_, index) => LAYER_BYTES + index),
    );
  });

  test("another image's layer waits for one transfer, not for all of this one's", async () => {
    const wanted = await want(10);
    const late = farm.ask(pathOf("org/other", layersOf(other)[0] ?? ""));
    await untilTotal(farm.layover.url, ["layover_waiting_transfers", { registry: "quay" }], 9);
    // Two clients leave: the places go to one of each row.
    wanted[0]?.leave();
    wanted[1]?.leave();
    await farm.quay.until(isBlobOf("org/other"), 1);
    expect(farm.quay.count(isBlobOf("org/many"))).toBe(BOUND + 1);
    const bytes = await readAll([...wanted.slice(2), { answer: late }]);
    expect(bytes).toHaveLength(9);
  });

  test("who finds eight waiting for each place is told at once to come back, and the registry is not asked", async () => {
    const wanted = await want(BOUND + BOUND * 8);
    const refused = await farm.ask(pathOf("org/other", layersOf(other)[0] ?? ""));
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "10"]);
    const { errors } = (await refused.json()) as { errors: { code: string; message: string }[] };
    expect(errors[0]).toMatchObject({ code: "UNAVAILABLE", message: expect.stringContaining("too many blobs") });
    expect(farm.quay.count(isBlobOf("org/other"))).toBe(0);
    expect(await reading("layover_refused_transfers_total")).toBe(1);
    const outcomes = await metricsOf(farm.layover.url);
    expect(total(outcomes, "layover_upstream_requests_total", { registry: "quay", outcome: "overload" })).toBe(0);
    await readAll(wanted);
  });

  test("clients that leave their rows are asked nothing for", async () => {
    const wanted = await want(10);
    for (const { leave } of wanted.slice(BOUND)) leave();
    await untilWaiting(0);
    await readAll(wanted.slice(0, BOUND));
    expect(farm.quay.count(isBlobOf("org/many"))).toBe(BOUND);
  });

  test("a body that breaks gives its place back", async () => {
    farm.quay.faults.blob.cutAfterBytes = HELD_AFTER;
    const broken = layersOf(many).slice(0, 3 * BOUND);
    const ends = await Promise.allSettled(
      broken.map(async (digest) => (await farm.ask(pathOf("org/many", digest))).bytes()),
    );
    expect(ends.map(({ status }) => status)).toEqual(broken.map(() => "rejected"));
    await untilIdle();
  });
});

test("clients that take nothing keep nobody out", async () => {
  // More than all buffers between a registry and a client hold.
  const giant = makeImage({ seed: "giant", layers: [32_000_000] });
  farm.quay.add("org/giant", giant);
  const [digest = ""] = layersOf(giant);
  const stalled = Array.from({ length: BOUND }, () => {
    const socket = connect(farm.layover.port, "127.0.0.1").pause();
    socket.write(`GET ${pathOf("org/giant", digest)} HTTP/1.1\r\nHost: ${farm.layover.host}\r\n\r\n`);
    return socket;
  });
  await farm.quay.until(isBlobOf("org/giant"), BOUND);
  const next = await farm.ask(pathOf("org/other", layersOf(other)[0] ?? ""));
  expect([next.status, (await next.bytes()).byteLength]).toEqual([200, LAYER_BYTES]);
  expect(await reading("layover_upstream_transfers")).toBe(BOUND);
  for (const socket of stalled) socket.destroy();
});

async function untilWaiting(count: number): Promise<void> {
  while ((await reading("layover_waiting_transfers")) !== count);
}

test("through the cache a client that leaves does not end what waits, and what was refused marks nothing as failing", async () => {
  await using dir = await createTempDir("layover-overload-");
  const args = ["--upstream-transfers", "1", "--cache-dir", dir.file("cache"), "--cache-min-free", "0"];
  const map = { default: "quay", quay: { upstreams: [farm.quay.url] } };
  const cached = await startLayover({ map, args });
  farm.quay.faults.blob.stallAfterBytes = HELD_AFTER;
  const [first = "", second = "", ...others] = layersOf(many);
  const ask = (digest: string, signal?: AbortSignal) =>
    fetch(`${cached.url}/v2/quay/org/many/blobs/${digest}`, { ...(signal && { signal }) });
  await (await fetch(`${cached.url}/v2/quay/org/many/manifests/latest`)).bytes();
  const leaving = new AbortController();
  const answers = [ask(first), ask(second, leaving.signal), ...others.slice(0, 7).map((digest) => ask(digest))];
  answers[1]?.catch(() => undefined); // it leaves
  await untilTotal(cached.url, ["layover_waiting_transfers"], 8);
  const refused = await ask(others[8] ?? "");
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "10"]);
  leaving.abort();
  expect((await fetch(`${cached.url}/v2/quay/org/many/manifests/latest`)).headers.get("x-cache")).toBe("REVALIDATED");
  delete farm.quay.faults.blob.stallAfterBytes;
  farm.quay.release();
  await Promise.all(answers.filter((_, index) => index !== 1).map(async (answer) => (await answer).bytes()));
  await untilTotal(cached.url, ["layover_fills_total", { result: "committed" }], 9);
  expect((await ask(second)).headers.get("x-cache")).toBe("HIT");
  await cached.stop();
});

test("nobody waits for the turn to ask a registry that is known dead", async () => {
  const registry = await createFakeRegistry();
  registry.add("org/many", many);
  const map = { default: "quay", quay: { upstreams: [registry.url] } };
  const running = await startLayover({ map, args: ["--upstream-transfers", "1"] });
  registry.faults.blob.stallAfterBytes = HELD_AFTER;
  const [first = "", second = ""] = layersOf(many);
  const ask = (what: string) => fetch(`${running.url}/v2/quay/org/many/${what}`);
  const held = ask(`blobs/${first}`);
  await registry.untilHeld(1);
  registry.goDown();
  await (await ask("manifests/latest")).bytes(); // finds it out
  const startedAtMs = performance.now();
  const refused = await ask(`blobs/${second}`);
  expect([refused.status, performance.now() - startedAtMs < 2_000]).toEqual([503, true]);
  await refused.bytes();
  registry.release();
  expect((await (await held).bytes()).byteLength).toBe(LAYER_BYTES);
  await running.stop();
  await registry.close();
});

test("after a thousand transfers that end in every way no place is lost", async () => {
  const digests = layersOf(many);
  let seed = 20;
  const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const one = async () => {
    const digest = digests[Math.floor(random() * digests.length)] ?? "";
    const fate = random();
    const leaving = new AbortController();
    const path = fate < 0.1 ? pathOf("org/many", `sha256:${"0".repeat(64)}`) : pathOf("org/many", digest);
    const answer = await farm.ask(path, { signal: leaving.signal });
    if (fate > 0.1 && fate < 0.4) leaving.abort();
    else if (fate < 0.6) await answer.body?.cancel();
    else await answer.bytes();
  };
  for (let round = 0; round < 100; round++) {
    await Promise.all(Array.from({ length: 10 }, () => one().catch(() => undefined)));
  }
  await untilIdle();
  const digest = digests[0] ?? "";
  expect((await (await farm.ask(pathOf("org/many", digest))).bytes()).byteLength).toBe(LAYER_BYTES);
}, 60_000);
