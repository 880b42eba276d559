/**
 * Looking after a cache of a hundred thousand blobs while clients go on asking: one server counts them, verifies them all,
 * and evicts most of them. How late its event loop was is measured inside it (`loop-delay.ts`), and by a process that asks it
 * (`upkeep-clients.ts`), whose own lateness says how busy the machine was. The directory lies on a disk, since waiting for
 * one is what is looked for: `TMPDIR` names another.
 */
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DelaySummary, showDelays } from "./delays.ts";
import { freePort } from "./free-port.ts";
import type { Lab } from "./lab.ts";
import { sampleOf, show } from "./numbers.ts";
import { answers } from "./start.ts";
import type { Row } from "./table.ts";
import { type FilledCache, fillCache } from "./upkeep-cache.ts";

const BLOBS = 100_000;
const STARTS = 5;
const REST_MS = 5_000;
const DEADLINE_MS = 30_000;
const GOAL_START_MS = 500;
const GOAL_P99_MS = 20;
/** Of the bytes there are: the rest is evicted. */
const KEPT_SHARE = 0.1;

interface Running {
  readonly url: string;
  readonly startedMs: number;
  /** How long its main thread could have run so far and other programs had the processor. */
  waitedMs(): number;
  stop(): Promise<void>;
}

interface LoopDelay {
  readonly late: DelaySummary;
  /** Without the time in which other programs had the processor. */
  readonly busy: DelaySummary;
}

interface Phase {
  readonly seconds: number;
  readonly inside: LoopDelay;
  readonly answers: DelaySummary;
  readonly own: DelaySummary;
  readonly right: number;
  readonly wrong: number;
}

