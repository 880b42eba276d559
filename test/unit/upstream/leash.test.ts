import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { createLeash } from "../../../src/upstream/leash.ts";

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

const leashOf = () =>
  createLeash({
    signal: new AbortController().signal,
    deadlineMs: performance.now() + 1000,
    what: "https://r.test/v2/",
  });

test("postpone() gives a body that gets on more time for the headers", () => {
  const leash = leashOf();
  jest.advanceTimersByTime(900);
  leash.postpone(5000);
  jest.advanceTimersByTime(4000);
  expect(leash.signal.aborted).toBe(false);
  jest.advanceTimersByTime(2000);
  expect(leash.signal.aborted).toBe(true);
});

test("postpone() does nothing once the headers are there: an early answer is read to its end while the body still goes", () => {
  for (const end of ["arrived", "release"] as const) {
    const leash = leashOf();
    leash[end]();
    leash.postpone(10);
    jest.advanceTimersByTime(100_000);
    expect(leash.signal.aborted).toBe(false);
  }
});

test("[R261] createLeash() is cut at once for a client that left before it", async () => {
  const reason = new DOMException("client left", "AbortError");
  const leash = createLeash({ signal: AbortSignal.abort(reason), deadlineMs: performance.now() + 1000, what: "it" });
  expect([leash.signal.aborted, leash.signal.reason]).toEqual([true, reason]);
  await leash.ended;
});
