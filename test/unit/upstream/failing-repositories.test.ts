/** An upstream that answers, but badly: whoever asks for what makes it fail closes it to himself, and to nobody else. */
import { describe, expect, test } from "bun:test";
import { createHealth, type Failure, type Turn } from "../../../src/upstream/health.ts";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient, upstreamAt } from "./fixture.ts";

const upstream = upstreamAt("https://one.test");
const failure = (kind: Failure["kind"]): Failure => ({ kind, why: `${kind} for this test`, as: "bad-answer" });

function start() {
  const clock = { ms: 0 };
  const healthOf = createHealth({ now: () => clock.ms, random: () => 0, changed: () => undefined });
  const registry = { key: "key" };
  return {
    clock,
    mayAsk: (repository?: string) => healthOf(registry, repository).mayAsk(upstream),
    state: () => healthOf(registry).stateOf(upstream).state,
    enter(repository: string): Turn {
      const turn = healthOf(registry, repository).enter(upstream);
      if (turn === undefined) throw new Error(`expected a turn for ${repository}, got none`);
      return turn;
    },
  };
}

/** Opened by failures of these repositories in turn. */
function opened(...repositories: string[]) {
  const started = start();
  for (let i = 0; i < 5; i++) started.enter(repositories[i % repositories.length] ?? "").failed(failure("broken"));
  expect(started.state()).toBe("open");
  return started;
}

describe("an upstream that fails some repositories", () => {
  test("[R262] is open for those and asked for others, whose answer closes it", () => {
    const { mayAsk, enter, state } = opened("org/odd-1", "org/odd-2");
    expect(["org/odd-1", "org/odd-2", "org/app", undefined].map(mayAsk)).toEqual([false, false, true, true]);
    enter("org/app").answered();
    expect([state(), mayAsk("org/odd-1")]).toEqual(["closed", true]);
  });

  test("is asked once for each other repository until its moment has come", () => {
    const { mayAsk, enter, clock } = opened("org/odd");
    const turn = enter("org/app");
    expect([turn.isProbe, mayAsk("org/app")]).toEqual([true, false]);
    turn.left();
    expect(mayAsk("org/app")).toBe(true);
    const second = enter("org/app");
    second.failed(failure("broken"));
    second.left();
    expect([mayAsk("org/app"), mayAsk("org/third")]).toEqual([false, true]);
    clock.ms = 5_000;
    enter("org/odd").failed(failure("broken"));
    expect([mayAsk("org/odd"), mayAsk("org/app")]).toEqual([false, true]);
  });

  test("is open for all when no connection comes about, whoever finds it out", () => {
    const beside = opened("org/odd");
    beside.enter("org/app").failed(failure("unreached"));
    expect([beside.mayAsk("org/third"), beside.mayAsk()]).toEqual([false, false]);
    const probed = opened("org/odd");
    probed.clock.ms = 5_000;
    probed.enter("org/odd").failed(failure("silent"));
    expect([probed.mayAsk("org/third"), probed.mayAsk()]).toEqual([false, false]);
  });

  test("is asked by the next when the probe finds out nothing, but not for the same repository", () => {
    const { clock, enter, mayAsk } = opened("org/odd");
    clock.ms = 5_000;
    enter("org/odd").failed(failure("unclear"));
    expect([mayAsk("org/odd"), mayAsk("org/app")]).toEqual([false, true]);
  });

  test("remembers a thousand of them", () => {
    const { enter, mayAsk } = opened("org/odd");
    for (let i = 0; i < 1_000; i++) enter(`org/odd-${i}`).failed(failure("broken"));
    expect([mayAsk("org/odd-0"), mayAsk("org/odd-999"), mayAsk("org/odd")]).toEqual([false, false, true]);
  });
});

test("a client that asks for what makes a registry fail takes it from nobody", async () => {
  const registry = await fakeRegistry();
  registry.add("library/busybox", makeImage());
  registry.faults.manifest.match = ({ path }) => path.includes("odd");
  registry.faults.manifest.status = 500;
  const at = registryAt(registry.url);
  const client = testClient();
  for (let i = 0; i < 20; i++) {
    await bytesOf(await client.send(ask(at, { repository: `org/odd-${i % 5}` }))).catch(() => undefined);
    if (client.health(at)[0]?.state === "open") break;
  }
  expect(client.health(at)).toMatchObject([{ state: "open" }]);
  expect(await failureOf(client.send(ask(at, { repository: "org/odd-0" })))).toMatchObject({ retryAfter: "5" });
  const answer = await client.send(ask(at));
  await bytesOf(answer);
  expect(answer.status).toBe(200);
});
