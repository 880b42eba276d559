import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createHealth, type Failure, type HealthChange, type Turn } from "../../../src/upstream/health.ts";
import { upstreamAt } from "./fixture.ts";

const upstream = upstreamAt("https://one.test");
const other = upstreamAt("https://two.test");

const failureOf = (kind: Failure["kind"], more: Partial<Failure> = {}): Failure => ({
  kind,
  why: `${kind} for this test`,
  as: "connect",
  ...more,
});

function start(random = () => 0) {
  const clock = { ms: 0 };
  const changes: HealthChange[] = [];
  const healthOf = createHealth({ now: () => clock.ms, random, changed: (change) => void changes.push(change) });
  const health = healthOf({ key: "key" });
  return {
    clock,
    changes,
    healthOf,
    health,
    enter: () => health.enter(upstream),
    state: () => health.stateOf(upstream),
  };
}

/** Enters, which must be possible. */
function entered(turn: Turn | undefined): Turn {
  if (turn === undefined) throw new Error("expected a turn, got none");
  return turn;
}

describe("an upstream", () => {
  test("is asked by everybody while nothing failed", () => {
    const { enter, state } = start();
    const turns = [enter(), enter(), enter()];
    expect(turns.map((turn) => turn?.isProbe)).toEqual([false, false, false]);
    expect(state()).toEqual({ upstream: "one.test", state: "closed" });
  });

  test.each([
    ["unreached", 1],
    ["silent", 3],
    ["broken", 5],
  ] as const)("[R262] opens when it was %s %d times in a row", (kind, times) => {
    const { enter, state, changes } = start();
    for (let i = 1; i < times; i++) entered(enter()).failed(failureOf(kind));
    expect([state().state, changes]).toEqual(["closed", []]);
    entered(enter()).failed(failureOf(kind));
    expect(enter()).toBeUndefined();
    expect(state()).toMatchObject({ state: "open", forSeconds: 0, askedInSeconds: 5, why: "connect" });
    expect(changes).toMatchObject([{ registry: "key", upstream, to: "open" }]);
  });

  test("stays closed when an answer came between, and when a failure says nothing about it", () => {
    const { enter, state } = start();
    for (let i = 0; i < 50; i++) {
      for (let failures = 0; failures < 4; failures++) entered(enter()).failed(failureOf("broken"));
      for (let failures = 0; failures < 10; failures++) entered(enter()).failed(failureOf("unclear"));
      entered(enter()).answered();
    }
    expect(state().state).toBe("closed");
  });

  test("is known by its registry, origin and path, so that another is asked meanwhile", () => {
    const { health, healthOf, enter } = start();
    entered(enter()).failed(failureOf("unreached"));
    const byPath = upstreamAt("https://one.test/mirror");
    expect([health.mayAsk(upstream), health.mayAsk(byPath), health.mayAsk(other)]).toEqual([false, true, true]);
    expect(health.mayAsk({ ...upstream, namePrefix: "docker/" })).toBe(false);
    expect(healthOf({ key: "key" }).mayAsk(upstream)).toBe(true);
  });
});

