import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UpstreamError } from "../../../src/errors.ts";
import type { Asking } from "../../../src/upstream/account.ts";
import type { HttpResponse } from "../../../src/upstream/http.ts";
import { createQuota, type QuotaNotice } from "../../../src/upstream/quota.ts";
import type { Credential } from "../../../src/upstream/request.ts";
import { failureOf, registryAt } from "./fixture.ts";

const HUB = "https://hub.test";
const registry = registryAt(HUB, { key: "docker" });
const alice = account("alice");
const bob = account("bob");

function account(name: string): Credential {
  return { origin: HUB, id: `configured:${name}`, username: name, password: "secret", account: name };
}

function pulls(credential?: Credential, changes: Partial<Asking> = {}): Asking {
  return { registry, origin: HUB, credential, subject: "manifests", ...changes };
}

function answer(status: number, headers: Record<string, string> = {}): HttpResponse {
  const url = new URL(`${HUB}/v2/a/manifests/b`);
  return { status, headers: new Headers(headers), body: null, url, addressKind: "public" };
}

function left(limit: number, remaining: number): Record<string, string> {
  return { "ratelimit-limit": `${limit};w=21600`, "ratelimit-remaining": `${remaining};w=21600` };
}

function start(nowMs = Date.parse("2026-11-21T12:00:00Z")) {
  const clock = { nowMs };
  const notices: QuotaNotice[] = [];
  const quota = createQuota({}, { now: () => clock.nowMs, notice: (event) => void notices.push(event) });
  const counted = { asked: 0 };
  const limits = () => ({ signal: new AbortController().signal, deadlineMs: performance.now() + 5_000 });
  async function ask(asking: Asking, status: number, headers: Record<string, string> = {}) {
    return quota.through(asking, limits(), async () => {
      counted.asked += 1;
      return answer(status, headers);
    });
  }
  /** The seconds that are told, or the status. */
  async function outcome(asking: Asking, status = 200, headers: Record<string, string> = {}) {
    try {
      return (await ask(asking, status, headers)).status;
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.status !== 429) throw error;
      return `limited for ${error.retryAfter} s`;
    }
  }
  return { quota, clock, notices, counted, ask, outcome, limits };
}

