import { describe, expect, test } from "bun:test";
import { type BodyOptions, discardBody, readBody, watchBody } from "../../../src/upstream/body.ts";
import { failureOf } from "./fixture.ts";

/** A source that a test feeds, and what the watched body told. */
function fed(changes: Partial<BodyOptions> = {}) {
  let feed: ReadableStreamDefaultController<Uint8Array> | undefined;
  const ends: string[] = [];
  const cancelled: unknown[] = [];
  const source = new ReadableStream<Uint8Array>({
    start: (controller) => void (feed = controller),
    cancel: (reason) => void cancelled.push(reason),
  });
  const body = watchBody(source, {
    length: undefined,
    idleTimeoutMs: 1_000,
    what: "https://reg.test/x",
    translate: (cause) => new Error("translated", { cause }),
    ended: (how) => void ends.push(how),
    ...changes,
  });
  if (feed === undefined) throw new Error("streams start at once");
  return { body, reader: () => body.getReader(), feed, ends, cancelled };
}

const bytes = (count: number) => new Uint8Array(count).fill(7);

describe("watchBody()", () => {
  test("passes chunks on as they are", async () => {
    const { reader, feed, ends } = fed({ length: 3 });
    const chunk = bytes(3);
    feed.enqueue(chunk);
    feed.close();
    const reading = reader();
    expect((await reading.read()).value).toBe(chunk);
    expect(await reading.read()).toEqual({ done: true, value: undefined });
    expect(ends).toEqual(["complete"]);
  });

  test.each([
    ["shorter", 2],
    ["longer", 4],
  ])("[R235] errors when the body is %s than declared", async (_, count) => {
    const { reader, feed, ends } = fed({ length: 3 });
    feed.enqueue(bytes(count));
    feed.close();
    const reading = reader();
    const error = await failureOf(reading.read().then(() => reading.read()));
    expect(error).toMatchObject({ kind: "bad-answer", message: `https://reg.test/x: expected 3 bytes, got ${count}` });
    expect(ends).toEqual(["broken"]);
  });

  test("takes nothing before it is asked, and one chunk then", async () => {
    let pulled = 0;
    const source = new ReadableStream<Uint8Array>(
      { pull: (controller) => controller.enqueue(bytes(++pulled)) },
      { highWaterMark: 0 },
    );
    const body = watchBody(source, {
      length: undefined,
      idleTimeoutMs: 1_000,
      what: "",
      translate: (cause) => cause,
      ended: () => undefined,
    });
    await Bun.sleep(1);
    expect(pulled).toBe(0);
    const reading = body.getReader();
    await reading.read();
    await Bun.sleep(1);
    expect(pulled).toBe(1);
    await reading.cancel();
  });

  test("[R257] counts the silence of each read for itself", async () => {
    const { reader, feed, ends } = fed({ idleTimeoutMs: 40 });
    const reading = reader();
    for (let i = 0; i < 5; i++) {
      const chunk = reading.read();
      await Bun.sleep(15);
      feed.enqueue(bytes(1));
      await chunk;
    }
    expect(await failureOf(reading.read())).toMatchObject({ kind: "timeout" });
    expect(ends).toEqual(["broken"]);
  });

  test("does not count while nobody reads", async () => {
    const { reader, feed } = fed({ idleTimeoutMs: 20 });
    const reading = reader();
    feed.enqueue(bytes(1));
    await reading.read();
    await Bun.sleep(50);
    feed.enqueue(bytes(1));
    expect((await reading.read()).done).toBe(false);
  });

  test("translates what the network threw", async () => {
    const { reader, feed, ends } = fed();
    feed.error(new TypeError("ECONNRESET"));
    expect(await failureOf(reader().read())).toMatchObject({ message: "translated" });
    expect(ends).toEqual(["broken"]);
  });

  test("cancels its source, and tells so once", async () => {
    const { body, ends, cancelled } = fed();
    await body.cancel("enough");
    expect([ends, cancelled]).toEqual([["broken"], ["enough"]]);
  });

  test("is cancelled in peace when its source has failed meanwhile", async () => {
    const { body, feed, ends } = fed();
    feed.error(new TypeError("ECONNRESET"));
    await body.cancel();
    expect(ends).toEqual(["broken"]);
  });
});

describe("readBody()", () => {
  const limits = () => ({ maxBytes: 10, deadlineMs: performance.now() + 1_000 });

  test("joins the chunks", async () => {
    const { body, feed } = fed();
    feed.enqueue(bytes(4));
    feed.enqueue(bytes(6));
    feed.close();
    expect((await readBody(body, limits())).byteLength).toBe(10);
  });

  test("gives up and cancels beyond the limit", async () => {
    const { body, feed, cancelled } = fed();
    feed.enqueue(bytes(11));
    expect(await failureOf(readBody(body, limits()))).toMatchObject({ kind: "bad-answer" });
    expect(cancelled).toHaveLength(1);
  });

  test("gives up and cancels at the deadline", async () => {
    const { body, cancelled } = fed();
    expect(await failureOf(readBody(body, { maxBytes: 10, deadlineMs: performance.now() + 10 }))).toMatchObject({
      kind: "timeout",
    });
    expect(cancelled).toHaveLength(1);
  });
});

describe("discardBody()", () => {
  test("reads a short body to its end and cancels a long one", async () => {
    const short = fed();
    short.feed.enqueue(bytes(1_000));
    short.feed.close();
    await discardBody(short.body);
    expect([short.ends, short.cancelled.length]).toEqual([["complete"], 0]);
    const long = fed();
    long.feed.enqueue(bytes(100_000));
    await discardBody(long.body);
    expect([long.ends, long.cancelled.length]).toEqual([["broken"], 1]);
  });

  test("takes null and broken bodies", async () => {
    const broken = fed();
    broken.feed.error(new Error("gone"));
    await discardBody(broken.body);
    await discardBody(null);
    expect(broken.ends).toEqual(["broken"]);
  });
});
