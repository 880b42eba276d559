/**
 * The same with a cache, whose directory lies in memory too: what is measured is the program, not a disk. Cold, the blob is
 * hashed, spooled and followed at once; warm, it is read from the cache.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cpuOf, type Download, download, speedOf } from "./download.ts";
import type { Lab } from "./lab.ts";
import { anonymousPart, CLIENTS, GOAL_PEAK_MB, serveSlowly } from "./memory.ts";
import { ratioOf, show } from "./numbers.ts";
import type { Row } from "./table.ts";

export async function measureCached(lab: Lab, { rounds }: { rounds: number }): Promise<Row[]> {
  const passThrough = await lab.startPassThrough();
  const whole = { path: lab.blobPath, range: undefined };
  const cold: Download[] = [];
  const theirs: Download[] = [];
  const warm: Download[] = [];
  const direct: Download[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // A cache is cold once.
    const cacheDir = join(lab.dir, "cache");
    const layover = await lab.startLayover(["--cache-dir", cacheDir]);
    await learnThatPublic(layover.url + lab.manifestPath);
    cold.push(await download(layover, whole));
    theirs.push(await download(passThrough, whole));
    warm.push(await download(layover, whole));
    direct.push(await download(lab.upstream, whole));
    await layover.stop();
    await rm(cacheDir, { recursive: true });
  }
  await passThrough.stop();
  return [
    {
      what: "with a cache: cold blob of 1 GiB, MB/s",
      layover: show(speedOf(cold)),
      passThrough: show(speedOf(theirs)),
      direct: show(speedOf(direct)),
      ratio: show(ratioOf(speedOf(cold), speedOf(theirs)), 2),
    },
    {
      what: "with a cache: processor time for it, s",
      layover: show(cpuOf(cold), 2),
      passThrough: show(cpuOf(theirs), 2),
    },
    { what: "with a cache: the same blob warm, MB/s", layover: show(speedOf(warm)), direct: show(speedOf(direct)) },
    { what: "with a cache: processor time for it warm, s", layover: show(cpuOf(warm), 2) },
    ...(await measureSlowHits(lab)),
  ];
}

async function measureSlowHits(lab: Lab): Promise<Row[]> {
  const layover = await lab.startLayover(["--cache-dir", join(lab.dir, "cache")]);
  await learnThatPublic(layover.url + lab.manifestPath);
  const served = await serveSlowly(layover, lab.blobPath);
  await layover.stop();
  return [
    {
      what: `with a cache: ${CLIENTS} clients at 1 MB/s of one cold blob, peak resident, MB`,
      layover: `${served.peak.toFixed(0)}, ${anonymousPart(served.anonymous)}`,
      goal: { text: `< ${GOAL_PEAK_MB}`, isMet: served.peak < GOAL_PEAK_MB },
    },
  ];
}

/** An anonymous answer on a manifest is what makes a repository public, and only public content is kept. */
async function learnThatPublic(manifestUrl: string): Promise<void> {
  const { status } = await fetch(manifestUrl);
  if (status !== 200) throw new Error(`expected 200 from ${manifestUrl}, got ${status}`);
}
