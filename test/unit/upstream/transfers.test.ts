import { describe, expect, jest, test } from "bun:test";
import fc from "fast-check";
import { UpstreamError } from "../../../src/errors.ts";
import type { BodyFlow } from "../../../src/upstream/flow.ts";
import { createTransfers, type Transfers, type TransferWish } from "../../../src/upstream/transfers.ts";
import { failureOf } from "./fixture.ts";

/** A body that ends when the test says so. */
function bodyThatEnds(restingMs = () => 0) {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const flow: BodyFlow = { ended, restingMs };
  return { end, answer: { response: { status: 200, flow } } };
}

function wish(changes: Partial<TransferWish> = {}): TransferWish {
  return {
    registry: { key: "hub" },
    repository: "org/app",
    method: "GET",
    path: "blobs/sha256:0",
    signal: new AbortController().signal,
    deadlineMs: performance.now() + 25_000,
    ...changes,
  };
}

/** Begins a transfer and gives what ends its body, once it runs. */
function begin(transfers: Transfers, changes: Partial<TransferWish> = {}) {
  const { end, answer } = bodyThatEnds();
  const carried = transfers.carry(wish(changes), async () => answer);
  return { end, carried };
}

const reading = (transfers: Transfers) => transfers.readings()[0];
const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

describe("carry()", () => {
  test("lets so many run, and the next one when a body ends", async () => {
    const transfers = createTransfers({ maxTransfers: 2 });
    const [first, , third] = [begin(transfers), begin(transfers), begin(transfers)];
    await settle();
    expect(reading(transfers)).toEqual({ registry: "hub", running: 2, waiting: 1, refused: 0 });
    first?.end();
    await third?.carried;
    expect(reading(transfers)).toEqual({ registry: "hub", running: 2, waiting: 0, refused: 0 });
  });

  test.each([
    ["a HEAD", { method: "HEAD" }],
    ["a manifest", { path: "manifests/latest" }],
    ["tags", { path: "tags/list" }],
    ["referrers", { path: "referrers/sha256:0" }],
    ["another registry's blob", { registry: { key: "quay" } }],
  ])("never lets %s wait", async (_, changes) => {
    const transfers = createTransfers({ maxTransfers: 1 });
    await begin(transfers).carried;
    await begin(transfers, changes).carried;
  });

  test("serves repositories in turn, and each in the order of its coming", async () => {
    const transfers = createTransfers({ maxTransfers: 1 });
    const running = begin(transfers);
    const order: string[] = [];
    for (const name of ["a1", "a2", "a3", "b1", "b2", "c1"]) {
      const ask = async () => {
        order.push(name);
        return { response: { status: 404 } };
      };
      void transfers.carry(wish({ repository: name.slice(0, 1) }), ask);
    }
    await running.carried;
    running.end();
    for (let turn = 0; turn < 10; turn++) await settle();
    expect(order).toEqual(["a1", "b1", "c1", "a2", "b2", "a3"]);
  });

  test.each([
    ["an error status", async () => ({ response: { ...bodyThatEnds().answer.response, status: 404 } })],
    ["no body", async () => ({ response: { status: 200 } })],
    ["a failure", () => Promise.reject(new Error("reset"))],
  ])("frees the place of an answer with %s at once", async (_, ask) => {
    const transfers = createTransfers({ maxTransfers: 1 });
    await transfers.carry(wish(), ask).catch(() => undefined);
    await settle();
    expect(reading(transfers)?.running).toBe(0);
  });

  test("`if-free` fails at once where nothing is free, and takes a place where one is", async () => {
    const transfers = createTransfers({ maxTransfers: 2 });
    await begin(transfers).carried;
    await begin(transfers, { transfer: "if-free" }).carried;
    const failure = await failureOf(begin(transfers, { transfer: "if-free" }).carried);
    expect(failure).toBeInstanceOf(UpstreamError);
    expect(failure).toMatchObject({ kind: "overload" });
    expect(reading(transfers)).toEqual({ registry: "hub", running: 2, waiting: 0, refused: 0 });
  });

  test("refuses who would be the ninth to wait for a place, and asks nobody", async () => {
    const transfers = createTransfers({ maxTransfers: 1 });
    await begin(transfers).carried;
    for (let waiting = 0; waiting < 8; waiting++) begin(transfers);
    let isAsked = false;
    const ninth = transfers.carry(wish({ repository: "org/other" }), async () => {
      isAsked = true;
      return { response: { status: 200 } };
    });
    expect(await failureOf(ninth)).toMatchObject({ kind: "overload", retryAfter: "10" });
    expect(isAsked).toBe(false);
    expect(reading(transfers)).toEqual({ registry: "hub", running: 1, waiting: 8, refused: 1 });
  });

  test("knows no bound at 0", async () => {
    const transfers = createTransfers({ maxTransfers: 0 });
    await Promise.all(Array.from({ length: 1000 }, () => begin(transfers).carried));
    expect(reading(transfers)?.running).toBe(1000);
  });

  test("a client that leaves its row gets its own reason, and nobody its place", async () => {
    const transfers = createTransfers({ maxTransfers: 1 });
    const running = begin(transfers);
    await running.carried;
    const leaving = new AbortController();
    const gone = begin(transfers, { signal: leaving.signal });
    const stays = begin(transfers);
    await settle();
    leaving.abort("client left");
    // In the same moment: the place must not go to who has just left.
    running.end();
    expect(await failureOf(gone.carried)).toBe("client left");
    await stays.carried;
    expect(reading(transfers)).toEqual({ registry: "hub", running: 1, waiting: 0, refused: 0 });
  });
});