export async function measureUpkeep(lab: Lab): Promise<Row[]> {
  const dir = await mkdtemp(join(tmpdir(), "layover-bench-"));
  try {
    const cacheDir = join(dir, "cache");
    await mkdir(cacheDir);
    // Docker Hub's own repositories are public by definition: nothing is asked of the upstream meanwhile.
    const map = { docker: { upstreams: [lab.upstream.url], hosts: ["docker.io"] } };
    await Bun.write(join(dir, "map.json"), JSON.stringify({ default: "docker", ...map }));
    const startedMs = performance.now();
    const cache = await fillCache({ directory: cacheDir, registry: `${lab.upstream.url}/`, blobs: BLOBS });
    console.error(`${cache.blobs} blobs made in ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
    return await measureOn(lab, { dir, cacheDir, cache });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface Bench {
  readonly dir: string;
  readonly cacheDir: string;
  readonly cache: FilledCache;
}

async function measureOn(lab: Lab, bench: Bench): Promise<Row[]> {
  const { cache } = bench;
  const rows = await measureStarts(lab, bench);
  const server = await start(lab, bench, {
    BUN_OPTIONS: `--preload ${join(import.meta.dir, "loop-delay.ts")}`,
    BENCH_LOOP_SOCKET: join(bench.dir, "loop.sock"),
  });
  try {
    await untilAnswered(`${server.url}/healthz`, server.startedMs);
    await loopDelay(bench);
    const command = (name: string) => () => runCommand(lab, bench, name);
    // The count has begun with the start; asking for it waits for its end.
    const counted = await phase(server, bench, command("stats"));
    rows.push(...rowsOf(`count ${cache.blobs} blobs`, counted, countOf(counted.result, "contents")));
    const resting = await phase(server, bench, async () => Bun.sleep(REST_MS));
    rows.push(...rowsOf("rest, for comparison", resting, undefined));
    const verified = await phase(server, bench, command("verify"));
    rows.push(...rowsOf("verify all", verified, countOf(verified.result, "good")));
    const evicted = await phase(server, bench, command("prune"));
    rows.push(...rowsOf(`evict to ${KEPT_SHARE * 100} %`, evicted, countOf(evicted.result, "contents")));
  } finally {
    await server.stop();
  }
  return rows;
}

async function measureStarts(lab: Lab, bench: Bench): Promise<Row[]> {
  const [first, manifest, ownFirst]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < STARTS; round += 1) {
    const server = await start(lab, bench);
    first.push(await untilAnswered(`${server.url}/healthz`, server.startedMs));
    ownFirst.push((first.at(-1) ?? 0) - server.waitedMs());
    manifest.push(await untilAnswered(server.url + manifestPathOf(bench), server.startedMs));
    await server.stop();
  }
  const row = (what: string, values: readonly number[]): Row => {
    const sample = sampleOf(values);
    return {
      what,
      layover: show(sample),
      goal: { text: `< ${GOAL_START_MS}, each`, isMet: sample.highest < GOAL_START_MS },
    };
  };
  return [
    row(`start with ${bench.cache.blobs} blobs to the first answer, ms`, first),
    row("the same without its waits for a processor, ms", ownFirst),
    row("to the first cached manifest, ms", manifest),
  ];
}

function rowsOf(what: string, { seconds, inside, answers: seen, own, right, wrong }: Phase, done?: number): Row[] {
  const speed = done === undefined ? "" : `, ${done} in ${seconds.toFixed(1)} s, ${(done / seconds).toFixed(0)}/s`;
  return [
    {
      what: `${what}${speed}: event loop held up p50 / p99 / max, ms`,
      layover: showDelays(inside.busy),
      goal: { text: `p99 < ${GOAL_P99_MS}`, isMet: inside.busy.p99 < GOAL_P99_MS && inside.busy.samples > 0 },
    },
    { what: "the same with its waits for a processor", layover: showDelays(inside.late) },
    { what: "meanwhile `/healthz` answered in, p50 / p99 / max, ms", layover: showDelays(seen) },
    { what: "lateness of the asking process itself", layover: showDelays(own) },
    {
      what: "cached manifests pulled meanwhile, right / wrong",
      layover: `${right} / ${wrong}`,
      goal: { text: "none wrong", isMet: wrong === 0 && right > 0 },
    },
  ];
}

async function phase<T>(server: Running, bench: Bench, work: () => Promise<T>): Promise<Phase & { result: T }> {
  const script = join(import.meta.dir, "upkeep-clients.ts");
  const clients = Bun.spawn(
    [process.execPath, "--no-env-file", script, server.url, manifestPathOf(bench), bench.cache.lastUsed.digest],
    { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
  );
  await loopDelay(bench);
  const startedMs = performance.now();
  const result = await work();
  const seconds = (performance.now() - startedMs) / 1000;
  const inside = await loopDelay(bench);
  void clients.stdin.end();
  return { seconds, inside, result, ...JSON.parse(await new Response(clients.stdout).text()) };
}

function manifestPathOf({ cache: { lastUsed } }: Bench): string {
  return `/v2/${lastUsed.repository}/manifests/${lastUsed.digest}`;
}

/** The server, which counts from its start on, with a budget that it is far above. */
async function start(lab: Lab, bench: Bench, environment: Readonly<Record<string, string>> = {}): Promise<Running> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const { dir, cache } = bench;
  const budget = Math.round(cache.bytes * KEPT_SHARE);
  const startedMs = performance.now();
  const flags = [`--listen=${url.slice("http://".length)}`, `--cache-max-size=${budget}`, ...argumentsFor(bench)];
  const child = Bun.spawn([lab.binary, ...flags], {
    cwd: dir,
    env: { PATH: process.env["PATH"], ...environment },
    stdout: Bun.file(join(dir, "output")),
    stderr: "inherit",
  });
  return {
    url,
    startedMs,
    waitedMs: () => Number(readFileSync(`/proc/${child.pid}/schedstat`, "utf8").split(" ")[1]) / 1e6,
    async stop() {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

function argumentsFor({ dir, cacheDir }: Bench): string[] {
  return [
    `--cache-dir=${cacheDir}`,
    `--registry-map=${join(dir, "map.json")}`,
    `--state-dir=${join(dir, "state")}`,
    "--log-format=json",
  ];
}

async function untilAnswered(url: string, startedMs: number): Promise<number> {
  while (!(await answers(url))) {
    if (performance.now() - startedMs > DEADLINE_MS) throw new Error(`expected an answer of ${url}, got none in time`);
    await Bun.sleep(1);
  }
  return performance.now() - startedMs;
}

/** Since this was last asked. */
function loopDelay({ dir }: Bench): Promise<LoopDelay> {
  return new Promise((resolve, reject) => {
    let text = "";
    connect(join(dir, "loop.sock"))
      .setEncoding("utf8")
      .on("data", (piece: string) => void (text += piece))
      .on("end", () => resolve(JSON.parse(text)))
      .on("error", reject);
  });
}

/** The last line that `layover cache NAME --json` prints. */
async function runCommand(lab: Lab, bench: Bench, name: string): Promise<string> {
  const child = Bun.spawn([lab.binary, "cache", name, "--json", ...argumentsFor(bench)], {
    cwd: bench.dir,
    env: { PATH: process.env["PATH"] },
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`expected layover cache ${name} to succeed, got:\n${text}`);
  return text.trim().split("\n").at(-1) ?? "";
}

function countOf(line: string, name: string): number {
  const value: unknown = JSON.parse(line)[name];
  if (typeof value !== "number") throw new Error(`expected a number ${name}, got ${line}`);
  return value;
}
