import { describe, expect, test } from "bun:test";
import { readCommandLine } from "../../../src/config/arguments.ts";

const flagsOf = (...argv: string[]) => Object.fromEntries(readCommandLine(argv).flags);
const problemsOf = (...argv: string[]) => readCommandLine(argv).problems.map(({ from, what }) => `${from}: ${what}`);

describe("readCommandLine()", () => {
  test.each([[["--listen=:1"]], [["--listen", ":1"]], [["-listen=:1"]], [["-listen", ":1"]]])(
    "[C31] reads %j: one or two dashes, = or a space",
    (argv) => expect(flagsOf(...argv)).toEqual({ listen: ":1" }),
  );

  test.each([
    [["--strict-hosts"], "true"],
    [["-strict-hosts"], "true"],
    [["--strict-hosts=false"], "false"],
    [["--no-strict-hosts"], "false"],
    [["--strict-hosts", "--no-strict-hosts"], "false"],
  ])("reads the switch %j as %p", (argv, text) => expect(flagsOf(...argv)).toEqual({ strictHosts: text }));

  test("collects repeated lists and lets the last of others win", () => {
    expect(flagsOf("--listen=:1", "-listen", ":2", "--log-level=info", "--log-level=warn")).toEqual({
      listen: ":1,:2",
      logLevel: "warn",
    });
  });

  test("finds command and operands wherever the flags stand", () => {
    expect(readCommandLine(["--listen", ":1", "setup", "-log-level=info", "docker"])).toMatchObject({
      command: "setup",
      operands: ["docker"],
    });
    expect(readCommandLine([]).command).toBeUndefined();
  });

  test.each([
    [["-help"], "help"],
    [["--help"], "help"],
    [["-h"], "help"],
    [["-version"], "version"],
    [["--version", "--help"], "help"],
  ] as const)("[C31] %j wants %p", (argv, wants) => expect(readCommandLine(argv).wants).toBe(wants));

  test.each([
    [["--listn=:1"], "flag --listn: unknown flag; did you mean --listen?"],
    [["-registry-mpa=x"], "flag --registry-mpa: unknown flag; did you mean --registry-map?"],
    [["--zzzzzzzzzzzzzz"], "flag --zzzzzzzzzzzzzz: unknown flag"],
    [["--no-listen"], "flag --no-listen: unknown flag; did you mean --listen?"],
    [["-l"], "flag -l: unknown flag"],
    [["--listen"], "flag --listen: expected a value: --listen=ADDRESS"],
    [["--listen="], "flag --listen: expected a value: --listen=ADDRESS"],
    [["--listen", "--strict-hosts"], "flag --listen: expected a value: --listen=ADDRESS"],
    [["--no-strict-hosts=true"], "flag --no-strict-hosts: expected no value; write --strict-hosts=true"],
  ])("[C31] tells what is wrong with %j", (argv, problem) => expect(problemsOf(...argv)).toEqual([problem]));

  test("takes words behind -- as they are", () => {
    expect(readCommandLine(["setup", "--", "-listen"])).toMatchObject({
      command: "setup",
      operands: ["-listen"],
      problems: [],
    });
  });
});

describe("flags of one command", () => {
  const own = (...argv: string[]) => Object.fromEntries(readCommandLine(argv).commandFlags);

  test("are read wherever they stand, with every value", () => {
    expect(own("cache", "ls", "--json")).toEqual({ json: [] });
    expect(own("--json", "cache", "-listen", ":1", "ls")).toEqual({ json: [] });
    expect(own("warm", "-f", "-", "-platform=linux/amd64", "a", "--platform", "linux/arm64")).toEqual({
      file: ["-"],
      platform: ["linux/amd64", "linux/arm64"],
    });
    expect(readCommandLine(["warm", "a", "-f", "x", "b"]).operands).toEqual(["a", "b"]);
  });

  test.each([
    [["serve", "--json"], "flag --json: unknown flag"],
    [["cache", "ls", "-f", "x"], "flag -f: unknown flag"],
    [["warm", "--platfrm", "x"], "flag --platfrm: unknown flag; did you mean --platform?"],
    [["cache", "--jso"], "flag --jso: unknown flag; did you mean --json?"],
    [["cache", "--json=yes"], "flag --json: expected no value; write --json"],
    [["warm", "-f"], "flag -f: expected a value: --file=FILE"],
    [["warm", "--file", "--url=x"], "flag --file: expected a value: --file=FILE"],
  ])("%j: %s", (argv, problem) => expect(problemsOf(...argv)).toEqual([problem]));
});
