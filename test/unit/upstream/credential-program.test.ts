import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import { runProgram } from "../../../src/upstream/credential-program.ts";
import { createTempDir } from "../../support/temp-dir.ts";
import { failureOf } from "./fixture.ts";

const dir = await createTempDir("layover-programs-");
afterAll(() => dir.remove());

const PATH = process.env["PATH"] ?? "";

/** A program of one shell script, by absolute path. */
async function script(name: string, text: string): Promise<string> {
  await writeFile(dir.file(name), `#!/bin/sh\n${text}\n`);
  await chmod(dir.file(name), 0o755);
  return dir.file(name);
}

function run(argv: [string, ...string[]], changes: Partial<Parameters<typeof runProgram>[0]> = {}) {
  const { signal } = new AbortController();
  return runProgram({ argv, input: "", env: { PATH }, timeoutMs: 5_000, ...changes }, signal);
}

/** Whether a process is there. */
function isAlive(pid: number): boolean {
  // A zombie is no process that does anything: whoever is its parent has not asked yet.
  if (!existsSync(`/proc/${pid}/stat`)) return false;
  return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
}

async function gone(pid: number): Promise<void> {
  for (let i = 0; i < 200 && isAlive(pid); i++) await Bun.sleep(10);
  expect(isAlive(pid)).toBe(false);
}

describe("runProgram()", () => {
  test("gives it its arguments as they are, its input, and no environment but its own", async () => {
    const program = await script("plain", 'printf "%s|" "$@"; cat; env | sort | grep -v "^PWD=\\|^_=\\|^SHLVL="; pwd');
    const end = await run([program, "$HOME", "a b; echo x"], { input: "https://x", env: { PATH, ONE: "1" } });
    expect(end).toEqual({ exitCode: 0, output: `$HOME|a b; echo x|https://xONE=1\nPATH=${PATH}\n/\n` });
  });

  test("tells an exit code, and a program that reads nothing", async () => {
    const program = await script("fails", "echo out; echo hunter2 >&2; exit 3");
    expect(await run([program], { input: "x".repeat(100_000) })).toEqual({ exitCode: 3, output: "out\n" });
  });

  test("finds a name in PATH, and says when there is none", async () => {
    expect(await run(["echo", "x"])).toEqual({ exitCode: 0, output: "x\n" });
    expect(String(await failureOf(run(["no-such-program"])))).toContain("no-such-program cannot be started: ENOENT");
    await writeFile(dir.file("plain-file"), "x");
    expect(await failureOf(run([dir.file("plain-file")]))).toMatchObject({ kind: "token" });
  });

  test("ends one that takes too long, with all that it started", async () => {
    const program = await script("slow", `sleep 60 & echo $! > ${dir.file("pid")}; echo hunter2; wait`);
    const error = await failureOf(run([program], { timeoutMs: 300 }));
    expect(error).toMatchObject({ kind: "token", message: expect.stringContaining("no answer within 300 ms") });
    expect(String(error)).not.toContain("hunter2");
    await gone(Number(readFileSync(dir.file("pid"), "utf8")));
  });

  test("does not wait for what an ended program left behind", async () => {
    const program = await script("leaves", `sleep 60 & echo $! > ${dir.file("left")}; echo done`);
    expect(await run([program])).toEqual({ exitCode: 0, output: "done\n" });
    await gone(Number(readFileSync(dir.file("left"), "utf8")));
  });

  test("ends one that writes without end", async () => {
    const error = await failureOf(run(["yes", "hunter2"]));
    expect(error).toMatchObject({ kind: "token", message: "program yes wrote more than 65536 bytes and was stopped" });
  });

  test("ends one when it is told to stop, and starts none afterwards", async () => {
    const stop = new AbortController();
    const program = { argv: ["sleep", "60"], input: "", env: { PATH }, timeoutMs: 20_000 } as const;
    const running = failureOf(runProgram(program, stop.signal));
    stop.abort();
    expect(String(await running)).toContain("Layover is stopping");
    expect(String(await failureOf(runProgram(program, stop.signal)))).toContain("was not started");
  });

  test("tells one that was killed", async () => {
    const program = await script("killed", "kill -9 $$");
    expect(String(await failureOf(run([program])))).toContain("was ended by SIGKILL");
  });
});
