/**
 * The cache between a real docker-registry and real clients: what is fetched once, what is shared, what resumes after a kill,
 * and what is pulled on when the registry is gone.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { runCommand } from "../support/command.ts";
import { type Image, digestOf, makeImage, makeIndex } from "../support/images.ts";
import { startLayover, type RunningLayover } from "../support/layover.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";
import { ADDRESS, allClients, createLab, DOMAIN, type Lab, readStore } from "./lab.ts";
import { startMeteredRelay, type MeteredRelay } from "./metered-relay.ts";
import { pushImage } from "./push.ts";
import { hasProgram } from "./shell.ts";

const PORT = 5001;
const HOST = `${DOMAIN}:${PORT}`;
const IMAGE = "lab/multi:latest";
const store = await readStore();
let lab: Lab;
let dir: TempDir;
let slow: MeteredRelay;
let quick: MeteredRelay;
let layover: RunningLayover;

beforeAll(async () => {
  lab = await createLab();
  dir = await createTempDir("layover-clients-cached-");
  const to = Number(new URL(lab.upstreams.url.quay).port);
  slow = await startMeteredRelay({ to, bytesPerSecond: 10_000_000 });
  quick = await startMeteredRelay({ to });
  layover = await start();
});
afterAll(async () => {
  await layover?.stop();
  await Promise.all([slow?.shut(), quick?.shut()]);
  await lab?.stop();
  await dir?.remove();
});

function start(): Promise<RunningLayover> {
  const cache = ["--cache-dir", dir.file("cache"), "--cache-min-free", "0", "--connect-timeout", "1s"];
  return startLayover({
    map: { default: "slow", slow: slow.url, quick: quick.url },
    args: ["--listen", `${ADDRESS}:${PORT}`, ...cache],
  });
}

/** An image that nobody pulled before, in the registry behind both relays. */
async function pushed(name: string, layers: number[]): Promise<{ image: Image; layer: string }> {
  const image = makeImage({ seed: name, layers });
  await pushImage(lab.upstreams.url.quay, name, image);
  const layer = [...image.blobs].toSorted(([, a], [, b]) => b.byteLength - a.byteLength)[0]?.[0] ?? "";
  return { image, layer };
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${layover.url}/v2/${path}`, init);
}

async function taken(answer: Response): Promise<{ bytes: number; digest: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    hash.update(chunk);
    bytes += chunk.byteLength;
  }
  return { bytes, digest: `sha256:${hash.digest("hex")}` };
}

async function lengthOf(answer: Response): Promise<number> {
  let bytes = 0;
  for await (const chunk of answer.body ?? []) bytes += chunk.byteLength;
  return bytes;
}

describe("a docker-registry behind the cache", () => {
  test("[T1] fifty clients of one cold blob at 10 MB/s: each byte once, and none much later than one alone", async () => {
    const MB = 1_000_000;
    const alone = await pushed("cold/alone", [20 * MB]);
    const shared = await pushed("cold/shared", [20 * MB]);
    for (const name of ["cold/alone", "cold/shared"]) await (await ask(`slow/${name}/manifests/latest`)).text();
    const aloneMs = await timed(async () => taken(await ask(`slow/cold/alone/blobs/${alone.layer}`)));
    const before = slow.sentBytes;
    const allMs = await timed(async () => {
      const path = `slow/cold/shared/blobs/${shared.layer}`;
      // Two cores cannot hash fifty copies in the time.
      const hashed = Array.from({ length: 5 }, async () => (await taken(await ask(path))).digest);
      const counted = Array.from({ length: 45 }, async () => lengthOf(await ask(path)));
      expect(new Set(await Promise.all(hashed))).toEqual(new Set([shared.layer]));
      expect(new Set(await Promise.all(counted))).toEqual(new Set([20 * MB]));
    });
    expect(slow.sentBytes - before).toBeLessThan(20 * MB * 1.01);
    console.log(`one client ${Math.round(aloneMs)} ms, fifty ${Math.round(allMs)} ms`);
  });

  test("[T2, T16] who leaves stops nothing, and HEAD fetches no body", async () => {
    const { layer } = await pushed("cold/left", [5_000_000]);
    await (await ask("slow/cold/left/manifests/latest")).text();
    const head = await ask(`slow/cold/left/blobs/${layer}`, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "5000000"]);
    const before = slow.sentBytes;
    expect(before).toBeLessThan(60_000_000);
    const leaving = new AbortController();
    const first = await ask(`slow/cold/left/blobs/${layer}`, { signal: leaving.signal });
    await first.body?.getReader().read();
    leaving.abort();
    expect(await taken(await ask(`slow/cold/left/blobs/${layer}`))).toEqual({ bytes: 5_000_000, digest: layer });
    expect(slow.sentBytes - before).toBeLessThan(5_000_000 * 1.01);
  });

  test("[T15, T25] a tag that moves is seen, the old digest still pulls, and all bytes are the registry's", async () => {
    const first = makeIndex([
      makeImage({ seed: "one" }),
      makeImage({ seed: "two", platform: { os: "linux", architecture: "arm64" } }),
    ]);
    const second = makeImage({ seed: "three" });
    for (const image of [first, second]) {
      await pushImage(lab.upstreams.url.quay, "moving/app", image);
      const answer = await ask("quick/moving/app/manifests/latest");
      expect(digestOf(await answer.bytes())).toBe(image.digest);
    }
    for (const [digest, { bytes, mediaType }] of first.manifests) {
      const answer = await ask(`quick/moving/app/manifests/${digest}`);
      expect([answer.headers.get("content-type"), await answer.bytes()]).toEqual([mediaType, bytes]);
    }
  });

  test("[T21] ranges of what is cached, and of what is not, are the registry's bytes", async () => {
    const { image, layer } = await pushed("cold/ranges", [3_000_000]);
    const whole = image.blobs.get(layer) ?? new Uint8Array();
    await (await ask("quick/cold/ranges/manifests/latest")).text();
    for (const [range, first, end] of [
      ["bytes=10-99", 10, 100],
      ["bytes=2999990-", 2_999_990, 3_000_000],
      ["bytes=-5", 2_999_995, 3_000_000],
    ] as const) {
      const answer = await ask(`quick/cold/ranges/blobs/${layer}`, { headers: { range } });
      expect([answer.status, answer.headers.get("content-range")]).toEqual([206, `bytes ${first}-${end - 1}/3000000`]);
      expect(await answer.bytes()).toEqual(whole.subarray(first, end));
    }
  });

  test("[T20] killed in mid-fill it goes on where it was, and verify finds nothing bad", async () => {
    const { layer } = await pushed("cold/killed", [20_000_000]);
    await (await ask("slow/cold/killed/manifests/latest")).text();
    const reader = (await ask(`slow/cold/killed/blobs/${layer}`)).body?.getReader();
    for (let got = 0; got < 8_000_000;) got += (await reader?.read())?.value?.byteLength ?? 0;
    layover.signal("SIGKILL");
    await layover.exited;
    await reader?.cancel().catch(() => undefined); // its connection is gone
    const before = slow.sentBytes;
    layover = await start();
    await (await ask("slow/cold/killed/manifests/latest")).text();
    expect((await taken(await ask(`slow/cold/killed/blobs/${layer}`))).digest).toBe(layer);
    expect(slow.sentBytes - before).toBeLessThan(14_000_000);
    const verified = await runCommand(["cache", "verify", "--json", "--cache-dir", dir.file("cache")], {
      cwd: dir.path,
    });
    expect([verified.code, verified.out]).toEqual([0, expect.stringContaining('"damaged":0')]);
  });
});

for (const { name, programs } of allClients("", "")) {
  describe.skipIf(!programs.every(hasProgram) || name === "helm")(name, () => {
    test("[T7, C18] pulls from the cache when the registry is gone, also after a restart", async () => {
      const client = lab.clients.find((each) => each.name === name);
      await client?.configure({ plainHosts: [HOST] });
      const reference = `${HOST}/quick/${IMAGE}`;
      const digest = await client?.pull(reference);
      expect(store.references[IMAGE]?.manifests).toContain(digest ?? "");
      await quick.shut();
      try {
        expect(await client?.pull(reference)).toBe(digest);
        await layover.stop();
        layover = await start();
        expect(await client?.pull(reference)).toBe(digest);
      } finally {
        await quick.open();
        // That the registry was dead is known for some seconds; what nobody pulled before is refused meanwhile.
        await layover.stop();
        layover = await start();
      }
    });
  });
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await action();
  return performance.now() - startedAtMs;
}
