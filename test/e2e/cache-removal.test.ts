/** Images that are taken out of the cache, by command or by eviction, while others need parts of them. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import path from "node:path";
import { type Cached, keptIn, startCached } from "../support/cached.ts";
import { type Ended, runCommand } from "../support/command.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, type Image, makeImage } from "../support/images.ts";
import { seededRandom } from "../support/mixed-load.ts";
import { openRaw } from "../support/raw-http.ts";

const SHARED = 300_000;

/** Images of one seed have their first layer in common. */
function add(own: Cached, name: string, layers: number[]): { image: Image; path: string } {
  const image = makeImage({ seed: "shared", layers });
  own.farm.quay.add(`org/${name}`, image);
  return { image, path: `/v2/quay/org/${name}` };
}

/** Everything of an image as a client pulls it; every answer must be whole and right. */
async function pullAll(own: Cached, { image, path: repository }: { image: Image; path: string }): Promise<string[]> {
  const states = [];
  for (const [what, digest] of [
    ["manifests/latest", image.digest],
    ...[...image.blobs.keys()].map((blob) => [`blobs/${blob}`, blob]),
  ] as [string, string][]) {
    const { status, cache, headers, body } = await own.pull(`${repository}/${what}`);
    expect([what, status, digestOf(body)]).toEqual([what, 200, digest]);
    expect(headers.get("content-length")).toBe(String(body.byteLength));
    states.push(String(cache));
  }
  return states;
}

/** The last bytes reach clients before the disk has them for sure. */
async function untilKept({ directory }: Cached, { image }: { image: Image }): Promise<void> {
  const files = [image.digest, ...image.blobs.keys()].map((digest) => fileOf(directory, digest));
  while (!files.every((file) => existsSync(file))) await Bun.sleep(2);
}

function fileOf(directory: string, digest: string): string {
  return path.join(directory, "blobs", ...digest.split(":"));
}

function cache(own: Cached, ...words: string[]): Promise<Ended> {
  return runCommand(["cache", ...words, "--cache-dir", own.directory], { cwd: path.dirname(own.directory) });
}

function blobsAsked({ farm }: Cached): number {
  return farm.quay.count({ method: "GET", path: /blobs/ });
}

test("[T10] cache rm of an image: the other one that shares a layer pulls whole, all the time", async () => {
  await using own = await startCached({ seed: "rm" });
  const going = add(own, "going", [SHARED, 5_000_000]);
  const staying = add(own, "staying", [SHARED, 70_000]);
  for (const each of [going, staying]) {
    await pullAll(own, each);
    await untilKept(own, each);
  }
  own.farm.reset();
  // Somebody has read half of what goes; others pull what stays, until the command has ended.
  const reader = await openRaw(own.layover.url);
  reader.send(`GET ${going.path}/blobs/${layerOf(going.image)} HTTP/1.1\r\nHost: x.test\r\n\r\n`);
  let isDone = false;
  const pulls = (async () => {
    const states = new Set<string>();
    while (!isDone) for (const state of await pullAll(own, staying)) states.add(state);
    return states;
  })();
  const removed = await cache(own, "rm", "quay/org/going");
  isDone = true;
  expect(removed).toMatchObject({ code: 0, err: "" });
  expect([...(await pulls)].filter((state) => !["REVALIDATED", "STALE", "HIT"].includes(state))).toEqual([]);
  const half = await reader.readAnswer();
  expect([half.status, half.isComplete, digestOf(half.body)]).toEqual([200, true, layerOf(going.image)]);
  reader.end();
  expect(await pullAll(own, staying)).toEqual(["REVALIDATED", "HIT", "HIT", "HIT"]);
  expect(blobsAsked(own)).toBe(0);
  // The one that went comes back whole; what is shared is not fetched again.
  expect(existsSync(fileOf(own.directory, layerOf(going.image)))).toBe(false);
  await pullAll(own, going);
  expect(own.farm.quay.count({ method: "GET", path: new RegExp(layerOf(going.image)) })).toBe(1);
  expect(own.farm.quay.count({ method: "GET", path: new RegExp(sharedOf(going.image)) })).toBe(0);
  expect((await cache(own, "verify")).code).toBe(0);
}, 60_000);

