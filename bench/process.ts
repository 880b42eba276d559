/**
 * A measured process and what the kernel knows of it. Its output goes to a file: reading a busy program's log in here would
 * take processor time from what is measured. Linux only: the figures come from /proc.
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";

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

export interface PeerProcessOptions extends ProcessOptions {
  /** Where it will listen: `"http://127.0.0.1:41234"`. */
  readonly url: string;
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
/** What a program has from its end being asked for to its end. */
const STOP_TIMEOUT_MS = 5_000;

/** Starts a program that prints a JSON line with `"msg":"listening"` and its `address`, and waits for that line. */
export async function startProcess(options: ProcessOptions): Promise<MeasuredProcess> {
  const child = spawn(options);
  try {
    return measured(child, await addressIn(options.outputFile, () => child.exitCode));
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}

/** Starts a program that says nothing of the kind, and waits until it takes connections. What it starts counts with it. */
export async function startPeer(options: PeerProcessOptions): Promise<MeasuredProcess> {
  const output = openSync(options.outputFile, "a");
  const child = spawn(options, output);
  closeSync(output);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await takesConnections(options.url))) {
    if (performance.now() > deadline || child.exitCode !== null) {
      child.kill("SIGKILL");
      const said = await Bun.file(options.outputFile).text();
      throw new Error(`expected ${options.command[0]} to listen on ${options.url}, got:\n${said}`);
    }
    await Bun.sleep(20);
  }
  return measured(child, options.url);
}

/** @param both a descriptor for standard output and errors; without it errors are shown */
function spawn({ command, outputFile, cwd }: ProcessOptions, both?: number): Bun.Subprocess {
  return Bun.spawn([...command], {
    cwd,
    env: { PATH: process.env["PATH"], HOME: cwd },
    stdin: "ignore",
    stdout: both ?? Bun.file(outputFile),
    stderr: both ?? "inherit",
  });
}

function measured(child: Bun.Subprocess, url: string): MeasuredProcess {
  return {
    url,
    cpuSeconds: () => sumOf(familyOf(child.pid).map(cpuSecondsOf)),
    memory() {
      const all = familyOf(child.pid).map(memoryOf);
      const total = (part: keyof Memory): number => sumOf(all.map((memory) => memory[part]));
      return { resident: total("resident"), peak: total("peak"), anonymous: total("anonymous") };
    },
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await child.exited;
      clearTimeout(timer);
    },
  };
}

async function takesConnections(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
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

/** The process and what it started: nginx's workers do its work. */
function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [
    pid,
    ...children
      .split(" ")
      .filter(Boolean)
      .flatMap((child) => familyOf(Number(child))),
  ];
}

function sumOf(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
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
