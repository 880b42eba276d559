/**
 * Cold blobs of 1 GiB to one client: speed, and processor time per GiB. Layover, the bare pass-through and the upstream
 * itself take turns within a round, so that whatever else the machine does meets all of them.
 *
 * A blob that is asked for as a range is not hashed (no part has a digest): the difference between the two is what
 * checking costs.
 */
import { cpuOf, type Download, download, speedOf } from "./download.ts";
import { BLOB_BYTES, type Lab } from "./lab.ts";
import { ratioOf, show } from "./numbers.ts";
import type { Row } from "./table.ts";

const GOAL_RATIO = 0.8;

export async function measureBlobs(lab: Lab, { rounds }: { rounds: number }): Promise<Row[]> {
  const layover = await lab.startLayover();
  const passThrough = await lab.startPassThrough();
  const whole = { path: lab.blobPath, range: undefined };
  const part = { path: lab.blobPath, range: `0-${BLOB_BYTES - 1}` };
  const ours: Download[] = [];
  const theirs: Download[] = [];
  const unhashed: Download[] = [];
  const direct: Download[] = [];
  // The first round warms the code up and is not counted.
  for (let round = 0; round <= rounds; round += 1) {
    const results = [
      [direct, await download(lab.upstream, whole)],
      [ours, await download(layover, whole)],
      [theirs, await download(passThrough, whole)],
      [unhashed, await download(layover, part)],
    ] as const;
    if (round > 0) for (const [list, result] of results) list.push(result);
  }
  await Promise.all([layover.stop(), passThrough.stop()]);
  return rowsOf({ ours, theirs, unhashed, direct });
}

interface Downloads {
  readonly ours: readonly Download[];
  readonly theirs: readonly Download[];
  readonly unhashed: readonly Download[];
  readonly direct: readonly Download[];
}

function rowsOf({ ours, theirs, unhashed, direct }: Downloads): Row[] {
  const speed = ratioOf(speedOf(ours), speedOf(theirs));
  const unhashedSpeed = ratioOf(speedOf(unhashed), speedOf(theirs));
  return [
    {
      what: "cold blob of 1 GiB, MB/s",
      layover: show(speedOf(ours)),
      passThrough: show(speedOf(theirs)),
      direct: show(speedOf(direct)),
      ratio: show(speed, 2),
      goal: { text: `≥ ${GOAL_RATIO} of the pass-through`, isMet: speed.median >= GOAL_RATIO },
    },
    {
      what: "the same as a range, which is not hashed, MB/s",
      layover: show(speedOf(unhashed)),
      passThrough: show(speedOf(theirs)),
      direct: show(speedOf(direct)),
      ratio: show(unhashedSpeed, 2),
    },
    cpuRow("processor time for 1 GiB, s", ours, theirs),
    cpuRow("the same as a range, s", unhashed, theirs),
  ];
}

function cpuRow(what: string, ours: readonly Download[], theirs: readonly Download[]): Row {
  const [mine, peer] = [cpuOf(ours), cpuOf(theirs)];
  return { what, layover: show(mine, 2), passThrough: show(peer, 2), ratio: show(ratioOf(mine, peer), 2) };
}
