/**
 * `npm run soak -- [--minutes 20] [--seed 1]`: the program under mixed load, faults and reloads for so long, with a look at
 * memory, files, sockets, timers and the cache directory every five seconds. Prints a table with the slope of each and a
 * verdict; exit code 0 when all are flat, nothing was wrong and nothing unhandled. SIGINT ends it early, with the table.
 *
 * LAYOVER_BINARY names a compiled program; without it the sources run.
 */
import { parseArgs } from "node:util";
import { seededRandom } from "../support/mixed-load.ts";
import { isLeftOver, judge, printTable, type Verdict } from "./report.ts";
import { takeValues, type Values } from "./samples.ts";
import { startStage, type Stage } from "./stage.ts";
import { changeWeather, reload } from "./weather.ts";

const SAMPLE_MS = 5000;
/** After the load: what is under way ends, and connections that clients keep idle are closed after 75 seconds. */
const MAX_REST_MS = 100_000;

const { values: asked } = parseArgs({
  options: { minutes: { type: "string", default: "20" }, seed: { type: "string", default: "1" } },
});
const minutes = Number(asked.minutes);
const seed = Number(asked.seed);
if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error("expected --minutes above 0 and a whole --seed");

const end = new AbortController();
process.on("SIGINT", () => end.abort());
process.on("SIGTERM", () => end.abort());
process.exitCode = (await soak()) ? 0 : 1;
process.exit();

/** Whether all was well. */
async function soak(): Promise<boolean> {
  const random = seededRandom(seed);
  await using stage = await startStage(random);
  const { pid } = stage.layover;
  console.log(`${stage.program} (pid ${pid}), seed ${seed}, ${minutes} minutes, cache in ${stage.watched.directory}`);
  const before = await takeValues(stage.watched);
  const began = performance.now();
  const clients = stage.startClients();
  const samples: { atMs: number; values: Values }[] = [];
  const events: Record<string, number> = {};
  const note = (what: string): void => void (events[what] = (events[what] ?? 0) + 1);
  const weather = every(
    () => 2000 + 4000 * random(),
    async () => note(changeWeather(stage.sky)),
  );
  let turn = 0;
  const reloads = every(
    () => 5000 + 5000 * random(),
    async () => note(await reload(stage.reloaded, turn++)),
  );
  const sampling = every(
    () => SAMPLE_MS,
    async () => {
      const values = await takeValues(stage.watched);
      samples.push({ atMs: performance.now() - began, values });
      if (samples.length % 12 === 0) console.log(progress(samples.length, values, clients.counts));
    },
  );
  await until(Math.min(minutes * 60_000, 2 ** 31 - 1));
  await Promise.all([weather.stop(), reloads.stop(), sampling.stop()]);
  stage.calm();
  await clients.stop();
  await stage.closeUpstreams();
  const after = await atRest(stage.watched, before);
  const verdicts = judge(samples, { before, after });
  printTable(verdicts);
  return conclude(stage, { verdicts, events, clients, tookMs: performance.now() - began });
}

/** What is there when everything that ends by itself has ended. */
async function atRest(watched: Stage["watched"], before: Values): Promise<Values> {
  const deadline = performance.now() + MAX_REST_MS;
  for (;;) {
    const values = await takeValues(watched);
    if (!isLeftOver(before, values) || performance.now() > deadline) return values;
    await Bun.sleep(SAMPLE_MS);
  }
}

interface Outcome {
  readonly verdicts: readonly Verdict[];
  readonly events: Readonly<Record<string, number>>;
  readonly clients: ReturnType<Stage["startClients"]>;
  readonly tookMs: number;
}

async function conclude(stage: Stage, { verdicts, events, clients, tookMs }: Outcome): Promise<boolean> {
  const { counts, findings } = clients;
  const ended = await stage.stopLayover();
  const wrong = findings.flatMap((each) => each.wrong);
  const hangs = findings.flatMap((each) => each.hangs);
  const growing = verdicts.filter(({ isGood }) => !isGood).map(({ name }) => name);
  console.log(`\n${(tookMs / 60_000).toFixed(1)} minutes; what happened: ${JSON.stringify(events)}`);
  console.log(`clients: ${JSON.stringify(counts)}`);
  for (const { pulls, whole, failed, retries, problems } of findings)
    console.log(
      `pulls: ${whole}/${pulls} whole, ${failed.length} given up, ${retries} retries: ${JSON.stringify(problems)}`,
    );
  console.log(`wrong: ${wrong.length} ${wrong.slice(0, 10).join("\n       ")}`);
  console.log(`hung: ${hangs.length} ${hangs.slice(0, 10).join("\n      ")}`);
  console.log(`unhandled: ${stage.unhandled.length} ${stage.unhandled.slice(0, 5).join("\n           ")}`);
  console.log(`ended: ${ended}`);
  console.log(`growing: ${growing.length === 0 ? "nothing" : growing.join(", ")}`);
  return wrong.length + hangs.length + stage.unhandled.length + growing.length === 0 && ended === "quietly";
}

function progress(count: number, values: Values, counts: Readonly<Record<string, number>>): string {
  const shown = ["resident MiB", "open files", "sockets", "timers", "temp files", "kept MiB", "open requests"];
  const texts = shown.flatMap((name) => (values[name] === undefined ? [] : [`${name} ${values[name].toFixed(0)}`]));
  return `${((count * SAMPLE_MS) / 60_000).toFixed(0)} min: ${texts.join(", ")}, ${counts["requests"] ?? 0} requests`;
}

/** Again and again, one at a time. @throws at `stop` what the work threw */
function every(ms: () => number, work: () => Promise<void>): { stop(): Promise<void> } {
  const over = new AbortController();
  const loop = async (): Promise<void> => {
    while (!over.signal.aborted && !end.signal.aborted) {
      await work();
      await until(ms(), over.signal);
    }
  };
  const running = loop().catch((error: unknown) => {
    end.abort(); // without it the run means nothing
    throw error;
  });
  running.catch(() => undefined); // told at `stop`
  return {
    async stop() {
      over.abort();
      await running;
    },
  };
}

function until(ms: number, ...signals: AbortSignal[]): Promise<void> {
  const either = AbortSignal.any([end.signal, ...signals]);
  return new Promise((resolve) => {
    if (either.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    either.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
