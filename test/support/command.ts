/** Runs a command of the program to its end, as an operator does: from source, or the binary that LAYOVER_BINARY names. */
import { programCommand } from "./layover.ts";

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CommandOptions {
  /** The working directory and home: one without `.env`, `bunfig.toml` or settings. */
  readonly cwd: string;
  /** Standard input; default nothing. */
  readonly input?: string;
}

export async function runCommand(argv: readonly string[], { cwd, input = "" }: CommandOptions): Promise<Ended> {
  const child = Bun.spawn([...programCommand(), ...argv], {
    cwd,
    env: { PATH: process.env["PATH"], HOME: cwd },
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out, err };
}
