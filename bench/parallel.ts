/**
 * Several connections for one blob beside one: over a link of 100 ms and back that loses packets, over the same link where each
 * connection gets so much, and what they cost where nothing is wrong. Each measurement has Layover twice, the same binary with
 * and without `--blob-connections 1`, and they take turns.
 *
 *     curl ──▶ Layover (near) ──── link of the kernel's TCP, delay, loss ──── upstream (far)
 *
 * Needs root: the link lies between two network namespaces (`test/support/delay-link.ts`).
 */
import { createHash, randomFillSync } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDelayLink } from "../test/support/delay-link.ts";
import { upToDateBinary } from "./lab.ts";
import { ratioOf, type Sample, sampleOf, show } from "./numbers.ts";
import { type MeasuredProcess, startProcess } from "./process.ts";

const BLOB_BYTES = 256_000_000;
/** One connection may take twenty minutes: after this its speed is known. `--long` waits for its end. */
const SHORT_SECONDS = 60;
const LONG_SECONDS = 3600;
const ROUND_TRIP_MS = 100;
const CPU_ROUNDS = 10;
const GOAL_SPEED = 3;
const GOAL_CPU = 1.1;
const GOAL_BYTES = 1.01;

interface Setting {
  readonly dir: string;
  readonly blob: string;
  readonly path: string;
  /** What stands before commands at each end. */
  readonly near: readonly string[];
  readonly far: readonly string[];
  readonly address: string;
}

interface Taken {
  readonly megabytesPerSecond: number;
  readonly cpuSecondsPerGigabyte: number;
  /** Bytes that the upstream sent over those that came. */
  readonly sentShare: number;
  /** Questions to the upstream. */
  readonly asked: number;
}

