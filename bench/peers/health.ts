/**
 * What a small answer takes while a server is busy otherwise, asked by a process of its own; and what the upstream takes
 * beside it, which has next to nothing to do: that much is the machine's.
 */
import { join } from "node:path";
import { sampleOf, show } from "../numbers.ts";
import type { Peer, PeersLab } from "./lab.ts";
import { figuresOf, type Rounds, samplesOf } from "./rounds.ts";
import type { PeerRow } from "./table.ts";

export interface Health {
  readonly p99Ms: number;
  /** Of the upstream's ping. */
  readonly machineP99Ms: number;
}

const GOAL_MS = 25;
const INTERVAL_MS = 5;
/** The probe must have started before what it watches. */
const START_MS = 300;

export async function whileAsking<Result>(
  { upstream }: PeersLab,
  { url, healthPath }: { url: string; healthPath: Peer["healthPath"] },
  work: () => Promise<Result>,
): Promise<{ result: Result; health: Health }> {
  const script = join(import.meta.dir, "health-probe.ts");
  const urls = [url + healthPath, `${upstream.url}/v2/`];
  const command = [process.execPath, "--no-env-file", script, String(INTERVAL_MS), ...urls];
  const probe = Bun.spawn(command, { stdout: "pipe" });
  try {
    await Bun.sleep(START_MS);
    const result = await work();
    probe.kill("SIGTERM");
    const [server, machine]: { p99Ms: number }[] = JSON.parse(await new Response(probe.stdout).text());
    if (server === undefined || machine === undefined) throw new Error("expected the figures of two servers");
    return { result, health: { p99Ms: server.p99Ms, machineP99Ms: machine.p99Ms } };
  } finally {
    probe.kill("SIGKILL");
    await probe.exited;
  }
}

/** One figure a round: the 99th percentile of it. */
export function healthRow(results: Rounds<{ readonly health: Health | undefined }>): PeerRow {
  const delays = samplesOf(results, ({ health }) => health?.p99Ms ?? Number.NaN);
  const machine = sampleOf(results.layover.map(({ health }) => health?.machineP99Ms ?? Number.NaN));
  const ours = delays.layover?.median ?? Number.NaN;
  return {
    what: "the same: a health check meanwhile, 99th percentile, ms",
    figures: figuresOf(delays, 1),
    direct: show(machine, 1),
    goal: { text: `< ${GOAL_MS}`, isMet: ours < GOAL_MS },
  };
}
