/**
 * The lessons that speak of gigabytes, at full size: `npm run test:long`. Needs some 25 GB under the temporary directory;
 * `LAYOVER_GB=0.1` makes a gigabyte that small. The same cases run scaled down with all other tests.
 */
import { expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import path from "node:path";
import { drain, peakMiB, spoolsIn } from "../support/cached.ts";
import { startGiantRegistry } from "../support/giant-registry.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";

const GB = Math.round(1024 ** 3 * Number(process.env["LAYOVER_GB"] ?? 1));
const HALF_HOUR_MS = 30 * 60_000;

test(
  "[T5] a layer of five gigabytes: flat memory, once from upstream, resumed after a kill",
  async () => {
    await using registry = await startGiantRegistry();
    await using dir = await createTempDir("layover-long-");
    const layer = registry.add("org/giant", 5 * GB);
    const first = await start(registry.url, dir.path);
    await readManifest(first, "org/giant");
    const cut = blob(first, "org/giant", layer)
      .then(drain)
      .catch(() => undefined);
    while ((await spoolsIn(dir.path)).every(({ bytes }) => bytes < 2 * GB)) await Bun.sleep(50);
    expect(await peakMiB(first)).toBeLessThan(300);
    first.signal("SIGKILL");
    await Promise.all([first.exited, cut]);
    const [left] = await spoolsIn(dir.path);
    const second = await start(registry.url, dir.path);
    const before = registry.sentBytes;
    await readManifest(second, "org/giant");
    expect(await drain(await blob(second, "org/giant", layer))).toEqual({ bytes: 5 * GB, digest: layer });
    // How long the content is, is not known before the answer: the last byte that is there is asked for again.
    expect(registry.sentBytes - before).toBe(5 * GB - (left?.bytes ?? 0) + 1);
    expect(await drain(await blob(second, "org/giant", layer))).toEqual({ bytes: 5 * GB, digest: layer });
    expect(registry.blobRequests).toBe(2);
    expect(await peakMiB(second)).toBeLessThan(300);
    const kept = await stat(path.join(dir.path, "blobs/sha256", layer.slice("sha256:".length)));
    expect([kept.size, await spoolsIn(dir.path)]).toEqual([5 * GB, []]);
    await second.stop();
  },
  HALF_HOUR_MS,
);

test(
  "[T22] ten cold pulls of two gigabytes at once stay under 300 MB",
  async () => {
    await using registry = await startGiantRegistry();
    await using dir = await createTempDir("layover-long-");
    const layers = Array.from({ length: 10 }, (_, index) => registry.add(`org/giant${index}`, 2 * GB));
    const layover = await start(registry.url, dir.path);
    const pulls = layers.map(async (layer, index) => {
      await readManifest(layover, `org/giant${index}`);
      return drain(await blob(layover, `org/giant${index}`, layer));
    });
    expect(await Promise.all(pulls)).toEqual(layers.map((digest) => ({ bytes: 2 * GB, digest })));
    // On a busy machine more connections are tried; where the first one ends, some of it is on its way.
    expect(registry.sentBytes / (20 * GB)).toBeLessThan(1.01);
    expect(await peakMiB(layover)).toBeLessThan(300);
    await layover.stop();
  },
  HALF_HOUR_MS,
);

function start(url: string, directory: string): Promise<RunningLayover> {
  return startLayover({
    map: { default: "giant", giant: { upstreams: [url], hosts: ["giant.test"] } },
    args: ["--cache-dir", directory, "--cache-max-size", "100g", "--cache-min-free", "0"],
  });
}

async function readManifest({ url }: RunningLayover, repository: string): Promise<void> {
  const answer = await fetch(`${url}/v2/${repository}/manifests/latest`);
  await answer.arrayBuffer();
  expect(answer.status).toBe(200);
}

function blob({ url }: RunningLayover, repository: string, digest: string): Promise<Response> {
  return fetch(`${url}/v2/${repository}/blobs/${digest}`);
}
