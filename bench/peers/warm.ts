/** A blob that every peer has: how fast it leaves, plain and under TLS, to one client and to sixteen, and for what. */
import { show } from "../numbers.ts";
import { type Transfer, transfer } from "./clients.ts";
import { type Health, healthRow, whileAsking } from "./health.ts";
import type { Peer, PeersLab } from "./lab.ts";
import { figuresOf, ratioTo, type Rounds, samplesOf, takeTurns } from "./rounds.ts";
import type { PeerRow } from "./table.ts";

const MANY = 16;

interface Case {
  readonly title: string;
  readonly entry: "plain" | "tls";
  readonly clients: number;
  readonly goalRatio: number;
}

const CASES: readonly Case[] = [
  { title: "plain, 1 client", entry: "plain", clients: 1, goalRatio: 1 },
  { title: `plain, ${MANY} clients`, entry: "plain", clients: MANY, goalRatio: 1 },
  { title: "TLS, 1 client", entry: "tls", clients: 1, goalRatio: 0.95 },
  { title: `TLS, ${MANY} clients`, entry: "tls", clients: MANY, goalRatio: 0.9 },
];

export async function measureWarm(lab: PeersLab, { rounds }: { rounds: number }): Promise<PeerRow[]> {
  const rows: PeerRow[] = [];
  for (const test of CASES) {
    const results = await takeTurns(lab.peers, rounds, (peer) => measureOne(lab, peer, test));
    rows.push(...rowsOf(test, results));
  }
  return rows;
}

interface Served extends Transfer {
  readonly health: Health | undefined;
}

async function measureOne(lab: PeersLab, peer: Peer, { entry, clients }: Case): Promise<Served> {
  const server = peer[entry];
  const blob = clients === 1 ? lab.largeBlob : lab.blob;
  const take = (): Promise<Transfer> => transfer(server, blob, { clients, certFile: lab.certFile });
  if (clients === 1) return { ...(await take()), health: undefined };
  const { result, health } = await whileAsking(lab, { url: server.url, healthPath: peer.healthPath }, take);
  return { ...result, health };
}

function rowsOf({ title, clients, goalRatio }: Case, results: Rounds<Served>): PeerRow[] {
  const speed = samplesOf(results, ({ megabytesPerSecond }) => megabytesPerSecond);
  const ratio = ratioTo(speed, "nginx");
  const cpu = samplesOf(results, ({ cpuSecondsPerGigabyte }) => cpuSecondsPerGigabyte);
  const cpuRatio = ratioTo(cpu, "nginx");
  return [
    {
      what: `warm blob, ${title}, MB/s`,
      figures: figuresOf(speed),
      ...(ratio === undefined
        ? {}
        : {
            ratio: show(ratio, 2),
            goal: { text: `≥ ${goalRatio} of nginx`, isMet: ratio.median >= goalRatio },
          }),
    },
    {
      what: "the same: processor time, s/GB",
      figures: figuresOf(cpu, 2),
      ...(cpuRatio === undefined ? {} : { ratio: show(cpuRatio, 2) }),
    },
    ...(clients === 1 ? [] : [healthRow(results)]),
  ];
}