test("[T10] eviction by budget: a shared layer stays, and no manifest outlives its layers", async () => {
  await using own = await startCached({ seed: "budget", args: ["--cache-max-size", "1m"] });
  const oldest = add(own, "oldest", [SHARED, 200_000]);
  const staying = add(own, "staying", [SHARED, 100_000]);
  const { path: pressing, image: large } = own.fresh([500_000]);
  for (const each of [staying, oldest]) {
    await pullAll(own, each);
    await untilKept(own, each);
  }
  // A client that has the layers asks for the manifest alone: that use counts for all of the image.
  await own.pull(`${staying.path}/manifests/latest`);
  await pullAll(own, { image: large, path: pressing });
  await untilKept(own, { image: large });
  const kept = await keptIn(own.directory);
  expect(kept).toEqual(expect.arrayContaining([staying.image.digest, ...staying.image.blobs.keys()]));
  const gone = [oldest.image.digest, digestOfSize(oldest.image, 200_000)];
  expect(kept.filter((digest) => gone.includes(digest))).toEqual([]);
  own.farm.reset();
  expect(await pullAll(own, staying)).toEqual(["REVALIDATED", "HIT", "HIT", "HIT"]);
  expect(blobsAsked(own)).toBe(0);
  // With its registry gone, what stays is whole, and of what went not even the manifest is promised.
  Object.assign(own.farm.quay.faults, { manifest: { status: 503 }, blob: { status: 503 } });
  expect(await pullAll(own, staying)).toEqual(["STALE", "HIT", "HIT", "HIT"]);
  for (const reference of ["latest", oldest.image.digest])
    expect((await own.pull(`${oldest.path}/manifests/${reference}`)).status).toBeGreaterThanOrEqual(500);
  expect((await own.pull(`${oldest.path}/blobs/${gone[1]}`)).status).toBeGreaterThanOrEqual(500);
}, 60_000);

test("[T10] whatever goes under a small budget, each manifest that is there has all its layers", async () => {
  await using own = await startCached({ seed: "pressed", args: ["--cache-max-size", "1m"] });
  const random = seededRandom(10);
  const sizes = [SHARED, 40_000, 90_000, 160_000, 250_000];
  const images = Array.from({ length: 8 }, (_, number) => {
    const [first = 0, ...others] = sizes;
    const picked = others.filter(() => random() < 0.5);
    return add(
      own,
      `pressed${number}`,
      number % 3 === 0 ? [...picked, 1000 + number] : [first, ...picked, 1000 + number],
    );
  });
  let evicted = 0;
  for (let turn = 0; turn < 40; turn++) {
    const next = images[Math.floor(random() * images.length)];
    if (next === undefined) throw new Error("expected an image");
    const isWhole = [...next.image.blobs.keys()].every((digest) => existsSync(fileOf(own.directory, digest)));
    if (isWhole && random() < 0.5) await own.pull(`${next.path}/manifests/latest`);
    else await pullAll(own, next);
    await untilKept(own, next);
    const kept = new Set(await keptIn(own.directory));
    for (const { image } of images) {
      const parts = [...image.blobs.keys()].filter((digest) => kept.has(digest));
      if (kept.has(image.digest)) expect(parts).toEqual([...image.blobs.keys()]);
      else evicted += 1;
    }
  }
  expect(evicted).toBeGreaterThan(20);
  expect((await cache(own, "verify")).code).toBe(0);
}, 60_000);

function sharedOf(image: Image): string {
  return digestOfSize(image, SHARED);
}

function digestOfSize(image: Image, bytes: number): string {
  const [digest] = [...image.blobs].find(([, blob]) => blob.byteLength === bytes) ?? [];
  if (digest === undefined) throw new Error(`expected a layer of ${bytes} bytes`);
  return digest;
}
