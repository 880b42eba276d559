/**
 * Starts the real program for a test: from source, or the compiled binary that LAYOVER_BINARY names, on a free port with
 * a map, state and environment of its own. It never inherits this machine's proxies, certificates or LAYOVER_* settings.
 */
import { join } from "node:path";
import { createTempDir, type TempDir } from "./temp-dir.ts";

export interface LayoverOptions {
  /** Content of registrymap.json; without one the built-in map is used. */
  map?: Record<string, unknown>;
  /** More flags. `--listen` replaces the free port of 127.0.0.1. */
  args?: readonly string[];
  /** The whole environment besides PATH and HOME. */
  env?: Record<string, string>;
  /** What to run instead of Layover: for the tests of this file. */
  command?: readonly string[];
  /** How long it may take until it listens; default 15 s, far above the 50 ms it needs. */
  startTimeoutMs?: number;
}

export interface RunningLayover {
  /** `http://127.0.0.1:41234` of the first address, no slash at the end. */
  readonly url: string;
  /** `127.0.0.1:41234` */
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** Every line of the log so far. */
  readonly log: readonly LogLine[];
  /** The first line that matches, now or later. */
  logLine(isWanted: (line: LogLine) => boolean): Promise<LogLine>;
  /** SIGHUP, SIGKILL, … */
  signal(name: NodeJS.Signals): void;
  readonly exited: Promise<number>;
  /**
   * SIGTERM, and waits for the end.
   * @throws Error when it ends otherwise than with 0, wrote to stderr, or logged an unhandled error
   */
  stop(): Promise<void>;
}

export interface LogLine {
  readonly level?: string;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

/** Log lines kept for looking at; a load test writes more. */
const MAX_LOG_LINES = 20_000;
const ROOT = join(import.meta.dir, "../..");

export async function startLayover(options: LayoverOptions = {}): Promise<RunningLayover> {
  const dir = await createTempDir("layover-run-");
  const child = Bun.spawn([...(options.command ?? programCommand()), ...(await argumentsFor(options, dir))], {
    cwd: dir.path, // no .env or bunfig.toml of the project lies there
    env: { PATH: process.env["PATH"], HOME: dir.path, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const log = readLog(child.stdout);
  const complaints = new Response(child.stderr).text();
  const exited = child.exited.then(async (code) => {
    await dir.remove();
    return code;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.startTimeoutMs ?? 15_000);
  const listening = await Promise.race([log.line(({ msg }) => msg === "listening"), exited]);
  clearTimeout(timer);
  if (typeof listening === "number") {
    throw new Error(
      `expected Layover to listen, got exit code ${listening}: ${await complaints}${JSON.stringify(log.lines)}`,
    );
  }
  const url = new URL(String(listening["address"]));
  return {
    url: url.origin,
    host: url.host,
    port: Number(url.port),
    pid: child.pid,
    log: log.lines,
    logLine: log.line,
    signal: (name) => child.kill(name),
    exited,
    async stop() {
      child.kill("SIGTERM");
      const code = await exited;
      const unhandled = log.lines.filter(isUnhandled).map((line) => JSON.stringify(line));
      const faults = [code === 0 ? "" : `exit code ${code}`, await complaints, ...unhandled].filter(
        (text) => text !== "",
      );
      if (faults.length > 0) throw new Error(`expected Layover to end quietly, got ${faults.join("; ")}`);
    },
  };
}

/** The flags that give a server of its own, for whoever starts one otherwise. */
async function argumentsFor(options: LayoverOptions, dir: TempDir): Promise<string[]> {
  const given = options.args ?? [];
  const has = (flag: string): boolean => given.some((argument) => argument === flag || argument.startsWith(`${flag}=`));
  const own = has("--listen") ? [] : ["--listen", "127.0.0.1:0"];
  if (!has("--state-dir")) own.push("--state-dir", dir.file("state"));
  if (!has("--log-format")) own.push("--log-format", "json");
  if (options.map === undefined) return [...own, ...given];
  await Bun.write(dir.file("registrymap.json"), JSON.stringify(options.map));
  return [...own, "--registry-map", dir.file("registrymap.json"), ...given];
}

/** The program and its first arguments, for whoever starts it otherwise. */
export function programCommand(): string[] {
  const binary = process.env["LAYOVER_BINARY"];
  return binary === undefined || binary === ""
    ? [process.execPath, "--no-env-file", join(ROOT, "src/main.ts")]
    : [binary];
}

function isUnhandled({ level, msg }: LogLine): boolean {
  return level === "fatal" || /unhandled|uncaught/i.test(msg ?? "");
}

function readLog(stream: ReadableStream<Uint8Array>) {
  const lines: LogLine[] = [];
  const watchers = new Set<(line: LogLine) => void>();
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      for (const text of parts) add(parseLine(text));
    }
  };
  const add = (line: LogLine): void => {
    lines.push(line);
    if (lines.length > MAX_LOG_LINES) lines.shift();
    for (const watcher of watchers) watcher(line);
  };
  void read();
  return {
    lines,
    async line(isWanted: (line: LogLine) => boolean): Promise<LogLine> {
      const found = lines.find(isWanted);
      if (found !== undefined) return found;
      return new Promise((resolve) => {
        const watcher = (line: LogLine): void => {
          if (!isWanted(line)) return;
          watchers.delete(watcher);
          resolve(line);
        };
        watchers.add(watcher);
      });
    },
  };
}

/** What is not JSON is kept as a message, so that a test can see it. */
function parseLine(text: string): LogLine {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return { ...value };
  } catch {
    // a line of some library; kept below
  }
  return { msg: text };
}
