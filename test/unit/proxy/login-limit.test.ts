import { expect, test } from "bun:test";
import fc from "fast-check";
import { RegistryError } from "../../../src/errors.ts";
import { createLoginLimit } from "../../../src/proxy/login-limit.ts";

function createLimit() {
  let nowMs = 0;
  let guesses = 0;
  const limit = createLoginLimit(() => nowMs);
  const isBlocked = (address: string, name: string): boolean => {
    try {
      limit.check(address, name);
      return false;
    } catch (error) {
      if (error instanceof RegistryError && error.status === 429) return true;
      throw error;
    }
  };
  const fail = (address: string, name: string, times: number): void => {
    for (let i = 0; i < times; i += 1) limit.failed(address, name, `guess ${(guesses += 1)}`);
  };
  return { limit, isBlocked, fail, wait: (ms: number) => void (nowMs += ms) };
}

test("createLoginLimit() lets ten failures pass and says how long the eleventh waits", () => {
  const { limit, isBlocked, fail, wait } = createLimit();
  fail("192.0.2.1", "alice", 9);
  expect(isBlocked("192.0.2.1", "alice")).toBe(false);
  wait(20_500);
  fail("192.0.2.1", "alice", 1);
  expect(() => limit.check("192.0.2.1", "alice")).toThrow(RegistryError);
  try {
    limit.check("192.0.2.1", "alice");
  } catch (error) {
    expect(error).toMatchObject({ code: "TOOMANYREQUESTS", headers: [["Retry-After", "40"]] });
  }
  wait(39_500);
  expect(isBlocked("192.0.2.1", "alice")).toBe(false);
});

test("createLoginLimit() counts one wrong password once, however often it comes", () => {
  const { limit, isBlocked, fail } = createLimit();
  for (let i = 0; i < 50; i += 1) limit.failed("192.0.2.1", "alice", "an old secret");
  fail("192.0.2.1", "alice", 8);
  expect(isBlocked("192.0.2.1", "alice")).toBe(false);
  fail("192.0.2.1", "alice", 1);
  expect(isBlocked("192.0.2.1", "alice")).toBe(true);
});

test.each([
  ["the same address with a port of IPv6 before it", "192.0.2.1", "::ffff:192.0.2.1", true],
  ["another address", "192.0.2.1", "192.0.2.2", false],
  ["one network of 64 bits", "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true],
  ["another network", "2001:db8:0:1::1", "2001:db8:0:2::1", false],
  ["a unix socket", "unix", "unix", true],
])("createLoginLimit() counts %s", (_, failed, asked, blocked) => {
  const { isBlocked, fail } = createLimit();
  fail(failed, "alice", 10);
  expect(isBlocked(asked, "alice")).toBe(blocked);
  expect(isBlocked(asked, "bob")).toBe(false);
});

test("createLoginLimit() forgets the oldest when whoever invents names would fill the memory", () => {
  const { isBlocked, fail } = createLimit();
  fail("192.0.2.1", "first", 10);
  for (let i = 0; i < 20_000; i += 1) fail("192.0.2.1", `name${i}`, 1);
  expect(isBlocked("192.0.2.1", "first")).toBe(false);
});

test("createLoginLimit() never blocks a pair that failed less than ten times in a minute, and always one that failed more", () => {
  const step = fc.record({ name: fc.constantFrom("a", "b"), waitMs: fc.integer({ min: 0, max: 9_000 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { isBlocked, fail, wait } = createLimit();
      const windows = new Map<string, { startMs: number; count: number }>();
      let at = 0;
      for (const { name, waitMs } of steps) {
        wait(waitMs);
        at += waitMs;
        const window = windows.get(name);
        const isOver = window === undefined || at >= window.startMs + 60_000;
        expect(isBlocked("192.0.2.1", name)).toBe(!isOver && window.count >= 10);
        fail("192.0.2.1", name, 1);
        if (isOver) windows.set(name, { startMs: at, count: 1 });
        else window.count += 1;
      }
    }),
  );
});
