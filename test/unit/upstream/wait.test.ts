/** Waiting with an end: what waiters see, and what they leave behind. */
import { expect, test } from "bun:test";
import { waitFor } from "../../../src/upstream/wait.ts";

test("waitFor() leaves no rejection behind when its client had left before it waited", async () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", note);
  try {
    const { promise, reject } = Promise.withResolvers<never>();
    const limits = { signal: AbortSignal.abort(new Error("left")), deadlineMs: performance.now() + 1000 };
    await expect(waitFor(promise, { ...limits, what: "token" })).rejects.toThrow("left");
    reject(new Error("the token server failed"));
    await new Promise((resolve) => setImmediate(resolve)); // rejections are told after the microtasks
    expect(unhandled).toEqual([]);
  } finally {
    process.off("unhandledRejection", note);
  }
});
