/**
 * A measured process and what the kernel knows of it. Its output goes to a file: reading a busy program's log in here would
 * take processor time from what is measured. Linux only: the figures come from /proc.
 */
import { readFileSync } from "node:fs";

export interface ProcessOptions {
  readonly command: readonly string[];
  /** Where standard output goes. */
  readonly outputFile: string;
  /** Working directory: one without `.env` and `bunfig.toml`. */
  readonly cwd: string;
}

export interface MeasuredProcess {
  /** `"http://127.0.0.1:41234"` */
  readonly url: string;
  /** Processor time of all threads so far; the kernel counts in hundredths. */
  cpuSeconds(): number;
  memory(): Memory;
  stop(): Promise<void>;
}

/** Megabytes (10^6 bytes). */
export interface Memory {
  readonly resident: number;
  /** Highest ever. */
  readonly peak: number;
  /** Without the pages of the binary and its libraries, which the kernel shares and can drop. */
  readonly anonymous: number;
}

/** USER_HZ, the same on every Linux that Bun runs on. */
const TICKS_PER_SECOND = 100;
const START_TIMEOUT_MS = 15_000;

/** Starts a program that prints a JSON line with `"msg":"listening"` and its `address`, and waits for that line. */
export async function startProcess({ command, outputFile, cwd }: ProcessOptions): Promise<MeasuredProcess> {
  const child = Bun.spawn([...command], {
    cwd,
    env: { PATH: process.env["PATH"], HOME: cwd },
    stdin: "ignore",
    stdout: Bun.file(outputFile),
    stderr: "inherit",
  });
  const url = await addressIn(outputFile, () => child.exitCode);
  return {
    url,
    cpuSeconds: () => cpuSecondsOf(child.pid),
    memory: () => memoryOf(child.pid),
    async stop() {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

async function addressIn(outputFile: string, exitCode: () => number | null): Promise<string> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && exitCode() === null) {
    const line = (await Bun.file(outputFile).text()).split("\n").find((text) => text.includes('"listening"'));
    if (line !== undefined) return String(JSON.parse(line).address);
    await Bun.sleep(5);
  }
  throw new Error(`expected a program that listens, got exit code ${exitCode()}: see ${outputFile}`);
}

function cpuSecondsOf(pid: number): number {
  // The name in parentheses may hold anything: fields are counted behind it (proc(5): utime is the 14th, stime the 15th).
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const megabytes = (name: string) =>
    (Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1024) / 1e6;
  return { resident: megabytes("VmRSS"), peak: megabytes("VmHWM"), anonymous: megabytes("RssAnon") };
}
