/** The program is killed again and again while everything happens at once: what it leaves behind, and what it does next. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { type Cached, keptIn, startCached } from "../support/cached.ts";
import { runCommand } from "../support/command.ts";
import { digestOf, type Image } from "../support/images.ts";
import { createMixedLoad, seededRandom } from "../support/mixed-load.ts";

const MB = 1_000_000;
/** The whole lesson is twenty: `npm run test:long`. */
const KILLS = Number(process.env["LAYOVER_KILLS"] ?? 4);
/** Another seed, another story. */
const SEED = Number(process.env["LAYOVER_SEED"] ?? 20);
const OWN_FILES = /^(oci-layout|index\.json|records\.sqlite(-wal|-shm)?|admin\.sock)$/;

test("[T20] killed under mixed load, it serves nothing wrong, leaves nothing behind, and goes on", async () => {
  const random = seededRandom(SEED);
  await using own = await startCached({ seed: "half", args: ["--cache-max-size", "20m"] });
  const load = createMixedLoad(own, random);
  const begun: { path: string; image: Image; layer: string }[] = [];
  let spooled = 0;
  for (let round = 0; round < KILLS; round++) {
    // One download is surely on its way when the kill comes.
    const half = own.fresh([3 * MB]);
    begun.push(half);
    await own.pull(`${half.path}/manifests/latest`);
    const stallAfterBytes = Math.floor((0.3 + 2 * random()) * MB);
    own.farm.quay.faults.blob = { match: ({ path: asked }) => asked.includes(half.layer), stallAfterBytes };
    const cut = own.pull(`${half.path}/blobs/${half.layer}`).catch(() => undefined);
    await own.farm.quay.untilHeld(1);
    await load.run(Math.floor((1 + 20 * random()) * MB));
    await cut;
    own.farm.quay.reset();
    expect(load.wrong).toEqual([]);
    const images = [...load.repositories.values(), begun.map(({ image }) => image)].flat();
    spooled += await expectNothingElse(own, images);
    await own.restart();
  }
  const left = await verify(own);
  for (const [repository, images] of load.repositories) await expectPull(own, `/v2/quay/${repository}`, images.at(-1));
  for (const { path: repository, image } of begun) await expectPull(own, repository, image);
  const refilled = await verify(own);
  await own.layover.stop();
  await expectNothingElse(own, [...load.repositories.values(), begun.map(({ image }) => image)].flat());
  expect(spooled).toBeGreaterThan(0);
  for (const what of ["GET tag", "HEAD tag", "warm blob", "cold blob", "range", "prune"])
    expect([what, load.answered[what]]).toEqual([what, expect.any(Number)]);
  if (KILLS > 4) console.log({ kills: KILLS, seed: SEED, ...load.answered, spooled, left, refilled });
}, 300_000);

/** What the command says that an operator would ask; it must find nothing that is wrong. */
async function verify({ directory }: Cached): Promise<string> {
  const argv = ["cache", "verify", "--json", "--cache-dir", directory];
  const { code, out, err } = await runCommand(argv, { cwd: path.dirname(directory) });
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(JSON.parse(out)).toMatchObject({ damaged: 0, unreadable: 0 });
  return out.trim();
}

/**
 * The directory of a dead program holds right content, records that can be read, and halves that can be gone on with.
 * @returns the bytes of the halves
 */
async function expectNothingElse({ directory }: Cached, images: readonly Image[]): Promise<number> {
  const kept = await keptIn(directory);
  expect(await readdir(path.join(directory, "blobs"))).toEqual(["sha256", "sha512"]);
  expect(await readdir(path.join(directory, "blobs/sha512"))).toEqual([]);
  const known = new Map(images.flatMap(contentOf));
  expect(kept.filter((digest) => !known.has(digest))).toEqual([]);
  const names = (await readdir(directory)).filter((name) => !["blobs", "spool"].includes(name));
  expect(names.filter((name) => !OWN_FILES.test(name))).toEqual([]);
  {
    using records = new Database(path.join(directory, "records.sqlite"));
    expect(records.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
  }
  let bytes = 0;
  for (const entry of await readdir(path.join(directory, "spool"), { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory() || entry.name === "alive") continue;
    const half = new Uint8Array(await Bun.file(path.join(entry.parentPath, entry.name)).arrayBuffer());
    const digest = /^(sha256)-([0-9a-f]{64})\.[0-9a-f]{8}$/.exec(entry.name)?.slice(1).join(":") ?? entry.name;
    const whole = known.get(digest);
    expect([entry.name, whole !== undefined && Buffer.compare(whole.subarray(0, half.byteLength), half)]).toEqual([
      entry.name,
      0,
    ]);
    expect(kept).not.toContain(digest);
    bytes += half.byteLength;
  }
  return bytes;
}

function contentOf(image: Image): [string, Uint8Array][] {
  return [...image.blobs, ...[...image.manifests].map(([digest, { bytes }]): [string, Uint8Array] => [digest, bytes])];
}

async function expectPull(own: Cached, repository: string, image: Image | undefined): Promise<void> {
  const manifest = await own.pull(`${repository}/manifests/latest`);
  expect([repository, manifest.status, digestOf(manifest.body)]).toEqual([repository, 200, image?.digest ?? ""]);
  for (const digest of image?.blobs.keys() ?? []) {
    const { status, body } = await own.pull(`${repository}/blobs/${digest}`);
    expect([repository, status, digestOf(body)]).toEqual([repository, 200, digest]);
  }
}
