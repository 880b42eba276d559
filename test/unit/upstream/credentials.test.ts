import { describe, expect, test } from "bun:test";
import { UpstreamError } from "../../../src/errors.ts";
import type { ConfiguredCredential, CredentialSource } from "../../../src/registry/registry.ts";
import type { Program, ProgramEnd } from "../../../src/upstream/credential-program.ts";
import { type CredentialNotice, createCredentials } from "../../../src/upstream/credentials.ts";
import { failureOf } from "./fixture.ts";

const ORIGIN = "https://reg.test";
const EXEC: CredentialSource = { kind: "exec", argv: ["mint", "--quiet"], timeoutMs: 1000, env: ["AWS_PROFILE"] };
const HELPER: CredentialSource = {
  kind: "helper",
  program: "docker-credential-x",
  serverUrl: "reg.test",
  timeoutMs: 1000,
  env: [],
};

function configured(source: CredentialSource): ConfiguredCredential {
  return { origin: ORIGIN, repositories: [], source };
}

/** Credentials whose programs answer what `answers` says next: an end, a text with exit code 0, or an error. */
function bench(answers: (string | ProgramEnd | Error | Promise<ProgramEnd>)[]) {
  const clock = { nowMs: 1_000_000_000_000 };
  const runs: Program[] = [];
  const notices: CredentialNotice[] = [];
  const credentials = createCredentials({
    now: () => clock.nowMs,
    env: { PATH: "/bin", HOME: "/root", AWS_PROFILE: "ci", OTHER: "x" },
    notice: (event) => void notices.push(event),
    async run(program) {
      runs.push(program);
      const next = answers.shift() ?? new Error("no answer left");
      if (next instanceof Error) throw next;
      return typeof next === "string" ? { exitCode: 0, output: next } : next;
    },
  });
  return { credentials, clock, runs, notices };
}

const answer = (password: string, expiresIn?: number) => JSON.stringify({ username: "u", password, expiresIn });
const settled = () => Bun.sleep(0);

