import { describe, expect, test } from "bun:test";
import type { PositionedBody, Reply } from "../../../src/proxy/exchange.ts";
import { head, startHttpServer, WAYS } from "../../support/http-server.ts";

const MEGABYTE = 1024 * 1024;

interface Source {
  readonly body: PositionedBody;
  /** Memory that was read into. */
  readonly buffers: Set<ArrayBufferLike>;
  reads(): number;
  closes(): number;
}

type Read = PositionedBody["read"];

/** The byte at each position; the period is no power of two, so that pieces that change places show. */
const byteAt = (position: number): number => (position * 31 + Math.floor(position / 65_521)) & 0xff;

const fill: Read = async (into, position) => {
  for (let i = 0; i < into.byteLength; i += 1) into[i] = byteAt(position + i);
  return into.byteLength;
};

function source(length: number, read: Read = fill): Source {
  const buffers = new Set<ArrayBufferLike>();
  let reads = 0;
  let closes = 0;
  let isReading = false;
  const body: PositionedBody = {
    length,
    async read(into, position) {
      if (isReading || closes > 0) throw new Error("read beside another, or after close");
      isReading = true;
      reads += 1;
      buffers.add(into.buffer);
      try {
        return await read(into, position);
      } finally {
        isReading = false;
      }
    },
    async close() {
      closes += 1;
    },
  };
  return { body, buffers, reads: () => reads, closes: () => closes };
}

const reply = (body: Reply["body"]): Reply => ({ status: 200, headers: [], body });

function isRight(bytes: Uint8Array, position: number): boolean {
  return bytes.every((byte, index) => byte === byteAt(position + index));
}

