/**
 * Asks servers for one small answer every few milliseconds, each on its own, until it is told to end; then prints what the
 * answers took. A slow answer keeps later questions from being asked: those are counted as if they had been, waiting for the
 * same answer.
 *
 *   bun bench/peers/health-probe.ts INTERVAL_MS URL…     (SIGTERM ends it)
 */
import os from "node:os";

const [interval = "", ...urls] = process.argv.slice(2);
const intervalMs = Number(interval);
let isOver = false;

process.on("SIGTERM", () => {
  isOver = true;
});
try {
  // What is measured is the server's delay, not this program's turn on a busy processor.
  os.setPriority(-15);
} catch {
  // Only root may: others measure both.
}
console.log(JSON.stringify(await Promise.all(urls.map(ask))));
process.exit();

async function ask(url: string): Promise<{ p99Ms: number | undefined; worstMs: number | undefined }> {
  const times: number[] = [];
  while (!isOver) {
    const startedAt = performance.now();
    const answer = await fetch(url, { tls: { rejectUnauthorized: false } });
    await answer.text();
    if (answer.status !== 200) throw new Error(`expected 200 from ${url}, got ${answer.status}`);
    const elapsedMs = performance.now() - startedAt;
    for (let waitMs = elapsedMs; waitMs > 0; waitMs -= intervalMs) times.push(waitMs);
    await Bun.sleep(Math.max(0, intervalMs - elapsedMs));
  }
  times.sort((a, b) => a - b);
  return { p99Ms: times[Math.floor(times.length * 0.99)], worstMs: times.at(-1) };
}
