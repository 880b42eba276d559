/** Programs that run beside a test: started with a log file of their own, waited for, and ended by their own process id. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Daemon {
  readonly pid: number;
  readonly logPath: string;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

export interface DaemonOptions {
  /** Folder for the log. */
  dir: string;
  env?: Record<string, string>;
  /** Asked until it is true; the daemon is ready then. */
  isReady: () => Promise<boolean>;
}

const READY_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 25;

/** @throws Error with the end of the log when the program ends or is not ready in time */
export async function startDaemon(name: string, command: string[], options: DaemonOptions): Promise<Daemon> {
  const logPath = join(options.dir, `${name}.log`);
  const child = Bun.spawn(command, {
    env: { ...cleanEnvironment(), ...options.env },
    stdin: "ignore",
    stdout: Bun.file(logPath),
    stderr: Bun.file(`${logPath}.err`),
  });
  const tail = (): string => `${readTail(logPath)}${readTail(`${logPath}.err`)}`;
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!(await options.isReady().catch(() => false))) {
    if (child.exitCode !== null) throw new Error(`expected ${name} to run, it ended with ${child.exitCode}: ${tail()}`);
    if (Date.now() > deadline) throw new Error(`expected ${name} to be ready in ${READY_TIMEOUT_MS} ms: ${tail()}`);
    await Bun.sleep(POLL_MS);
  }
  return {
    pid: child.pid,
    logPath,
    signal: (signal) => child.kill(signal),
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await child.exited;
      clearTimeout(timer);
    },
  };
}

/** Answers at all, with whatever status. */
export async function answers(url: string, init: BunFetchRequestInit = {}): Promise<boolean> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(2000) });
  await response.body?.cancel();
  return true;
}

/** This machine's environment without its proxies and certificates, which would decide what a client trusts. */
export function cleanEnvironment(): Record<string, string> {
  const kept = ["PATH", "HOME", "LANG", "TMPDIR"];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] ?? ""]])),
  );
}

function readTail(path: string): string {
  return readFileSync(path, "utf8").slice(-2000);
}
