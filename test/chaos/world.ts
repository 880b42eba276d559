/**
 * Layover between strict clients and a registry behind bad connections, and the account of a run: what clients got, and
 * what the registry had to send for it.
 *
 *     clients ──► Layover (cache or none) ──► fault relay or bad link ──► registry
 */
import { expect } from "bun:test";
import path from "node:path";
import { type Samples, samplesIn } from "../support/metrics.ts";
import { type RunningLayover, startLayover } from "../support/layover.ts";
import { seededRandom } from "../support/mixed-load.ts";
import { createTempDir } from "../support/temp-dir.ts";
import type { ChaosImage } from "./catalogue.ts";
import { createPuller, type Findings } from "./puller.ts";

/** Of all runs of the suite together; the default is a sample. */
export const PULLS = Number(process.env["LAYOVER_CHAOS_PULLS"] ?? 240);
/** Another seed, other faults: the sample always has the same, a long run has others each time. Printed with each run. */
export const SEED = Number(
  process.env["LAYOVER_CHAOS_SEED"] ?? (PULLS < 1000 ? 1 : Math.floor(Math.random() * 1_000_000)),
);

export interface World extends AsyncDisposable {
  readonly layover: RunningLayover;
  readonly findings: Findings;
  /** Pulls so often, by several clients at once; with a cache, images are taken out of it now and then. */
  run(pulls: number): Promise<void>;
  metrics(): Promise<Samples>;
  /** Every byte of content that had to come from the registry: each digest once while it is kept. Ends when no download runs. */
  neededBytes(): Promise<number>;
}

export interface WorldOptions {
  /** Where Layover finds the registry. */
  readonly upstream: string;
  readonly images: readonly ChaosImage[];
  readonly isCached: boolean;
  readonly clients?: number;
  /** Command and first arguments instead of the program alone, e.g. to put it into a network of its own. */
  readonly command?: readonly string[];
  readonly args?: readonly string[];
}

/** Patience in seconds instead of a minute, so that a run of many faults ends. */
const ARGS = ["--connect-timeout", "1s", "--header-timeout", "2s", "--idle-timeout", "1s"];
const CLIENTS = 6;
/** Pulls between two looks at what shall leave the cache. */
const ROUND = 20;
/** A download that nobody waits for gives up long before. */
const QUIET_WITHIN_MS = 60_000;
/** Of the images, after each round. */
const REMOVED_PART = 0.35;

export async function startWorld({ upstream, images, isCached, ...options }: WorldOptions): Promise<World> {
  const random = seededRandom(SEED + 1);
  const dir = await createTempDir("layover-chaos-");
  const socket = dir.file("layover.sock");
  const admin = dir.file("cache", "admin.sock");
  const cache = isCached ? ["--cache-dir", path.dirname(admin), "--cache-min-free", "0"] : [];
  const layover = await startLayover({
    map: { default: "quay", quay: { upstreams: [upstream], hosts: ["quay.io"] } },
    args: ["--listen", "127.0.0.1:0", "--listen", `unix:${socket}`, ...ARGS, ...cache, ...(options.args ?? [])],
    ...(options.command && { command: options.command }),
  });
  await layover.logLine(({ msg, address }) => msg === "listening" && String(address).startsWith("unix:"));
  const puller = createPuller({
    random,
    // By the socket: whoever is in another network reaches it too.
    ask: (target, init) =>
      fetch(`http://layover${target}`, { ...init, unix: socket, decompress: false, redirect: "manual" }),
  });
  let freedBytes = 0;

  async function upkeep<T>(operation: string, body: object): Promise<T> {
    const init = { unix: admin, method: "POST", body: JSON.stringify(body) };
    const answer = await fetch(`http://layover/upkeep/${operation}`, init);
    return JSON.parse((await answer.text()).trim().split("\n").at(-1) ?? "") as T;
  }

  async function round(pulls: number): Promise<void> {
    let left = pulls;
    const client = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const image = images[Math.floor(random() * images.length)];
        if (image !== undefined) await puller.pull(image);
      }
    };
    await Promise.all(Array.from({ length: options.clients ?? CLIENTS }, client));
  }

  async function takeOut(): Promise<void> {
    for (const { repository } of images) {
      if (random() > REMOVED_PART) continue;
      const freed = await upkeep<{ bytes?: number }>("remove", { name: `quay.io/${repository}:latest` });
      freedBytes += freed.bytes ?? 0; // one that is not there frees nothing
    }
  }

  async function metrics(): Promise<Samples> {
    const answer = await fetch("http://layover/metrics", { unix: socket });
    if (answer.status !== 200) throw new Error(`expected metrics, got ${answer.status}`);
    return samplesIn(await answer.text());
  }

  /** Downloads whose clients left go on to their end. */
  async function untilQuiet(): Promise<void> {
    const deadline = performance.now() + QUIET_WITHIN_MS;
    while ((await metrics()).get("layover_running_fills") !== 0) {
      if (performance.now() > deadline) throw new Error(`expected downloads to end in ${QUIET_WITHIN_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  return {
    layover,
    findings: puller.findings,
    async run(pulls) {
      for (let left = pulls; left > 0; left -= ROUND) {
        await round(Math.min(ROUND, left));
        if (isCached && left > ROUND) await takeOut();
      }
    },
    metrics,
    async neededBytes() {
      await untilQuiet();
      const stats = await upkeep<{ bytes: number; spooledBytes: number }>("stats", {});
      const verified = await upkeep<{ damaged: number; unreadable: number }>("verify", {});
      if (verified.damaged + verified.unreadable > 0)
        throw new Error(`expected sound content, got ${JSON.stringify(verified)}`);
      return stats.bytes + stats.spooledBytes + freedBytes;
    },
    async [Symbol.asyncDispose]() {
      await layover.stop();
      await dir.remove();
    },
  };
}

/** Every pull whole, nothing wrong, nothing late. */
export function expectSound({ pulls, whole, failed, wrong, hangs }: Findings, expected: number): void {
  expect({ wrong, hangs, failed, pulls, whole }).toEqual({
    wrong: [],
    hangs: [],
    failed: [],
    pulls: expected,
    whole: expected,
  });
}

export interface Account {
  readonly findings: Findings;
  /** What passed from the registry, heads included. */
  readonly sentBytes: number;
  readonly neededBytes: number | undefined;
  /** The faults, and how often each happened. */
  readonly happened: string;
}

/** One line for each run, so that a bad one can be made again. */
export function report(what: string, { findings, sentBytes, neededBytes, happened }: Account): void {
  const ratio = neededBytes === undefined ? "" : `${(sentBytes / neededBytes).toFixed(4)}x of the needed, `;
  const { pulls, whole, retries, problems, wrong, hangs, slowestHeadMs, slowestPullMs } = findings;
  console.log(
    `${what}: seed ${SEED}, ${whole}/${pulls} pulls whole, ${wrong.length} wrong, ${hangs.length} hung, ${retries} retries of clients, ` +
      `${(sentBytes / 1e6).toFixed(1)} MB sent, ${ratio}slowest head ${slowestHeadMs.toFixed(0)} ms, ` +
      `slowest pull ${slowestPullMs.toFixed(0)} ms; happened: ${happened}; clients saw ${JSON.stringify(problems)}`,
  );
}
