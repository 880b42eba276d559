/**
 * Who goes on asking while the cache is looked after: `/healthz` every five milliseconds, whether or not the last one was
 * answered, and a cached manifest every fifty, whose digest is compared. Prints what it saw when its standard input ends.
 *
 *   bun bench/upkeep-clients.ts ORIGIN MANIFEST_PATH DIGEST
 */
import { createHash } from "node:crypto";
import { createDelays, TICK_MS, watchOwnLoop } from "./delays.ts";

const [origin = "", manifestPath = "", digest = ""] = process.argv.slice(2);
const MANIFEST_EVERY_MS = 50;
const { late } = watchOwnLoop();
const answers = createDelays();
const manifests = { right: 0, wrong: 0 };
const asking = new Set<Promise<void>>();

async function askHealth(): Promise<void> {
  const startedMs = performance.now();
  const response = await fetch(`${origin}/healthz`);
  await response.arrayBuffer();
  answers.record(performance.now() - startedMs);
}

async function pullManifest(): Promise<void> {
  const response = await fetch(`${origin}${manifestPath}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const isRight = response.status === 200 && `sha256:${createHash("sha256").update(bytes).digest("hex")}` === digest;
  manifests[isRight ? "right" : "wrong"] += 1;
}

function keep(asked: Promise<void>): void {
  asking.add(asked);
  void asked.finally(() => asking.delete(asked));
}

const timers = [
  setInterval(() => keep(askHealth()), TICK_MS),
  setInterval(() => keep(pullManifest()), MANIFEST_EVERY_MS),
];
for await (const _ of Bun.stdin.stream()) continue;
for (const timer of timers) clearInterval(timer);
await Promise.all(asking);
console.log(JSON.stringify({ answers: answers.take(), own: late.take(), ...manifests }));
