/**
 * Fifty clients of one blob that nobody has, from a slow line (lesson T1): the last may end little later than one alone
 * would, and the line carries each byte once. Five of them check the digest.
 */
import { ratioOf, type Sample, sampleOf, show } from "../numbers.ts";
import type { MeasuredProcess } from "../process.ts";
import { blobPath, type Transfer, transfer } from "./clients.ts";
import type { Blob } from "./content.ts";
import { FAN_OUT_BYTES, type PeersLab } from "./lab.ts";
import { figuresOf, samplesOf, takeTurns } from "./rounds.ts";
import type { PeerRow } from "./table.ts";

const CLIENTS = 50;
/** Two cores cannot hash fifty copies as fast as they come. */
const CHECKING_CLIENTS = 5;
const LINK_BYTES_PER_SECOND = 10e6;
const GOAL_WALL = 1.2;
const GOAL_FETCHED = 1.005;
/** Somebody who waits three times as long as one client alone has missed every goal; the rest is not waited for. */
const MAX_SECONDS = 30;

interface FanOut extends Transfer {
  readonly fetched: number;
  /** Clients whose bytes were right. */
  readonly right: number;
}

/** @param rounds the lab must have as many blobs a peer, and one more a round */
export async function measureFanOut(lab: PeersLab, { rounds }: { rounds: number }): Promise<PeerRow[]> {
  const { certFile, upstream } = lab;
  const alone: number[] = [];
  const results = await takeTurns(lab.peers, rounds, async ({ plain }, round): Promise<FanOut> => {
    await lab.pace(LINK_BYTES_PER_SECOND);
    const one = { clients: 1, certFile };
    if (alone.length === round) alone.push((await transfer(upstream, lab.nextFanOutBlob(), one)).seconds);
    await lab.pace(LINK_BYTES_PER_SECOND);
    const blob = lab.nextFanOutBlob();
    const startedAt = performance.now();
    const [unchecked, right] = await Promise.all([
      transfer(plain, blob, { clients: CLIENTS - CHECKING_CLIENTS, certFile, maxSeconds: MAX_SECONDS }),
      countRight(plain, blob),
    ]);
    const seconds = (performance.now() - startedAt) / 1000;
    const fetched = (await lab.pace(0)) / FAN_OUT_BYTES;
    await lab.upstreamRests();
    return { ...unchecked, seconds, fetched, right };
  });
  return rowsOf(results, sampleOf(alone));
}

async function countRight({ url }: MeasuredProcess, blob: Blob): Promise<number> {
  const pipe = `curl -s --max-time ${MAX_SECONDS} "$0" | sha256sum`;
  const checks = Array.from({ length: CHECKING_CLIENTS }, async () => {
    const check = Bun.spawn(["sh", "-c", pipe, url + blobPath(blob)], { stdout: "pipe" });
    return (await new Response(check.stdout).text()).startsWith(blob.digest.replace("sha256:", ""));
  });
  return (await Promise.all(checks)).filter(Boolean).length;
}

function rowsOf(results: Awaited<ReturnType<typeof takeTurns<FanOut>>>, alone: Sample): PeerRow[] {
  const wall = ratioOf(sampleOf(results.layover.map(({ seconds }) => seconds)), alone);
  const fetched = samplesOf(results, (fanOut) => fanOut.fetched);
  const ours = fetched.layover?.highest ?? Number.NaN;
  const right = samplesOf(results, (fanOut) => fanOut.right);
  return [
    {
      what: `${CLIENTS} cold clients of 100 MB at 10 MB/s, s (at ${MAX_SECONDS} they give up)`,
      figures: figuresOf(
        samplesOf(results, ({ seconds }) => seconds),
        1,
      ),
      direct: show(alone, 1),
      ratio: show(wall, 2),
      goal: { text: `≤ ${GOAL_WALL} of one client's`, isMet: wall.median <= GOAL_WALL },
    },
    {
      what: "the same: clients that gave up",
      figures: figuresOf(samplesOf(results, ({ unfinished }) => unfinished)),
    },
    {
      what: "the same: fetched, × its size",
      figures: figuresOf(fetched, 2),
      goal: { text: "1.00", isMet: ours <= GOAL_FETCHED },
    },
    {
      what: `the same: right digests of ${CHECKING_CLIENTS}`,
      figures: figuresOf(right),
      goal: { text: String(CHECKING_CLIENTS), isMet: right.layover?.lowest === CHECKING_CLIENTS },
    },
  ];
}
