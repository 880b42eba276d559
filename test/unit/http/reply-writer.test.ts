import { describe, expect, test } from "bun:test";
import type { HeaderLine } from "../../../src/errors.ts";
import type { Reply } from "../../../src/proxy/exchange.ts";
import { head, startHttpServer, WAYS } from "../../support/http-server.ts";

const MEGABYTE = 1024 * 1024;

interface Source {
  readonly stream: ReadableStream<Uint8Array>;
  /** Reasons of each cancel. */
  readonly cancels: unknown[];
  reads(): number;
}

/** A stream that makes chunks when asked: `make(n)` gives the n-th, undefined the end. */
function source(make: (index: number) => Promise<Uint8Array | undefined> | Uint8Array | undefined): Source {
  const cancels: unknown[] = [];
  let index = 0;
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await make(index++);
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: (reason) => void cancels.push(reason),
    },
    { highWaterMark: 0 },
  );
  return { stream, cancels, reads: () => index };
}

function reply(body: Reply["body"], ...headers: HeaderLine[]): Reply {
  return { status: 200, headers, body };
}

const bytes = (length: number, value = 97): Uint8Array => new Uint8Array(length).fill(value);

describe.each(WAYS)("over a %s connection", (way) => {
  test("[R175, R221, R174] writeReply() completes the header block before a stalled body's first byte", async () => {
    const headSeen = Promise.withResolvers<void>();
    const body = source(async (index) => {
      await headSeen.promise;
      return index === 0 ? bytes(5) : undefined;
    });
    await using server = await startHttpServer({ way, answer: () => reply(body.stream, ["Content-Length", "5"]) });
    const client = await server.connect();
    client.send(head("GET /blob"));
    const got = await client.readHead();
    expect([got.header("content-length"), got.header("transfer-encoding")]).toEqual(["5", undefined]);
    headSeen.resolve();
    expect(Buffer.from(await client.read(5)).toString()).toBe("aaaaa");
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ bytesSent: 5, complete: true });
    expect(body.cancels).toEqual([]);
    client.end();
  });

  test("[R221, R276] writeReply() sends a long stream byte for byte with its length", async () => {
    const hasher = new Bun.CryptoHasher("sha256");
    let left = 24 * MEGABYTE;
    // Sizes around the slice, the socket's marks and odd numbers.
    const sizes = [1, 65_536, 131_071, 131_072, 131_073, 524_288, 777, 1_000_003];
    const body = source((index) => {
      if (left === 0) return undefined;
      const chunk = new Uint8Array(Math.min(left, sizes[index % sizes.length] ?? 1));
      crypto.getRandomValues(chunk.subarray(0, 65_536));
      hasher.update(chunk);
      left -= chunk.byteLength;
      return chunk;
    });
    const length = String(left);
    await using server = await startHttpServer({ way, answer: () => reply(body.stream, ["Content-Length", length]) });
    const client = await server.connect();
    client.send(head("GET /blob") + head("GET /end"));
    const answer = await client.readAnswer();
    expect([answer.isComplete, answer.framing]).toEqual([true, "length"]);
    expect(new Bun.CryptoHasher("sha256").update(answer.body).digest("hex")).toBe(hasher.digest("hex"));
    client.reset();
  });

  test("[R276, T22] writeReply() frees a chunk's memory once the socket took it, and no sooner", async () => {
    const hasher = new Bun.CryptoHasher("sha256");
    const size = 24 * MEGABYTE;
    const given: Uint8Array[] = [];
    let made = 0;
    const body = source((index) => {
      if (made === size) return undefined;
      // New memory is filled with something else each time: what was freed too early shows in the digest.
      const chunk = bytes(Math.min([400_000, 9_000, 1_000_003][index % 3] ?? 1, size - made), index);
      hasher.update(chunk);
      made += chunk.byteLength;
      given.push(chunk);
      return chunk;
    });
    await using server = await startHttpServer({
      way,
      answer: () => reply(body.stream, ["Content-Length", String(size)]),
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    const received = new Bun.CryptoHasher("sha256");
    for (let got = 0; got < size; got += MEGABYTE) {
      // Stops and goes, so that sockets are full again and again.
      client.pause();
      await Bun.sleep(5);
      client.resume();
      received.update(await client.read(MEGABYTE));
    }
    expect(received.digest("hex")).toBe(hasher.digest("hex"));
    await server.ended(1);
    // The last ones may not have reached the kernel when the source ended: they are left to the collector.
    expect(given.slice(0, -3).filter((chunk) => chunk.byteLength > 0)).toEqual([]);
    client.reset();
  });

  test("writeReply() leaves the memory of whole bodies alone, which may be constants", async () => {
    const constant = bytes(3 * MEGABYTE);
    await using server = await startHttpServer({ way, answer: () => reply(constant) });
    for (let round = 0; round < 2; round += 1) {
      const client = await server.connect();
      client.send(head("GET /page"));
      expect((await client.readAnswer()).body.length).toBe(3 * MEGABYTE);
      client.reset();
    }
    expect(constant.byteLength).toBe(3 * MEGABYTE);
  });

  test("writeReply() sends a stream of unknown length chunked, and to HTTP/1.0 until the connection closes", async () => {
    const two = () => source((index) => (index < 2 ? bytes(3) : undefined)).stream;
    await using server = await startHttpServer({ way, answer: () => reply(two()) });
    const client = await server.connect();
    client.send(head("GET /x"));
    const answer = await client.readAnswer();
    expect([answer.framing, answer.body.length, answer.isComplete]).toEqual(["chunked", 6, true]);
    client.end();
    const old = await server.connect();
    old.send("GET /x HTTP/1.0\r\n\r\n");
    const plain = await old.readAnswer();
    expect([plain.framing, plain.body.length, plain.isComplete]).toEqual(["close", 6, true]);
  });

  test.each([
    ["ends short", (index: number) => (index === 0 ? bytes(900) : undefined), "wrong-length"],
    ["is too long", (index: number) => (index < 3 ? bytes(400) : undefined), "wrong-length"],
    ["fails", (index: number) => (index === 0 ? bytes(900) : Promise.reject(new Error("upstream cut"))), "body-failed"],
    ["is empty", () => undefined, "wrong-length"],
  ] as const)(
    "[R234, R235, R236, T12] writeReply() breaks the connection when the body %s",
    async (_, make, broken) => {
      const body = source(make);
      await using server = await startHttpServer({ way, answer: () => reply(body.stream, ["Content-Length", "1000"]) });
      const client = await server.connect();
      client.send(head("GET /blob"));
      const answer = await client.readAnswer();
      expect(answer.isComplete).toBe(false);
      expect(answer.body.length).toBeLessThan(1000);
      await server.ended(1);
      expect(server.finished).toMatchObject([{ outcome: { status: 200, complete: false, broken } }]);
      if (broken === "body-failed") expect(server.finished[0]?.outcome.cause).toEqual(new Error("upstream cut"));
    },
  );

  test.each(["1.1", "1.0"])(
    "[R236, R237] writeReply() never ends a failed body of unknown length politely (HTTP/%s)",
    async (version) => {
      const body = source((index) => (index === 0 ? bytes(10) : Promise.reject(new Error("cut"))));
      await using server = await startHttpServer({ way, answer: () => reply(body.stream) });
      const client = await server.connect();
      client.send(`GET /x HTTP/${version}\r\nHost: registry.test\r\n\r\n`);
      const answer = await client.readAnswer().catch(() => undefined);
      expect(answer?.isComplete ?? false).toBe(false);
      await server.ended(1);
      expect(server.finished[0]?.outcome.complete).toBe(false);
    },
  );

  test.each([
    ["HEAD", 200, "5", null],
    ["HEAD", 200, "5", "stream"],
    ["HEAD", 404, undefined, "text"],
    ["GET", 204, "5", "stream"],
    ["GET", 304, "5", "stream"],
    ["GET", 304, undefined, "text"],
  ] as const)(
    "[R222, R223] writeReply() sends no body for %s and %d (length %s, body %s)",
    async (method, status, length, kind) => {
      const body = source(() => bytes(5));
      const given = kind === "stream" ? body.stream : kind === "text" ? "hello" : null;
      const headers: HeaderLine[] = length === undefined ? [] : [["Content-Length", length]];
      await using server = await startHttpServer({ way, answer: () => ({ status, headers, body: given }) });
      const client = await server.connect();
      client.send(head(`${method} /x`) + head(`${method} /x`));
      for (const answer of [await client.readAnswer(method), await client.readAnswer(method)]) {
        expect(answer.header("transfer-encoding")).toBeUndefined();
        expect(answer.header("content-length")).toBe(method === "HEAD" ? "5" : undefined);
      }
      await server.ended(2);
      expect([body.cancels.length, body.reads()]).toEqual([kind === "stream" ? 1 : 0, 0]);
      client.end();
    },
  );

  test("[R223] writeReply() frames the body itself, whatever the reply's lines say", async () => {
    const lines: HeaderLine[] = [
      ["Transfer-Encoding", "chunked"],
      ["Connection", "upgrade"],
      ["Content-Length", "3"],
    ];
    await using server = await startHttpServer({ way, answer: () => reply("hello", ...lines) });
    const client = await server.connect();
    client.send(head("GET /x") + head("GET /x"));
    for (const answer of [await client.readAnswer(), await client.readAnswer()]) {
      expect([answer.framing, answer.body.length, answer.header("content-length")]).toEqual(["length", 5, "5"]);
      expect(answer.header("connection")).toBe("keep-alive");
    }
    client.end();
  });

  test("writeReply() sends large whole bodies", async () => {
    await using server = await startHttpServer({ way, answer: () => reply(bytes(3 * MEGABYTE)) });
    const client = await server.connect();
    client.send(head("GET /x") + head("GET /x"));
    for (const answer of [await client.readAnswer(), await client.readAnswer()]) {
      expect([answer.body.length, answer.isComplete]).toEqual([3 * MEGABYTE, true]);
    }
    client.end();
  });

  test("[R261] a client that leaves while the body is silent aborts the signal and cancels the stream, once", async () => {
    const body = source((index) => (index === 0 ? bytes(10) : new Promise<never>(() => undefined)));
    await using server = await startHttpServer({ way, answer: () => reply(body.stream, ["Content-Length", "1000"]) });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    await client.read(10);
    client.reset();
    await server.ended(1);
    const [{ exchange, outcome } = expect.unreachable()] = server.finished;
    expect(exchange.signal.aborted).toBe(true);
    expect(outcome).toMatchObject({ bytesSent: 10, complete: false, broken: "client-left" });
    expect(body.cancels.length).toBe(1);
    expect(server.http.openRequests).toBe(0);
  });

  test("[R261] a client that leaves before the answer aborts the signal; the reply's stream is cancelled unread", async () => {
    const body = source(() => bytes(10));
    await using server = await startHttpServer({
      way,
      answer: async ({ signal }) => {
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        return reply(body.stream);
      },
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    while (server.http.openRequests === 0) await Bun.sleep(1);
    client.reset();
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ bytesSent: 0, complete: false, broken: "client-left" });
    expect([body.cancels.length, body.reads()]).toEqual([1, 0]);
  });

  test("[R260, T28] a client that takes nothing is cut after the idle time", async () => {
    const body = source(() => bytes(MEGABYTE));
    await using server = await startHttpServer({
      way,
      idleTimeoutMs: 150,
      answer: () => reply(body.stream, ["Content-Length", String(1024 * MEGABYTE)]),
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    await client.readHead();
    client.pause();
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ complete: false, broken: "client-stalled" });
    expect(body.cancels.length).toBe(1);
    client.reset();
  });

  test("[R260] a slow client that goes on taking is not cut, however long it lasts", async () => {
    const size = 24 * MEGABYTE;
    // In one piece: progress inside it counts.
    const body = source((index) => (index === 0 ? bytes(size) : undefined));
    await using server = await startHttpServer({
      way,
      idleTimeoutMs: 700,
      answer: () => reply(body.stream, ["Content-Length", String(size)]),
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    const { completeAtMs } = await client.readHead();
    let got = 0;
    while (got < size) {
      client.pause();
      await Bun.sleep(60);
      client.resume();
      got += (await client.read(Math.min(MEGABYTE, size - got))).length;
      if (server.finished[0]?.outcome.complete === false) break;
    }
    expect(got).toBe(size);
    expect(performance.now() - completeAtMs).toBeGreaterThan(1_200);
    await server.ended(1);
    expect(server.finished[0]?.outcome.complete).toBe(true);
    client.reset();
  });

  test("[R260, R276, T22] a stalled client of a 200 MB stream costs no memory", async () => {
    const chunk = bytes(MEGABYTE);
    const body = source((index) => (index < 200 ? chunk.slice() : undefined));
    await using server = await startHttpServer({
      way,
      answer: () => reply(body.stream, ["Content-Length", String(200 * MEGABYTE)]),
    });
    const client = await server.connect();
    Bun.gc(true);
    const before = process.memoryUsage.rss();
    client.send(head("GET /blob"));
    await client.readHead();
    client.pause();
    let seen = -1;
    while (seen !== body.reads()) {
      seen = body.reads();
      await Bun.sleep(100);
    }
    expect((process.memoryUsage.rss() - before) / MEGABYTE).toBeLessThan(40);
    expect(body.reads()).toBeLessThan(40);
    client.reset();
    await server.ended(1);
  });

  test("[T28] 200 aborted downloads leave no request, reader or socket", async () => {
    const sources: Source[] = [];
    await using server = await startHttpServer({
      way,
      answer: () => {
        const body = source(async () => {
          await Bun.sleep(1);
          return bytes(300_000);
        });
        sources.push(body);
        return reply(body.stream, ["Content-Length", String(100 * MEGABYTE)]);
      },
    });
    const socketsBefore = openDescriptors();
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const client = await server.connect();
          client.send(head("GET /blob"));
          await client.readHead();
          // Some leave at once, some in the middle of reading, some while their window is full.
          if (index % 3 === 1) await client.read(500_000);
          if (index % 3 === 2) {
            client.pause();
            await Bun.sleep(20);
          }
          client.reset();
        }),
      );
    }
    await server.ended(200);
    expect(server.http.openRequests).toBe(0);
    expect(server.finished.length).toBe(200);
    expect(sources.map(({ cancels }) => cancels.length)).toEqual(Array.from({ length: 200 }, () => 1));
    const settled = await until(() => openDescriptors() <= socketsBefore + 2);
    expect(settled).toBe(true);
  }, 30_000);
});

function openDescriptors(): number {
  return [...new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })].length;
}

async function until(isDone: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 200 && !isDone(); tries += 1) await Bun.sleep(10);
  return isDone();
}
