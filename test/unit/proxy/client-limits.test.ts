import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RegistryError } from "../../../src/errors.ts";
import { type ClientLimitsOptions, createClientLimits, networkOf } from "../../../src/proxy/client-limits.ts";
import { parseRequestRate } from "../../../src/registry/request-rate.ts";
import { exchangeWith } from "../../support/exchange.ts";

function limitsAt(options: Partial<ClientLimitsOptions>) {
  const clock = { ms: 1_000_000 };
  const limits = createClientLimits({ requests: undefined, transfers: undefined, ...options }, () => clock.ms);
  /** Undefined when it was let in, else the seconds of Retry-After. */
  function enter(facts: { address?: string; user?: string; kind?: "blob" | "tags"; method?: "GET" | "HEAD" } = {}) {
    const { address = "192.0.2.1", user, kind = "blob", method = "GET" } = facts;
    const exchange = exchangeWith({ method });
    const client =
      user === undefined ? { kind: "none" as const } : { kind: "user" as const, name: user, may: () => true };
    const origin = { secure: false, host: undefined, base: "http://layover.test", client: address };
    const endpoint =
      kind === "tags"
        ? { kind, name: "a/b", before: undefined, raw: false }
        : {
            kind,
            name: "a/b",
            digest: { algorithm: "sha256" as const, encoded: "0", text: "sha256:0" },
            before: undefined,
            raw: false,
          };
    try {
      limits.enter({ exchange, client, origin, endpoint });
      return { exchange, retryAfter: undefined };
    } catch (error) {
      if (!(error instanceof RegistryError) || error.status !== 429) throw error;
      return { exchange, retryAfter: Number(new Map(error.headers).get("Retry-After")) };
    }
  }
  return { limits, clock, enter };
}

describe("requests over time", () => {
  test("so many at once, then evenly, each client for itself", () => {
    const { clock, enter } = limitsAt({ requests: { count: 3, periodMs: 6000 } });
    expect([1, 2, 3].map(() => enter().retryAfter)).toEqual([undefined, undefined, undefined]);
    expect(enter().retryAfter).toBe(2);
    expect(enter({ address: "192.0.2.2" }).retryAfter).toBeUndefined();
    expect(enter({ user: "ann" }).retryAfter).toBeUndefined();
    clock.ms += 2000;
    expect(enter().retryAfter).toBeUndefined();
    expect(enter().retryAfter).toBe(2);
  });

  test("never more than the bucket and what time gave back, whatever the order", () => {
    const steps = fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 9 }), (waits, count) => {
        const { clock, enter } = limitsAt({ requests: { count, periodMs: 5000 } });
        const startMs = clock.ms;
        let passed = 0;
        for (const wait of waits) {
          clock.ms += wait;
          if (enter().retryAfter === undefined) passed += 1;
          expect(passed).toBeLessThanOrEqual(count + Math.ceil(((clock.ms - startMs) * count) / 5000));
        }
      }),
    );
  });

  test("who waits as long as told is let in", () => {
    const { clock, enter } = limitsAt({ requests: { count: 7, periodMs: 60_000 } });
    for (let i = 0; i < 50; i += 1) {
      const { retryAfter } = enter();
      if (retryAfter === undefined) continue;
      clock.ms += retryAfter * 1000;
      expect(enter().retryAfter).toBeUndefined();
    }
  });
});

describe("transfers at once", () => {
  test("end with their exchange, once; HEAD and lists are none", () => {
    const { limits, enter } = limitsAt({ transfers: 2 });
    const first = enter();
    enter();
    expect(enter().retryAfter).toBe(1);
    expect(enter({ method: "HEAD" }).retryAfter).toBeUndefined();
    expect(enter({ kind: "tags" }).retryAfter).toBeUndefined();
    limits.leave(first.exchange);
    limits.leave(first.exchange);
    expect(enter().retryAfter).toBeUndefined();
    expect(enter().retryAfter).toBe(1);
  });
});

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["unix", "unix"],
  ["::ffff:192.0.2.7", "::ffff:192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:db8:1:2::1", "2001:db8:1:2"],
  ["2001:db8::1", "2001:db8:0:0"],
  ["2001:0db8:0001::", "2001:db8:1:0"],
  ["::1", "0:0:0:0"],
])("networkOf(%j) is %j", (address, network) => {
  expect(networkOf(address)).toBe(network);
});

test.each([
  ["100/s", { count: 100, periodMs: 1000 }],
  ["600/M", { count: 600, periodMs: 60_000 }],
  ["1/h", { count: 1, periodMs: 3_600_000 }],
  ["0/s", undefined],
  ["100", undefined],
  ["1.5/s", undefined],
  ["10/d", undefined],
  ["", undefined],
])("parseRequestRate(%j)", (text, rate) => {
  expect(parseRequestRate(text)).toEqual(rate);
});
