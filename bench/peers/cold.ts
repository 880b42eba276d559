/** A blob that nobody has, from a line of 1 Gbit/s: how long it takes against a direct download, and for what. */
import { ratioOf, sampleOf, show } from "../numbers.ts";
import { type Transfer, transfer } from "./clients.ts";
import { type Health, healthRow, whileAsking } from "./health.ts";
import { COLD_BYTES, type PeersLab } from "./lab.ts";
import { figuresOf, samplesOf, takeTurns } from "./rounds.ts";
import type { PeerRow } from "./table.ts";

const LINK_BYTES_PER_SECOND = 125e6;
const GOAL_RATIO = 1.1;

interface Cold extends Transfer {
  readonly health: Health | undefined;
  /** Blob bytes the upstream sent, in blobs. */
  readonly fetched: number;
}

/** @param rounds the lab must have as many cold blobs a peer */
export async function measureCold(lab: PeersLab, { rounds }: { rounds: number }): Promise<PeerRow[]> {
  const { certFile, upstream } = lab;
  const direct: number[] = [];
  const results = await takeTurns(lab.peers, rounds, async (peer, round): Promise<Cold> => {
    const blob = lab.nextColdBlob();
    await lab.pace(LINK_BYTES_PER_SECOND);
    if (direct.length === round) direct.push((await transfer(upstream, lab.blob, { clients: 1, certFile })).seconds);
    await lab.pace(LINK_BYTES_PER_SECOND);
    const { result, health } = await whileAsking(lab, { url: peer.plain.url, healthPath: peer.healthPath }, () =>
      transfer(peer.plain, blob, { clients: 1, certFile }),
    );
    // What a peer still fetches behind its answer belongs to this download.
    await lab.upstreamRests();
    return { ...result, health, fetched: (await lab.pace(0)) / COLD_BYTES };
  });
  const seconds = samplesOf(results, (cold) => cold.seconds);
  const ratio = ratioOf(seconds.layover ?? sampleOf([]), sampleOf(direct));
  return [
    {
      what: "cold blob of 256 MiB at 1 Gbit/s, s",
      figures: figuresOf(seconds, 2),
      direct: show(sampleOf(direct), 2),
      ratio: show(ratio, 2),
      goal: { text: `≤ ${GOAL_RATIO} of direct`, isMet: ratio.median <= GOAL_RATIO },
    },
    {
      what: "the same: processor time, s/GB",
      figures: figuresOf(
        samplesOf(results, ({ cpuSecondsPerGigabyte }) => cpuSecondsPerGigabyte),
        2,
      ),
    },
    {
      what: "the same: fetched, × its size",
      figures: figuresOf(
        samplesOf(results, ({ fetched }) => fetched),
        2,
      ),
    },
    healthRow(results),
  ];
}