describe("an open upstream", () => {
  test("[T6] is asked by one request when its moment has come, and others are refused meanwhile", () => {
    const { clock, enter, state } = start();
    entered(enter()).failed(failureOf("unreached"));
    clock.ms = 4_999;
    expect(enter()).toBeUndefined();
    clock.ms = 5_000;
    expect(state()).toMatchObject({ state: "half-open", askedInSeconds: 0 });
    const probe = entered(enter());
    expect([probe.isProbe, enter(), state().state]).toEqual([true, undefined, "half-open"]);
    clock.ms = 60_000;
    expect(enter()).toBeUndefined();
  });

  test("is left alone twice as long each time, for half a minute at most", () => {
    const { clock, enter, state } = start();
    const windows = [];
    for (let i = 0; i < 5; i++) {
      entered(enter()).failed(failureOf("unreached"));
      windows.push(state().askedInSeconds);
      clock.ms += (state().askedInSeconds ?? 0) * 1000;
    }
    expect(windows).toEqual([5, 10, 20, 30, 30]);
    entered(enter()).answered();
    entered(enter()).failed(failureOf("unreached"));
    expect(state().askedInSeconds).toBe(5);
  });

  test("is left alone for uneven times", () => {
    const { clock, enter } = start(() => 0.999);
    entered(enter()).failed(failureOf("unreached"));
    clock.ms = 4_000;
    expect(enter()).toBeUndefined();
    clock.ms = 4_002;
    expect(enter()).toBeDefined();
  });

  test.each([
    [12_000, 12],
    [100, 5],
    [86_400_000, 300],
  ])("[R211] that asks for %d ms is asked after %d s", (retryAfterMs, expected) => {
    const { enter, state } = start();
    for (let i = 0; i < 5; i++) entered(enter()).failed(failureOf("broken", { retryAfterMs }));
    expect(state().askedInSeconds).toBe(expected);
  });

  test("is asked by another when the one whose turn it was left", () => {
    const { clock, enter } = start();
    entered(enter()).failed(failureOf("unreached"));
    clock.ms = 5_000;
    const first = entered(enter());
    expect(enter()).toBeUndefined();
    first.left();
    const second = entered(enter());
    first.left(); // of no turn any more
    expect([second.isProbe, enter()]).toEqual([true, undefined]);
  });

  test("closes with any answer, also to who asked before it opened, and says how long it was away", () => {
    const { clock, enter, changes, state } = start();
    const early = entered(enter());
    entered(enter()).failed(failureOf("unreached"));
    clock.ms = 65_400;
    early.answered();
    expect(state().state).toBe("closed");
    expect(changes.map(({ to, message }) => `${to}: ${message}`)).toEqual([
      "open: the upstream gives no answer and is not asked for 5 s: unreached for this test",
      "closed: the upstream answers again, after 65.4 s",
    ]);
  });

  test("is not left alone longer for failures of those who asked before", () => {
    const { enter, state, changes } = start();
    const turns = Array.from({ length: 50 }, () => entered(enter()));
    for (const turn of turns) turn.failed(failureOf("unreached"));
    expect([state().askedInSeconds, changes.length]).toEqual([5, 1]);
  });

  test("stays open when the probe finds nothing out but a failure beside it", () => {
    const { clock, enter, state } = start();
    entered(enter()).failed(failureOf("unreached"));
    clock.ms = 5_000;
    entered(enter()).failed(failureOf("unclear"));
    expect(state()).toMatchObject({ state: "open", askedInSeconds: 10, forSeconds: 5 });
  });

  test("tells who is refused since when, until when and why", () => {
    const { clock, health, enter } = start();
    entered(enter()).failed(failureOf("unreached", { as: "tls" }));
    clock.ms = 1_000;
    entered(health.enter(other)).failed(failureOf("unreached"));
    clock.ms = 1_200;
    expect(health.refusal([upstream, other])).toMatchObject({
      kind: "tls",
      retryAfter: "4",
      message: "no answer for 1.2 s, asked again in 3.8 s: unreached for this test",
    });
    clock.ms = 5_000;
    enter();
    expect(health.refusal([upstream])).toMatchObject({
      retryAfter: "1",
      message: "no answer for 5 s, being asked just now: unreached for this test",
    });
  });
});

test("never two requests find out at once, nothing opens without failures, and what answers is asked again", () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("enter" as const) }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 40_000 }) }),
    fc.record({ do: fc.constantFrom("answered", "left", "failed" as const), turn: fc.nat(20), kind: fc.nat(3) }),
  );
  const kinds = ["unreached", "silent", "broken", "unclear"] as const;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.double({ min: 0, max: 0.99, noNaN: true }), (steps, random) => {
      const { clock, enter, state, changes } = start(() => random);
      const running = new Set<Turn>();
      let probe: Turn | undefined;
      let failuresInARow = 0;
      for (const action of steps) {
        const before = state().state;
        if (action.do === "wait") clock.ms += action.ms;
        if (action.do === "enter") {
          const turn = enter();
          expect(turn === undefined).toBe(before === "open" || (before === "half-open" && probe !== undefined));
          if (turn !== undefined) running.add(turn);
          if (turn?.isProbe === true) probe = turn;
        }
        if (action.do === "wait" || action.do === "enter") continue;
        const turn = [...running][action.turn % Math.max(1, running.size)];
        if (turn === undefined) continue;
        running.delete(turn);
        if (action.do === "answered" || turn === probe) probe = undefined;
        turn[action.do](failureOf(kinds[action.kind] ?? "broken"));
        failuresInARow = action.do === "answered" ? 0 : failuresInARow + (action.do === "failed" ? 1 : 0);
        if (action.do === "answered") expect(state().state).toBe("closed");
        if (before === "closed" && state().state !== "closed") expect(failuresInARow).toBeGreaterThan(0);
      }
      for (const turn of running) turn.left();
      clock.ms += 5 * 60_000;
      const last = enter(); // whatever happened, it is asked again, and one answer is enough
      entered(last).answered();
      expect([state().state, changes.filter(({ to }) => to === "open").length]).toEqual([
        "closed",
        changes.filter(({ to }) => to === "closed").length,
      ]);
    }),
    { numRuns: 1000 },
  );
});