describe.each(WAYS)("over a %s connection", (way) => {
  test.each([0, 1, 524_287, 524_288, 524_289, 3 * MEGABYTE + 7])(
    "[R221] writePositioned() sends %d bytes with their length, and the connection serves on",
    async (length) => {
      const sources: Source[] = [];
      const answer = () => {
        const made = source(length);
        sources.push(made);
        return reply(made.body);
      };
      await using server = await startHttpServer({ way, answer });
      const client = await server.connect();
      client.send(head("GET /blob") + head("GET /blob"));
      for (const got of [await client.readAnswer(), await client.readAnswer()]) {
        expect([got.header("content-length"), got.framing, got.isComplete]).toEqual([String(length), "length", true]);
        expect([got.body.length, isRight(got.body, 0)]).toEqual([length, true]);
      }
      await server.ended(2);
      expect(server.finished).toMatchObject([1, 2].map(() => ({ outcome: { complete: true, bytesSent: length } })));
      expect(sources.map(({ closes }) => closes())).toEqual([1, 1]);
      client.end();
    },
  );

  test("[R260, R276, T22] writePositioned() uses one piece of memory again and again, and no sooner than it may", async () => {
    const size = 24 * MEGABYTE;
    const made = source(size);
    await using server = await startHttpServer({ way, answer: () => reply(made.body) });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    let wrong = 0;
    for (let got = 0; got < size; got += MEGABYTE) {
      // Stops and goes, so that sockets are full again and again.
      client.pause();
      await Bun.sleep(5);
      client.resume();
      if (!isRight(await client.read(MEGABYTE), got)) wrong += 1;
    }
    expect(wrong).toBe(0);
    await server.ended(1);
    expect([made.buffers.size, made.closes()]).toEqual([1, 1]);
    client.reset();
  });

  test("writePositioned() sends what short reads give, byte for byte", async () => {
    const size = 600_000;
    const made = source(size, (into, position) => fill(into.subarray(0, 1 + ((position * 7) % 9_973)), position));
    await using server = await startHttpServer({ way, answer: () => reply(made.body) });
    const client = await server.connect();
    client.send(head("GET /blob"));
    const got = await client.readAnswer();
    expect([got.isComplete, got.body.length, isRight(got.body, 0)]).toEqual([true, size, true]);
    client.reset();
  });

  test("[T22] writePositioned() takes smaller pieces for a client among many", async () => {
    const pieces: number[] = [];
    const all = Promise.withResolvers<void>();
    let asked = 0;
    const read: Read = (into, position) => {
      pieces.push(into.byteLength);
      return fill(into, position);
    };
    await using server = await startHttpServer({
      way,
      answer: async () => {
        asked += 1;
        if (asked === 6) all.resolve();
        await all.promise;
        return reply(source(MEGABYTE, read).body);
      },
    });
    const clients = await Promise.all(Array.from({ length: 6 }, () => server.connect()));
    for (const client of clients) client.send(head("GET /blob"));
    const answers = await Promise.all(clients.map((client) => client.readAnswer()));
    expect(answers.map(({ isComplete }) => isComplete)).toEqual(clients.map(() => true));
    expect(new Set(pieces)).toEqual(new Set([256 * 1024]));
    for (const client of clients) client.end();
  });

  test.each([
    { what: "ends short", end: async () => 0, broken: "wrong-length", cause: undefined },
    {
      what: "fails",
      end: (): Promise<number> => Promise.reject(new Error("disk cut")),
      broken: "body-failed",
      cause: new Error("disk cut"),
    },
  ])(
    "[R234, R235, T12] writePositioned() breaks the connection when the body $what",
    async ({ end, broken, cause }) => {
      const made = source(3 * MEGABYTE, (into, position) => (position > MEGABYTE ? end() : fill(into, position)));
      await using server = await startHttpServer({ way, answer: () => reply(made.body) });
      const client = await server.connect();
      client.send(head("GET /blob"));
      const got = await client.readAnswer();
      expect(got.isComplete).toBe(false);
      await server.ended(1);
      expect(server.finished).toMatchObject([{ outcome: { complete: false, broken } }]);
      expect(server.finished[0]?.outcome.cause).toEqual(cause);
      expect(made.closes()).toBe(1);
    },
  );

  test.each([
    ["HEAD", 200, "5"],
    ["GET", 304, undefined],
  ] as const)("[R222, R223] writeReply() closes the body of %s %d unread", async (method, status, length) => {
    const made = source(5);
    await using server = await startHttpServer({ way, answer: () => ({ ...reply(made.body), status }) });
    const client = await server.connect();
    client.send(head(`${method} /x`));
    expect((await client.readAnswer(method)).header("content-length")).toBe(length);
    await server.ended(1);
    expect([made.reads(), made.closes()]).toEqual([0, 1]);
    client.end();
  });

  test("writeReply() leaves a body to be closed once when its head cannot be sent", async () => {
    const made = source(5);
    const answer = (): Reply => ({ ...reply(made.body), headers: [["X-Bad", "a\r\nb"]] });
    await using server = await startHttpServer({ way, answer });
    const client = await server.connect();
    client.send(head("GET /x"));
    expect((await client.readAnswer()).status).toBe(500);
    await server.ended(1);
    expect([made.reads(), made.closes()]).toEqual([0, 1]);
    client.end();
  });

  test("[R261] a client that leaves before the answer closes the body unread", async () => {
    const made = source(5);
    const asked = Promise.withResolvers<void>();
    await using server = await startHttpServer({
      way,
      answer: async ({ signal }) => {
        const left = new Promise((resolve) => signal.addEventListener("abort", resolve));
        asked.resolve();
        await left;
        return reply(made.body);
      },
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await asked.promise;
    client.reset();
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ bytesSent: 0, broken: "client-left" });
    expect([made.reads(), made.closes()]).toEqual([0, 1]);
  });

  test("[R261, T28] a client that leaves during a read ends the request after it, and closes the body once", async () => {
    const reading = Promise.withResolvers<void>();
    const gone = Promise.withResolvers<void>();
    const made = source(64 * MEGABYTE, async (into, position) => {
      if (position === 0) return fill(into, position);
      reading.resolve();
      await gone.promise;
      return fill(into, position);
    });
    await using server = await startHttpServer({
      way,
      answer: ({ signal }) => {
        signal.addEventListener("abort", () => gone.resolve());
        return reply(made.body);
      },
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    await reading.promise;
    client.reset();
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({
      bytesSent: 512 * 1024,
      complete: false,
      broken: "client-left",
    });
    expect([made.reads(), made.closes()]).toEqual([2, 1]);
  });

  test("[R260, T28] a client that takes nothing is cut after the idle time, and the body closed once", async () => {
    const made = source(1024 * MEGABYTE);
    await using server = await startHttpServer({ way, idleTimeoutMs: 150, answer: () => reply(made.body) });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    client.pause();
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ complete: false, broken: "client-stalled" });
    expect(made.closes()).toBe(1);
    // What the sockets hold, and no more.
    expect(made.reads()).toBeLessThan(160);
    client.reset();
  });
});