describe("a limited account", () => {
  test.each([
    ["as long as it was told", "37", 37],
    ["until a date", "Sat, 21 Nov 2026 12:01:30 GMT", 90],
    ["a minute where nothing is told", undefined, 60],
    ["a second where it is told to come at once", "0", 1],
    ["six hours at most", "99999999", 21_600],
  ])("[R211] is not asked %s", async (_title, retryAfter, seconds) => {
    const { clock, counted, outcome } = start();
    const headers = retryAfter === undefined ? {} : { "retry-after": retryAfter };
    expect(await outcome(pulls(), 429, headers)).toBe(`limited for ${seconds} s`);
    clock.nowMs += seconds * 1000 - 500;
    expect(await outcome(pulls())).toBe("limited for 1 s");
    expect(counted.asked).toBe(1);
    clock.nowMs += 500;
    expect(await outcome(pulls())).toBe(200);
    expect(counted.asked).toBe(2);
  });

  test("[R211] that is told nothing waits twice as long each time, a quarter of an hour at most", async () => {
    const { clock, outcome } = start();
    const spans: unknown[] = [];
    for (let i = 0; i < 6; i++) {
      const told = await outcome(pulls(), 429);
      spans.push(told);
      clock.nowMs += Number(/\d+/.exec(String(told))?.[0]) * 1000;
    }
    expect(spans).toEqual([60, 120, 240, 480, 900, 900].map((seconds) => `limited for ${seconds} s`));
    expect(await outcome(pulls())).toBe(200);
    expect(await outcome(pulls(), 429)).toBe("limited for 60 s");
  });

  test("[R211] leaves other accounts, origins, ways out and tokens alone", async () => {
    const { outcome } = start();
    await outcome(pulls(alice), 429, { "retry-after": "600" });
    const throughProxy = registryAt(HUB, { key: "docker", proxy: "http://10.0.0.1:3128" });
    for (const other of [
      pulls(),
      pulls(bob),
      pulls(alice, { origin: "https://mirror.test" }),
      pulls(alice, { registry: throughProxy }),
      pulls(alice, { subject: "tokens" }),
    ])
      expect(await outcome(other)).toBe(200);
    expect(await outcome(pulls(alice))).toBe("limited for 600 s");
  });

  test("[R178, R211] is asked by one of fifty when its time is over, and what that one finds is true for all", async () => {
    for (const status of [200, 429]) {
      const { quota, clock, counted, outcome, limits } = start();
      await outcome(pulls(), 429, { "retry-after": "10" });
      clock.nowMs += 10_000;
      const { promise, resolve } = Promise.withResolvers<HttpResponse>();
      const first = quota
        .through(pulls(), limits(), () => promise)
        .then(
          ({ status: found }) => found,
          (error: unknown) => (error instanceof UpstreamError ? error.kind : error),
        );
      const others = Array.from({ length: 49 }, () => outcome(pulls()));
      expect(counted.asked).toBe(1);
      resolve(answer(status, { "retry-after": "20" }));
      expect(await first).toBe(status === 200 ? 200 : "limited");
      const expected = status === 200 ? 200 : "limited for 20 s";
      expect(await Promise.all(others)).toEqual(others.map(() => expected));
      expect(counted.asked).toBe(status === 200 ? 50 : 1);
    }
  });

  test("[R211] is found out about by the next when the first brought no answer", async () => {
    const { quota, clock, outcome, limits } = start();
    await outcome(pulls(), 429, { "retry-after": "10" });
    clock.nowMs += 10_000;
    const failing = quota.through(pulls(), limits(), async () => {
      throw new UpstreamError("connect", "gone");
    });
    const next = outcome(pulls());
    expect(await failureOf(failing)).toMatchObject({ kind: "connect" });
    expect(await next).toBe(200);
  });

  test("[R211] stays limited though what was asked before is answered after", async () => {
    const { quota, outcome, limits } = start();
    const { promise, resolve } = Promise.withResolvers<HttpResponse>();
    const slow = quota.through(pulls(), limits(), () => promise);
    await outcome(pulls(), 429, { "retry-after": "10" });
    resolve(answer(200));
    expect((await slow).status).toBe(200);
    expect(await outcome(pulls())).toBe("limited for 10 s");
  });

  test("[R207, C11] is told of in one line, and when it is over in another", async () => {
    const { clock, notices, outcome } = start();
    const headers = { ...left(100, 0), "docker-ratelimit-source": "192.0.2.1", "retry-after": "90" };
    await Promise.all(Array.from({ length: 50 }, () => outcome(pulls(alice), 429, headers)));
    const common = { registry: "docker", host: "hub.test", limit: 100, remaining: 0, source: "192.0.2.1" };
    const message = "hub.test limits pulls of account alice: asked again at 2026-11-21T12:01:30.000Z";
    expect(notices.splice(0)).toEqual([{ ...common, retryAfter: "90", message }]);
    clock.nowMs += 90_000;
    await outcome(pulls(alice), 200, left(100, 99));
    expect(notices).toMatchObject([{ message: "hub.test no longer limits pulls of account alice", remaining: 99 }]);
  });

  test("[R207] of a client has no name anywhere", async () => {
    const { quota, notices, outcome } = start();
    await outcome(pulls({ origin: HUB, id: "own", username: "carol", password: "secret" }), 429, left(100, 0));
    expect(notices[0]?.message).toStartWith("hub.test limits pulls of a client's account");
    expect([JSON.stringify(notices), quota.readings()]).toEqual([expect.not.stringContaining("carol"), []]);
  });

  test("[R208] with no pull left is not thought well again because a look was free", async () => {
    const { clock, counted, notices, outcome } = start();
    await outcome(pulls(), 429, left(100, 0));
    clock.nowMs += 60_000;
    expect(await outcome(pulls(), 200, left(100, 0))).toBe(200);
    expect([await outcome(pulls()), counted.asked]).toEqual(["limited for 120 s", 2]);
    clock.nowMs += 120_000;
    expect(await outcome(pulls(), 200, left(100, 1))).toBe(200);
    expect(notices.map(({ message }) => message.includes("no longer"))).toEqual([false, true]);
  });
});

/** What the property does, one step after the other. */
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("ask" as const),
      who: fc.constantFrom(undefined, alice, bob),
      status: fc.constantFrom(200, 304, 404, 429, 500),
      retryAfter: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
    }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 400_000 }) }),
  ),
  { maxLength: 60 },
);

test("[R211, T8] no limited account is asked before its time, and every other may ask", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (taken) => {
      const { clock, counted, outcome } = start();
      const untilMs = new Map<Credential | undefined, number>();
      for (const step of taken) {
        if (step.kind === "wait") {
          clock.nowMs += step.ms;
          continue;
        }
        const before = counted.asked;
        const headers = step.retryAfter === undefined ? {} : { "retry-after": String(step.retryAfter) };
        const told = await outcome(pulls(step.who), step.status, headers);
        const isLimited = (untilMs.get(step.who) ?? 0) > clock.nowMs;
        expect(counted.asked - before).toBe(isLimited ? 0 : 1);
        const seconds = Number(/limited for (\d+) s/.exec(String(told))?.[1] ?? 0);
        expect(seconds > 0).toBe(isLimited || step.status === 429);
        if (seconds > 0 && !isLimited) untilMs.set(step.who, clock.nowMs + seconds * 1000);
        expect(seconds).toBeLessThanOrEqual(21_600);
        if (step.retryAfter !== undefined && seconds > 0 && !isLimited)
          expect(seconds).toBe(Math.min(Math.max(step.retryAfter, 1), 21_600));
      }
    }),
    { numRuns: 200 },
  );
});

