import { expect, test } from "bun:test";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createLog } from "../../../src/log.ts";
import { openState } from "../../../src/proxy/state.ts";

function quietLog() {
  const lines: string[] = [];
  return {
    lines,
    log: createLog({ level: "warn", format: "json" }, { destination: { write: (line) => void lines.push(line) } }),
  };
}

async function inTempDir(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), "layover-state-"));
  try {
    await run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("openState() makes key and pseudonym once, 0600, and finds them again", () =>
  inTempDir(async (directory) => {
    const { log, lines } = quietLog();
    const inner = path.join(directory, "new");
    const first = await openState(inner, log);
    const second = await openState(inner, log);
    expect(first.tokenKey).toHaveLength(32);
    expect(second).toEqual(first);
    expect((await stat(path.join(inner, "token.key"))).mode & 0o777).toBe(0o600);
    expect(lines).toEqual([]);
  }));

test("openState() gives one key to two processes that start at once", () =>
  inTempDir(async (directory) => {
    const { log } = quietLog();
    const states = await Promise.all(Array.from({ length: 8 }, () => openState(directory, log)));
    expect(new Set(states.map((state) => Buffer.from(state.tokenKey).toString("hex"))).size).toBe(1);
  }));

test("openState() goes on with a key of its own where the directory cannot be used, and says so once", () =>
  inTempDir(async (directory) => {
    const { log, lines } = quietLog();
    const file = path.join(directory, "file");
    await writeFile(file, "");
    const state = await openState(path.join(file, "below"), log);
    expect(state.tokenKey).toHaveLength(32);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("--state-dir");
  }));

test("openState() does not take a damaged key for a key", () =>
  inTempDir(async (directory) => {
    const { log, lines } = quietLog();
    await writeFile(path.join(directory, "token.key"), "zz");
    await openState(directory, log);
    expect(lines[0]).toContain("expected 64 hex digits");
    expect(lines[0]).not.toContain("zz");
  }));
