/**
 * Asks for one small answer every few milliseconds until it is told to end, then prints what the answers took. A slow answer
 * keeps later questions from being asked: those are counted as if they had been, waiting for the same answer.
 *
 *   bun bench/peers/health-probe.ts URL INTERVAL_MS     (SIGTERM ends it)
 */
import os from "node:os";

const [url = "", interval = ""] = process.argv.slice(2);
const intervalMs = Number(interval);
const times: number[] = [];
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
const p99Ms = times[Math.floor(times.length * 0.99)];
console.log(JSON.stringify({ asked: times.length, p99Ms, worstMs: times.at(-1) }));
process.exit();
