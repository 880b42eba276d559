/** Runs one program to its end. */
import { cleanEnvironment } from "./daemon.ts";

export interface RunOptions {
  env?: Record<string, string>;
  stdin?: string;
  /** Default 120 s: the largest pull takes a few. */
  timeoutMs?: number;
}

/** What the program printed, trimmed. @throws Error with its complaint when it failed */
export async function run(command: string[], options: RunOptions = {}): Promise<string> {
  const child = Bun.spawn(command, {
    env: { ...cleanEnvironment(), ...options.env },
    stdin: options.stdin === undefined ? "ignore" : Buffer.from(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeoutMs ?? 120_000,
    killSignal: "SIGKILL",
  });
  const [output, complaint, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${lastLine(complaint) || lastLine(output)}`);
  return output.trim();
}

/** Whether a program of this name is on the path, or is one. */
export function hasProgram(name: string): boolean {
  return Bun.which(name) !== null;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
