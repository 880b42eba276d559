/**
 * Cold blobs of 1 GiB to one client: speed, and processor time per GiB. Layover, the bare pass-through and the upstream
 * itself take turns within a round, so that whatever else the machine does meets all of them.
 *
 * A blob that is asked for as a range is not hashed (no part has a digest): the difference between the two is what
 * checking costs.
 */
import { BLOB_BYTES, type Lab } from "./lab.ts";
import { ratioOf, type Sample, sampleOf, show } from "./numbers.ts";
import type { MeasuredProcess } from "./process.ts";
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

interface Download {
  /** 10^6 bytes a second. */
  readonly megabytesPerSecond: number;
  /** Of the server. */
  readonly cpuSeconds: number;
}

async function download(
  server: MeasuredProcess,
  { path, range }: { path: string; range: string | undefined },
): Promise<Download> {
  const before = server.cpuSeconds();
  const ranged = range === undefined ? [] : ["--range", range];
  const report = "%{http_code} %{size_download} %{time_total}";
  const command = ["curl", "-s", "-o", "/dev/null", "-w", report, ...ranged, `${server.url}${path}`];
  const curl = Bun.spawn(command, { stdout: "pipe" });
  const [status, bytes, seconds] = (await new Response(curl.stdout).text()).split(" ").map(Number);
  const expected = range === undefined ? 200 : 206;
  if (status !== expected || bytes !== BLOB_BYTES || seconds === undefined)
    throw new Error(`expected ${expected} and ${BLOB_BYTES} bytes, got ${status} and ${bytes}`);
  return { megabytesPerSecond: BLOB_BYTES / 1e6 / seconds, cpuSeconds: server.cpuSeconds() - before };
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

function speedOf(downloads: readonly Download[]): Sample {
  return sampleOf(downloads.map(({ megabytesPerSecond }) => megabytesPerSecond));
}

function cpuOf(downloads: readonly Download[]): Sample {
  return sampleOf(downloads.map(({ cpuSeconds }) => cpuSeconds));
}
