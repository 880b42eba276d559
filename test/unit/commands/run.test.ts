/** What commands refuse before they do anything. */
import { describe, expect, test } from "bun:test";
import { run, type Surroundings } from "../../../src/commands/run.ts";

function surroundings(told: { out: string; err: string }): Surroundings {
  return {
    env: {},
    process: { on: () => process },
    isTerminal: false,
    startServer: () => Promise.reject(new Error("nothing is to be started")),
    print: (text) => void (told.out += text),
    complain: (text) => void (told.err += text),
  };
}

describe("bad usage ends with 2", () => {
  test.each([
    [["cache"], "cache: expected ls, rm, pin, unpin, verify, prune, stats"],
    [["cache", "lss"], "cache: unknown command lss; did you mean ls?"],
    [["cache", "rm"], "cache rm: expected IMAGE|DIGEST…"],
    [["cache", "stats", "x"], "cache stats: unexpected argument x"],
    [["cache", "ls", "--jsn"], "flag --jsn: unknown flag; did you mean --json?"],
    [["cache", "ls"], "cache: expected --cache-dir or LAYOVER_CACHE_DIR"],
    [["serve", "--json"], "flag --json: unknown flag"],
    [["warm"], "warm: expected IMAGE… or --file=FILE"],
    [["warm", "A"], 'expected an image such as nginx:1.27 or quay.io/org/app, got "A"'],
    [
      ["warm", "a", "--platform=x"],
      'flag --platform: expected all or a platform such as linux/arm64 or linux/arm/v7, got "x"',
    ],
    [["warm", "-f", "none.txt"], "flag --file: cannot read the names of images: ENOENT"],
  ])("layover %j: %s", async (argv, message) => {
    const told = { out: "", err: "" };
    const code = await run(argv, surroundings(told));
    expect({ code, out: told.out }).toEqual({ code: 2, out: "" });
    expect(told.err).toContain(message);
  });
});
