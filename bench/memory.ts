/**
 * Memory: of a Layover that has pulled one large layer and rests, and of one with a hundred slow clients, each of which
 * takes 1 MB a second of a cold blob that the upstream could give a thousand times faster.
 */
import { join } from "node:path";
import type { Lab } from "./lab.ts";
import type { MeasuredProcess } from "./process.ts";
import type { Row } from "./table.ts";

const GOAL_IDLE_MB = 80;
export const GOAL_PEAK_MB = 250;
export const CLIENTS = 100;
const CLIENT_BYTES_PER_SECOND = 1e6;
const CLIENT_SECONDS = 10;
/** After this the runtime has given back what it does not need. */
const REST_MS = 5_000;
const SAMPLE_MS = 200;

export async function measureIdle(lab: Lab): Promise<Row[]> {
  const layover = await lab.startLayover();
  await Bun.sleep(REST_MS);
  const idle = layover.memory();
  const pull = Bun.spawn(["curl", "-s", "-o", "/dev/null", layover.url + lab.manifestPath, layover.url + lab.blobPath]);
  await pull.exited;
  await Bun.sleep(REST_MS);
  const rested = layover.memory();
  await layover.stop();
  return [
    {
      what: `idle: resident ${REST_MS / 1000} s after the start, MB`,
      layover: `${idle.resident.toFixed(0)}, ${anonymousPart(idle.anonymous)}`,
      goal: { text: `< ${GOAL_IDLE_MB}`, isMet: idle.resident < GOAL_IDLE_MB },
    },
    {
      what: `resident ${REST_MS / 1000} s after one pull of 1 GiB, MB`,
      layover: `${rested.resident.toFixed(0)}, ${anonymousPart(rested.anonymous)}`,
    },
  ];
}

export async function measureSlowClients(lab: Lab): Promise<Row[]> {
  const layover = await lab.startLayover();
  const passThrough = await lab.startPassThrough();
  await Bun.sleep(REST_MS);
  const idle = layover.memory().resident;
  const ours = await serveSlowly(layover, lab.blobPath);
  const theirs = await serveSlowly(passThrough, lab.blobPath);
  await Promise.all([layover.stop(), passThrough.stop()]);
  return [
    {
      what: `${CLIENTS} clients at 1 MB/s, peak resident, MB`,
      layover: `${ours.peak.toFixed(0)}, ${anonymousPart(ours.anonymous)}`,
      passThrough: `${theirs.peak.toFixed(0)}, ${anonymousPart(theirs.anonymous)}`,
      ratio: (ours.peak / theirs.peak).toFixed(2),
    },
    {
      what: "what they cost: the peak beyond idle, MB",
      layover: (ours.peak - idle).toFixed(0),
      goal: { text: `< ${GOAL_PEAK_MB}`, isMet: ours.peak - idle < GOAL_PEAK_MB },
    },
    {
      what: "what they got together, MB/s",
      layover: ours.megabytesPerSecond.toFixed(0),
      passThrough: theirs.megabytesPerSecond.toFixed(0),
    },
  ];
}

export function anonymousPart(megabytes: number): string {
  return `${megabytes.toFixed(0)} of it anonymous`;
}

export interface SlowService {
  readonly peak: number;
  /** Highest of the samples. */
  readonly anonymous: number;
  readonly megabytesPerSecond: number;
}

/** A hundred clients at 1 MB/s, for ten seconds. */
export async function serveSlowly(server: MeasuredProcess, path: string): Promise<SlowService> {
  const pace = [CLIENTS, CLIENT_BYTES_PER_SECOND, CLIENT_SECONDS].map(String);
  const script = join(import.meta.dir, "slow-clients.ts");
  const clients = Bun.spawn([process.execPath, "--no-env-file", script, `${server.url}${path}`, ...pace]);
  let anonymous = 0;
  while (clients.exitCode === null) {
    anonymous = Math.max(anonymous, server.memory().anonymous);
    await Bun.sleep(SAMPLE_MS);
  }
  const megabytesPerSecond = Number(await new Response(clients.stdout).text()) / 1e6 / CLIENT_SECONDS;
  const expected = (CLIENTS * CLIENT_BYTES_PER_SECOND) / 1e6;
  if (!(megabytesPerSecond > expected * 0.9))
    throw new Error(`expected clients that take ${expected} MB/s together, got ${megabytesPerSecond}`);
  return { peak: server.memory().peak, anonymous, megabytesPerSecond };
}
