import { describe, expect, test } from "bun:test";
import path from "node:path";
import { createLogBatches } from "../../src/log-batches.ts";
import { RegistryError, UpstreamError } from "../../src/errors.ts";
import { createLog, withoutRedaction } from "../../src/log.ts";

const INFO = 30;
const WARN = 40;

/** Batches with a clock that stands until it is told to go on. */
function fixture() {
  const writes: string[] = [];
  const due: { atMs: number; callback: () => void }[] = [];
  let nowMs = 0;
  const batches = createLogBatches({
    output: (lines) => void writes.push(lines),
    now: () => nowMs,
    later: (callback, delayMs) => void due.push({ atMs: nowMs + delayMs, callback }),
  });
  return {
    writes,
    batches,
    write(line: string, level = INFO) {
      batches.lastLevel = level;
      batches.write(line);
    },
    pass(ms: number) {
      nowMs += ms;
      for (const { callback } of due.splice(0).filter(({ atMs }) => atMs <= nowMs)) callback();
    },
  };
}

describe("createLogBatches()", () => {
  test("write() is immediate when nothing was written lately", () => {
    const { writes, write, pass } = fixture();
    write("a\n");
    pass(10);
    write("b\n");
    expect(writes).toEqual(["a\n", "b\n"]);
  });

  test("write() keeps lines that follow closely, and writes them in one piece and in order", () => {
    const { writes, write, pass } = fixture();
    for (const line of ["a\n", "b\n", "c\n"]) write(line);
    expect(writes).toEqual(["a\n"]);
    pass(10);
    expect(writes).toEqual(["a\n", "b\nc\n"]);
    pass(100);
    expect(writes).toHaveLength(2);
  });

  test("a warning is written at once, behind what waits", () => {
    const { writes, write } = fixture();
    for (const line of ["a\n", "b\n"]) write(line);
    write("worse\n", WARN);
    expect(writes).toEqual(["a\n", "b\nworse\n"]);
  });

  test("a batch that grows large is written before its time", () => {
    const { writes, write } = fixture();
    write("a\n");
    const line = `${"x".repeat(1023)}\n`;
    for (let i = 0; i < 64; i += 1) write(line);
    expect(writes).toEqual(["a\n", line.repeat(64)]);
  });

  test("flush() writes what waits, once", () => {
    const { writes, write, batches, pass } = fixture();
    for (const line of ["a\n", "b\n"]) write(line);
    batches.flush();
    batches.flush();
    pass(10);
    expect(writes).toEqual(["a\n", "b\n"]);
  });
});

/** Runs a program that makes a log and does what `body` says with it; what it printed. */
async function linesOf(body: string): Promise<string[]> {
  const source = JSON.stringify(path.resolve(import.meta.dir, "../../src/log.ts"));
  const script = `import { createLog } from ${source}; const log = createLog({ level: "info", format: "json" }); ${body}`;
  const child = Bun.spawn([process.execPath, "--no-env-file", "-e", script], { stdout: "pipe", stderr: "ignore" });
  const text = await new Response(child.stdout).text();
  await child.exited;
  return text.split("\n").filter(Boolean);
}

const MANY = `for (let i = 0; i < 5000; i += 1) log.info({ i }, "line");`;

describe("createLog()", () => {
  test.each([
    ["comes to its end", MANY],
    ["calls process.exit", `${MANY} process.exit(0);`],
    ["ends by an error that nobody caught", `${MANY} throw new Error("uncaught");`],
    ["ends by a rejection that nobody caught", `${MANY} Promise.reject(new Error("unhandled"));`],
    [
      "drains after a signal",
      `process.on("SIGTERM", () => { ${MANY} process.exit(0); }); process.kill(process.pid, "SIGTERM"); setTimeout(() => {}, 5000);`,
    ],
  ])("loses no line when the program %s", async (_, body) => {
    const lines = await linesOf(body);
    expect(lines.map((line) => JSON.parse(line).i)).toEqual(Array.from({ length: 5000 }, (_, i) => i));
  });

  test("takes secrets out of what is logged, and withoutRedaction() leaves that to the caller", () => {
    const lines: string[] = [];
    const log = createLog(
      { level: "info", format: "json" },
      { destination: { write: (line) => void lines.push(line) } },
    );
    log.info({ token: "s3cret", nested: { password: "s3cret" } }, "redacted");
    withoutRedaction(log).info({ id: "1" }, "plain");
    expect(lines.join("")).not.toContain("s3cret");
    expect(JSON.parse(lines[1] ?? "")).toEqual({ level: "info", time: expect.any(String), id: "1", msg: "plain" });
  });
});

test("an error of ours is logged with its message and what is behind it, and without its stack", () => {
  const lines: string[] = [];
  const log = createLog(
    { level: "debug", format: "json" },
    { destination: { write: (line) => void lines.push(line) } },
  );
  const cause = new UpstreamError("connect", "no connection to port 443 of reg.test", {
    cause: new Error("refused at ?signature=x"),
  });
  log.debug({ cause }, "asked");
  log.warn({ err: new RegistryError("UNAVAILABLE", "the registry cannot be reached", { cause }) }, "failed");
  log.warn({ err: new Error("a defect") }, "unexpected");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { cause: { type: "UpstreamError", kind: "connect", message: cause.message } },
    { err: { type: "RegistryError", code: "UNAVAILABLE", status: 503, reason: cause.message } },
    { err: { type: "Error", message: "a defect", stack: expect.stringContaining("log.test.ts") } },
  ]);
  expect(lines.slice(0, 2).join("")).not.toMatch(/stack|signature/);
});