describe("accounts in turn", () => {
  async function names(told: [Credential | undefined, number, Record<string, string>][]) {
    const { quota, outcome } = start();
    for (const [who, status, headers] of told) await outcome(pulls(who), status, headers);
    return quota
      .inTurn(registry, [alice, bob])
      .map((identity) => (identity.kind === "anonymous" ? "nobody" : identity.credential.username));
  }

  test.each([
    ["as configured while nothing is known", [], ["alice", "bob", "nobody"]],
    ["most pulls left first", [[alice, 200, left(200, 20)], [bob, 200, left(200, 150)]], ["bob", "alice", "nobody"]], // prettier-ignore
    ["unlimited before any number", [[alice, 200, left(9000, 9000)], [bob, 200, {}]], ["bob", "alice", "nobody"]], // prettier-ignore
    ["the same one while they are nearly equal", [[alice, 200, left(200, 141)], [bob, 200, left(200, 149)]], ["alice", "bob", "nobody"]], // prettier-ignore
    ["limited ones after nobody", [[alice, 429, { "retry-after": "60" }]], ["bob", "nobody", "alice"]],
    ["all limited: who is free first", [[alice, 429, { "retry-after": "60" }], [bob, 429, { "retry-after": "30" }], [undefined, 429, { "retry-after": "90" }]], ["bob", "alice", "nobody"]], // prettier-ignore
  ] as [string, [Credential | undefined, number, Record<string, string>][], string[]][])(
    "[R206] inTurn() has %s",
    async (_title, told, expected) => {
      expect(await names(told)).toEqual(expected);
    },
  );
});

describe("isShort()", () => {
  test.each([
    ["nothing is known", [], false],
    ["nobody has a tenth", [[undefined, left(100, 10)]], false],
    ["nobody has less than a tenth", [[undefined, left(100, 9)]], true],
    [
      "an account has plenty",
      [
        [undefined, left(100, 0)],
        [alice, left(200, 150)],
      ],
      false,
    ],
    [
      "one of two accounts has plenty",
      [
        [alice, left(200, 0)],
        [bob, left(200, 150)],
      ],
      false,
    ],
    [
      "an account is unlimited",
      [
        [alice, left(200, 0)],
        [bob, {}],
      ],
      false,
    ],
    [
      "all accounts are short, nobody is not",
      [
        [undefined, left(100, 90)],
        [alice, left(200, 3)],
      ],
      true,
    ],
  ] as [string, [Credential | undefined, Record<string, string>][], boolean][])(
    "[R206] when %s",
    async (_title, told, expected) => {
      const { quota, outcome } = start();
      for (const [who, headers] of told) await outcome(pulls(who), 200, headers);
      expect(quota.isShort(registry)).toBe(expected);
    },
  );

  test("[R206] is forgotten with the window", async () => {
    const { quota, clock, outcome } = start();
    await outcome(pulls(), 200, left(100, 1));
    clock.nowMs += 6 * 60 * 60_000 + 1;
    expect([quota.isShort(registry), quota.readings()[0]?.remaining]).toEqual([false, undefined]);
  });
});

test("[R207] readings() has what accounts have left, and how long they are limited", async () => {
  const { quota, outcome } = start();
  await outcome(pulls(alice), 200, left(200, 20));
  await outcome(pulls(), 429, { "retry-after": "77" });
  const common = { registry: "docker", upstream: "hub.test" };
  expect(quota.readings()).toEqual([
    { ...common, account: "alice", limit: 200, remaining: 20, limitedSeconds: 0 },
    { ...common, account: "anonymous", limit: undefined, remaining: undefined, limitedSeconds: 77 },
  ]);
});

test("createQuota() keeps no client's password once its request is over", async () => {
  const { quota, ask } = start();
  const passwords: WeakRef<Credential>[] = [];
  for (let i = 0; i < 100; i++) {
    const own: Credential = { origin: HUB, id: `own:${i}`, username: "ann", password: `secret ${i}` };
    passwords.push(new WeakRef(own));
    await ask(pulls(own), 200);
  }
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setImmediate(resolve)); // a WeakRef holds until the end of its turn
    Bun.gc(true);
  }
  expect(quota.readings()).toEqual([]);
  expect(passwords.filter((each) => each.deref() !== undefined).length).toBeLessThan(10);
});