describe("waiting", () => {
  test("ends before the deadline, so that the registry has time for its answer", async () => {
    jest.useFakeTimers();
    try {
      const transfers = createTransfers({ maxTransfers: 1 });
      begin(transfers);
      const waiting = failureOf(begin(transfers, { deadlineMs: performance.now() + 25_000 }).carried);
      await settle();
      jest.advanceTimersByTime(19_000);
      await settle();
      expect(reading(transfers)).toMatchObject({ waiting: 1, refused: 0 });
      jest.advanceTimersByTime(1_500);
      expect(await waiting).toMatchObject({ kind: "overload" });
      expect(reading(transfers)).toMatchObject({ waiting: 0, refused: 1 });
    } finally {
      jest.useRealTimers();
    }
  });

  test("ends when a transfer rests, since its reader takes nothing", async () => {
    jest.useFakeTimers();
    try {
      const transfers = createTransfers({ maxTransfers: 1 });
      let restingMs = 0;
      const { answer } = bodyThatEnds(() => restingMs);
      await transfers.carry(wish(), async () => answer);
      const next = begin(transfers);
      await settle();
      expect(reading(transfers)).toMatchObject({ running: 1, waiting: 1 });
      restingMs = 5_000;
      const late = begin(transfers, { repository: "org/late" });
      await settle();
      expect(reading(transfers)).toMatchObject({ running: 1, waiting: 2 });
      jest.advanceTimersByTime(1_000);
      await next.carried;
      expect(reading(transfers)).toMatchObject({ running: 2, waiting: 1 });
      next.end();
      await late.carried;
    } finally {
      jest.useRealTimers();
    }
  });
});

type Step =
  | { readonly kind: "come"; readonly repository: string; readonly transfer: "wait" | "if-free" }
  | { readonly kind: "end" | "leave"; readonly which: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("come" as const),
      repository: fc.constantFrom("a", "b", "c"),
      transfer: fc.constantFrom("wait" as const, "wait" as const, "if-free" as const),
    }),
    fc.record({ kind: fc.constantFrom("end" as const, "leave" as const), which: fc.nat(30) }),
  ),
  { maxLength: 120 },
);

test("whoever comes and goes: never more than the bound run, nobody waits beside a free place, nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (maxTransfers, taken) => {
      const transfers = createTransfers({ maxTransfers });
      const present: { end: () => void; leaving: AbortController; done: Promise<unknown> }[] = [];
      for (const step of taken) {
        if (step.kind === "come") {
          const leaving = new AbortController();
          const { end, carried } = begin(transfers, { ...step, signal: leaving.signal });
          leaving.signal.addEventListener("abort", () => end());
          present.push({ end, leaving, done: carried.catch(() => undefined) });
        } else {
          const one = present[step.which % Math.max(1, present.length)];
          if (step.kind === "end") one?.end();
          else one?.leaving.abort("left");
        }
        await settle();
        const { running = 0, waiting = 0 } = reading(transfers) ?? {};
        expect(running).toBeLessThanOrEqual(maxTransfers);
        expect(waiting).toBeLessThanOrEqual(maxTransfers * 8);
        if (waiting > 0) expect(running).toBe(maxTransfers);
      }
      for (const { end } of present) end();
      await Promise.all(present.map(({ done }) => done));
      await settle();
      const left = reading(transfers);
      expect([left?.running ?? 0, left?.waiting ?? 0]).toEqual([0, 0]);
    }),
    { numRuns: 200 },
  );
});

test("no repository waits for more than one turn of each other one", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 24 }), async (names) => {
      const transfers = createTransfers({ maxTransfers: 3 });
      const holders = [begin(transfers), begin(transfers), begin(transfers)];
      const order: string[] = [];
      const all = names.map((repository) =>
        transfers.carry(wish({ repository }), async () => {
          order.push(repository);
          return { response: { status: 404 } };
        }),
      );
      await settle();
      for (const { end } of holders) end();
      await Promise.all(all);
      for (const name of new Set(names)) {
        const turns = order.flatMap((each, at) => (each === name ? [at] : []));
        const gaps = turns.map((at, index) => at - (turns[index - 1] ?? -1));
        expect(Math.max(...gaps)).toBeLessThanOrEqual(3);
      }
    }),
    { numRuns: 100 },
  );
});