export async function measureParallel({ isLong }: { isLong: boolean }): Promise<string> {
  const dir = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "layover-parallel-"));
  const bytes = randomFillSync(new Uint8Array(BLOB_BYTES));
  const blob = join(dir, "blob");
  await Bun.write(blob, bytes);
  const path = `/v2/bench/app/blobs/sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const lines: string[][] = [["measured", "several connections", "one connection", "ratio", "goal", ""]];
  try {
    const local = { dir, blob, path, near: [], far: [], address: "127.0.0.1" };
    lines.push(...(await measureLink(local, isLong)), ...(await measureClean(local)));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  lines.splice(1, 0, ["---", "---", "---", "---", "---", "---"]);
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

async function measureLink(local: Setting, isLong: boolean): Promise<string[][]> {
  await using link = await startDelayLink({ delayMs: ROUND_TRIP_MS / 2 });
  const setting = { ...local, near: link.near.command, far: link.far.command, address: link.far.address };
  await useCubic(setting, link.near.address);
  const seconds = isLong ? LONG_SECONDS : SHORT_SECONDS;
  const limited = await takeTurns(setting, { bytesPerSecond: 2_000_000, rounds: 1, seconds });
  await link.set({ loss: 0.01 });
  const lossy = await takeTurns(setting, { bytesPerSecond: 0, rounds: 1, seconds });
  return [
    speedRow(`256 MB, round trip ${ROUND_TRIP_MS} ms, each connection 2 MB/s: MB/s`, limited),
    speedRow(`256 MB, round trip ${ROUND_TRIP_MS} ms, 1 % of packets lost (cubic): MB/s`, lossy),
  ];
}

/** What most servers use; it takes a lost packet for a full path. By route, since a namespace may not choose for all. */
async function useCubic({ far, address }: Setting, near: string): Promise<void> {
  const device = /dev (\S+)/.exec(await outputOf([...far, "ip", "route", "get", near]))?.[1] ?? "";
  const route = [`${near}/32`, "dev", device, "src", address, "congctl", "cubic"];
  const { exitCode, stderr } = Bun.spawnSync([...far, "ip", "route", "replace", ...route]);
  if (exitCode !== 0) throw new Error(`expected a route with cubic, got ${stderr.toString()}`);
}

async function measureClean(setting: Setting): Promise<string[][]> {
  const fast = await takeTurns(setting, { bytesPerSecond: 0, rounds: CPU_ROUNDS, seconds: LONG_SECONDS });
  const used = await takeTurns(setting, { bytesPerSecond: 40_000_000, rounds: CPU_ROUNDS, seconds: LONG_SECONDS });
  return [
    cpuRow("loopback, which one connection fills: processor seconds for 1 GB", fast),
    bytesRow("the same: bytes from upstream for each that came", fast),
    cpuRow("loopback, each connection 40 MB/s: processor seconds for 1 GB", used),
    bytesRow("the same: bytes from upstream for each that came", used),
    speedRow("the same: MB/s", used, false),
  ];
}

interface Turns {
  readonly bytesPerSecond: number;
  readonly rounds: number;
  /** Until a download is broken off. */
  readonly seconds: number;
}

interface Both {
  readonly several: readonly Taken[];
  readonly one: readonly Taken[];
}

async function takeTurns(setting: Setting, { bytesPerSecond, rounds, seconds }: Turns): Promise<Both> {
  const running: MeasuredProcess[] = [];
  const start = async (command: readonly string[], name: string): Promise<MeasuredProcess> => {
    const child = await startProcess({ command, outputFile: join(setting.dir, name), cwd: setting.dir });
    running.push(child);
    return child;
  };
  const bun = [process.execPath, "--no-env-file", join(import.meta.dir, "far-upstream.ts")];
  try {
    const name = `upstream-${bytesPerSecond}-${setting.near.length}`;
    const upstream = await start([...setting.far, ...bun, setting.blob, setting.address, String(bytesPerSecond)], name);
    await Bun.write(join(setting.dir, "map.json"), JSON.stringify({ bench: upstream.url }));
    const settings = [`--registry-map=${join(setting.dir, "map.json")}`, `--state-dir=${join(setting.dir, "state")}`];
    const common = ["--listen=127.0.0.1:0", "--log-format=json", ...settings];
    const layover = (flags: readonly string[]) => [...setting.near, upToDateBinary(), ...common, ...flags];
    const several = await start(layover([]), `${name}-several`);
    const one = await start(layover(["--blob-connections=1"]), `${name}-one`);
    const taken = { several: [] as Taken[], one: [] as Taken[] };
    const isWarmed = rounds > 1; // the first of many rounds warms the code up and is not counted
    for (let round = isWarmed ? 0 : 1; round <= rounds; round++) {
      const pair = {
        several: await take(several, upstream, { setting, seconds }),
        one: await take(one, upstream, { setting, seconds }),
      };
      if (round === 0) continue;
      taken.several.push(pair.several);
      taken.one.push(pair.one);
    }
    return taken;
  } finally {
    await Promise.all(running.map((child) => child.stop()));
  }
}

async function take(
  layover: MeasuredProcess,
  upstream: MeasuredProcess,
  { setting, seconds }: { setting: Setting; seconds: number },
): Promise<Taken> {
  await sentBy(upstream, setting);
  const before = layover.cpuSeconds();
  const report = "%{http_code} %{size_download} %{time_total}";
  const url = `${layover.url}${setting.path}`;
  const limits = ["--max-time", String(seconds)];
  const curl = [...setting.near, "curl", "-s", "-o", "/dev/null", "-w", report, ...limits, url];
  const [status, bytes = 0, time = 0] = (await outputOf(curl)).split(" ").map(Number);
  if (status !== 200 || (time < seconds - 1 && bytes !== BLOB_BYTES))
    throw new Error(`expected 200 and ${BLOB_BYTES} bytes, got ${status} and ${bytes}`);
  const cpuSeconds = layover.cpuSeconds() - before;
  const sent = await sentBy(upstream, setting);
  return {
    megabytesPerSecond: bytes / 1e6 / time,
    cpuSecondsPerGigabyte: cpuSeconds / (bytes / 1e9),
    sentShare: sent.sentBytes / bytes,
    asked: sent.asked,
  };
}

async function sentBy(upstream: MeasuredProcess, { far }: Setting): Promise<{ sentBytes: number; asked: number }> {
  return JSON.parse(await outputOf([...far, "curl", "-s", `${upstream.url}/sent`]));
}

async function outputOf(command: readonly string[]): Promise<string> {
  return new Response(Bun.spawn([...command], { stdout: "pipe" }).stdout).text();
}

function speedRow(what: string, both: Both, hasGoal = true): string[] {
  const [several, one] = [both.several, both.one].map((list) =>
    sampleOf(list.map(({ megabytesPerSecond }) => megabytesPerSecond)),
  ) as [Sample, Sample];
  const ratio = ratioOf(several, one);
  const goal = hasGoal ? [`≥ ${GOAL_SPEED}`, verdict(ratio.median >= GOAL_SPEED)] : ["", ""];
  return [what, show(several, 1), show(one, 1), show(ratio, 2), ...goal];
}

function cpuRow(what: string, both: Both): string[] {
  const [several, one] = [both.several, both.one].map((list) =>
    sampleOf(list.map(({ cpuSecondsPerGigabyte }) => cpuSecondsPerGigabyte)),
  ) as [Sample, Sample];
  const ratio = ratioOf(several, one);
  return [what, show(several, 2), show(one, 2), show(ratio, 2), `≤ ${GOAL_CPU}`, verdict(ratio.median <= GOAL_CPU)];
}

function bytesRow(what: string, { several, one }: Both): string[] {
  const shares = sampleOf(several.map(({ sentShare }) => sentShare));
  const asked = sampleOf(several.map(({ asked: count }) => count));
  return [
    `${what} (questions: ${show(asked)})`,
    show(shares, 4),
    show(sampleOf(one.map(({ sentShare }) => sentShare)), 4),
    "",
    `≤ ${GOAL_BYTES}`,
    verdict(shares.highest <= GOAL_BYTES),
  ];
}

function verdict(isMet: boolean): string {
  return isMet ? "met" : "**missed**";
}
