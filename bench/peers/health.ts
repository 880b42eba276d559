/** What a small answer takes while a server is busy otherwise, asked by a process of its own. */
import { join } from "node:path";

export interface Health {
  readonly p99Ms: number;
  readonly worstMs: number;
}

const INTERVAL_MS = 5;
/** The probe must have started before what it watches. */
const START_MS = 300;

export async function whileAsking<Result>(
  url: string,
  work: () => Promise<Result>,
): Promise<{ result: Result; health: Health }> {
  const script = join(import.meta.dir, "health-probe.ts");
  const probe = Bun.spawn([process.execPath, "--no-env-file", script, url, String(INTERVAL_MS)], { stdout: "pipe" });
  try {
    await Bun.sleep(START_MS);
    const result = await work();
    probe.kill("SIGTERM");
    const health: Health = JSON.parse(await new Response(probe.stdout).text());
    return { result, health };
  } finally {
    probe.kill("SIGKILL");
    await probe.exited;
  }
}