describe("createCredentials()", () => {
  test("gives what the map holds at once, an identity token under docker's mark", async () => {
    const { credentials, runs } = bench([]);
    const password = configured({ kind: "password", username: "u", password: "p" });
    expect(await credentials.obtain(password)).toMatchObject({
      credential: { origin: ORIGIN, username: "u", password: "p" },
      expiresAtMs: undefined,
    });
    const token = configured({ kind: "identity-token", token: "t" });
    expect(await credentials.current(token)).toMatchObject({ username: "<token>", password: "t" });
    expect(runs).toEqual([]);
  });

  test("[R110] gives a new secret a new name, and none that tells it", async () => {
    const { credentials } = bench([]);
    const of = (password: string) => credentials.current(configured({ kind: "password", username: "u", password }));
    const [one, again, other] = [await of("hunter2"), await of("hunter2"), await of("hunter3")];
    expect(one.id).toBe(again.id);
    expect(one.id).not.toBe(other.id);
    expect(one.id).not.toContain("hunter2");
  });

  test("asks a program with an environment of what was asked for", async () => {
    const { credentials, runs } = bench([answer("p")]);
    expect(await credentials.current(configured(EXEC))).toMatchObject({ username: "u", password: "p" });
    expect(runs).toEqual([
      {
        argv: ["mint", "--quiet"],
        input: "",
        env: { PATH: "/bin", HOME: "/root", AWS_PROFILE: "ci" },
        timeoutMs: 1000,
      },
    ]);
  });

  test("asks docker's helpers by their protocol", async () => {
    const { credentials, runs } = bench(['{"ServerURL":"reg.test","Username":"<token>","Secret":"refresh"}']);
    expect(await credentials.current(configured(HELPER))).toMatchObject({ username: "<token>", password: "refresh" });
    expect(runs).toMatchObject([{ argv: ["docker-credential-x", "get"], input: "reg.test" }]);
  });

  test("asks once for all who wait, and keeps the answer", async () => {
    const slow = Promise.withResolvers<ProgramEnd>();
    const { credentials, runs } = bench([slow.promise]);
    const one = configured(EXEC);
    const waiting = [credentials.current(one), credentials.current(one), credentials.current(one)];
    slow.resolve({ exitCode: 0, output: answer("p", 100) });
    const ids = (await Promise.all(waiting)).map(({ id }) => id);
    expect(new Set(ids).size).toBe(1);
    await credentials.current(one);
    expect(runs).toHaveLength(1);
  });

  test.each([
    [100, 100],
    [undefined, 300],
    [10 * 86_400, 86_400],
  ])("renews behind requests at 80 %% of a life of %p s, taken as %d s", async (expiresIn, seconds) => {
    const { credentials, clock, runs } = bench([answer("old", expiresIn), answer("new", expiresIn)]);
    const one = configured(EXEC);
    const startMs = clock.nowMs;
    expect((await credentials.obtain(one)).expiresAtMs).toBe(startMs + seconds * 1000);
    clock.nowMs = startMs + seconds * 800 - 1;
    expect((await credentials.current(one)).password).toBe("old");
    expect(runs).toHaveLength(1);
    clock.nowMs += 1;
    expect((await credentials.current(one)).password).toBe("old");
    await settled();
    expect((await credentials.current(one)).password).toBe("new");
    expect(runs).toHaveLength(2);
  });

  test("waits for the program once what it told has expired", async () => {
    const { credentials, clock } = bench([answer("old", 10), answer("new", 10)]);
    const one = configured(EXEC);
    await credentials.current(one);
    clock.nowMs += 10_000;
    expect((await credentials.current(one)).password).toBe("new");
  });

  test("keeps what it holds while renewing fails, until it expires; then that is a token's failure", async () => {
    const failure = new UpstreamError("token", "program mint broke");
    const { credentials, clock, runs, notices } = bench([answer("old", 100), failure, failure, failure, answer("new")]);
    const one = configured(EXEC);
    await credentials.current(one);
    clock.nowMs += 80_000;
    for (let i = 0; i < 3; i++) {
      expect((await credentials.current(one)).password).toBe("old");
      await settled();
    }
    // Left alone for five seconds, then tried once more.
    expect(runs).toHaveLength(2);
    clock.nowMs += 5_000;
    await credentials.current(one);
    await settled();
    expect(runs).toHaveLength(3);
    clock.nowMs += 15_000;
    expect(await failureOf(credentials.current(one))).toBe(failure);
    expect(await failureOf(credentials.current(one))).toBe(failure);
    expect(runs).toHaveLength(4);
    expect(notices[0]).toEqual({ host: "reg.test", message: "credential not renewed: program mint broke" });
    clock.nowMs += 5_000;
    expect((await credentials.current(one)).password).toBe("new");
  });

  test.each([
    [{ exitCode: 3, output: "hunter2" }, EXEC, "program mint ended with exit code 3"],
    [{ exitCode: 1, output: "hunter2" }, HELPER, "program docker-credential-x ended with exit code 1"],
    [
      { exitCode: 1, output: "credentials not found in native keychain\n" },
      HELPER,
      "program docker-credential-x has no credentials for reg.test",
    ],
    ["hunter2", EXEC, "program mint: expected JSON with username and password, or a token"],
  ])("[R248] says what is wrong with %j, and nothing of it", async (end, source, message) => {
    const { credentials, notices } = bench([end]);
    const error = await failureOf(credentials.current(configured(source)));
    expect(error).toMatchObject({ kind: "token", message });
    expect(JSON.stringify([error, notices, String(error)])).not.toContain("hunter2");
  });

  test("asks anew for a credential that its registry refused, at most once in 30 s", async () => {
    const { credentials, clock, runs } = bench([answer("old", 1000), answer("new", 1000), answer("newer", 1000)]);
    const one = configured(EXEC);
    const old = await credentials.current(one);
    credentials.refused(old);
    const fresh = await credentials.current(one);
    expect([fresh.password, runs.length]).toEqual(["new", 2]);
    credentials.refused(old); // late, and no longer held
    credentials.refused(fresh);
    expect([(await credentials.current(one)).password, runs.length]).toEqual(["new", 2]);
    clock.nowMs += 30_000;
    credentials.refused(fresh);
    expect((await credentials.current(one)).password).toBe("newer");
  });

  test("close() tells programs that run to end", async () => {
    const started = Promise.withResolvers<AbortSignal>();
    const credentials = createCredentials({
      run: (_, signal) => {
        started.resolve(signal);
        return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    });
    const asked = failureOf(credentials.current(configured(EXEC)));
    const signal = await started.promise;
    credentials.close();
    expect(signal.aborted).toBe(true);
    await asked;
  });

  test("goes on with a refused credential when its program fails: it may lack a right only", async () => {
    const { credentials } = bench([answer("old", 1000), new UpstreamError("token", "x")]);
    const one = configured(EXEC);
    credentials.refused(await credentials.current(one));
    expect((await credentials.current(one)).password).toBe("old");
    credentials.refused({ origin: ORIGIN, id: "a client's", username: "u", password: "p" });
  });
});
