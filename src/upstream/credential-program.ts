/**
 * Runs a program that tells a secret: no shell, an environment of only what it was given, a limit on time and output, and its
 * whole process group ended at the end. What it writes to stderr is not read: it may hold the secret, and logs must not.
 */
import { spawn } from "node:child_process";
import { UpstreamError } from "../errors.ts";

export interface Program {
  /** The program, by name (found in PATH) or absolute path, and its arguments. */
  readonly argv: readonly [string, ...string[]];
  /** Written to its standard input, which ends then. */
  readonly input: string;
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** How a program ended that was not stopped. */
export interface ProgramEnd {
  readonly exitCode: number;
  readonly output: string;
}

export type RunProgram = (program: Program, signal: AbortSignal) => Promise<ProgramEnd>;

/** The longest secrets, Azure's and Google's tokens, have some KiB. */
const MAX_OUTPUT_BYTES = 64 * 1024;

/**
 * Resolves when it ended by itself, whatever its exit code.
 * @throws UpstreamError `token` when it cannot be started, takes too long, writes too much or was killed; or when the signal aborts
 */
export function runProgram({ argv, input, env, timeoutMs }: Program, signal: AbortSignal): Promise<ProgramEnd> {
  const [name, ...parameters] = argv;
  const { promise, resolve, reject } = Promise.withResolvers<ProgramEnd>();
  if (signal.aborted) return Promise.reject(failed(name, "was not started: Layover is stopping"));
  // A group of its own, so that what it starts ends with it. The root folder, so that it depends on no other.
  const child = spawn(name, parameters, { detached: true, env, cwd: "/", stdio: ["pipe", "pipe", "ignore"] });
  const chunks: Buffer[] = [];
  let bytes = 0;

  function stop(why: string): void {
    // Rejected here and not when it is gone: what left its group may hold the pipe open for longer.
    reject(failed(name, why));
    endGroup(child.pid);
    child.stdout.destroy();
  }
  const onAbort = () => stop("was stopped: Layover is stopping");
  const timer = setTimeout(() => stop(`gave no answer within ${timeoutMs} ms and was stopped`), timeoutMs);
  signal.addEventListener("abort", onAbort, { once: true });

  child.on("error", (error) => {
    const code = "code" in error ? String(error.code) : error.name;
    reject(failed(name, `cannot be started: ${code}`));
  });
  // It may end without reading.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  child.stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.byteLength;
    if (bytes > MAX_OUTPUT_BYTES) stop(`wrote more than ${MAX_OUTPUT_BYTES} bytes and was stopped`);
    else chunks.push(chunk);
  });
  child.on("exit", () => endGroup(child.pid));
  child.on("close", (exitCode, killedBy) => {
    if (exitCode === null) reject(failed(name, `was ended by ${killedBy ?? "a signal"}`));
    else resolve({ exitCode, output: Buffer.concat(chunks).toString("utf8") });
  });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  });
}

function failed(name: string, why: string): UpstreamError {
  return new UpstreamError("token", `program ${name} ${why}`);
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    // Nobody is left in it: what was wanted.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
