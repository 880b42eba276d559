/** From the start of the binary to its first 200 on `/healthz`. The port is chosen before, so that no log need be read. */
import { freePort } from "./free-port.ts";
import type { Lab } from "./lab.ts";
import { sampleOf, show } from "./numbers.ts";
import type { Row } from "./table.ts";

const GOAL_MS = 150;
const DEADLINE_MS = 5_000;

export async function measureStart(lab: Lab, { rounds }: { rounds: number }): Promise<Row[]> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) times.push(await timeOneStart(lab));
  const sample = sampleOf(times);
  return [
    {
      what: "start of the binary to the first answer, ms",
      layover: show(sample),
      goal: { text: `< ${GOAL_MS}`, isMet: sample.median < GOAL_MS },
    },
  ];
}

async function timeOneStart(lab: Lab): Promise<number> {
  const port = await freePort();
  const startedAt = performance.now();
  const child = Bun.spawn([lab.binary, "--listen", `127.0.0.1:${port}`, ...lab.layoverArguments()], {
    cwd: "/",
    env: { PATH: process.env["PATH"] },
    stdout: "ignore",
  });
  try {
    for (;;) {
      if (await answers(`http://127.0.0.1:${port}/healthz`)) return performance.now() - startedAt;
      if (performance.now() - startedAt > DEADLINE_MS) throw new Error(`expected an answer within ${DEADLINE_MS} ms`);
      await Bun.sleep(1);
    }
  } finally {
    child.kill("SIGTERM");
    await child.exited;
  }
}

/** True for a 200. */
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { keepalive: false })).status === 200;
  } catch {
    // Nobody listens yet.
    return false;
  }
}
