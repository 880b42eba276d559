import { describe, expect, test } from "bun:test";
import { head, startHttpServer, text, WAYS } from "../../support/http-server.ts";

const hello = () => text("hello");

describe.each(WAYS)("over a %s connection", (way) => {
  test.each([
    ["nothing", ""],
    ["half a request", "GET /v2/ HTTP/1.1\r\nHost: regis"],
  ])("[T29] a client that sends %s is cut after the header time", async (_, bytes) => {
    await using server = await startHttpServer({ way, headersTimeoutMs: 200, answer: hello });
    const client = await server.connect();
    // The front's own time runs until it knows what the connection speaks: one byte is enough.
    client.send(bytes === "" && way !== "direct" ? "G" : bytes);
    const startedAt = performance.now();
    await client.closed;
    const elapsedMs = performance.now() - startedAt;
    expect(elapsedMs).toBeGreaterThan(150);
    expect(elapsedMs).toBeLessThan(3_000);
    expect(server.finished).toEqual([]);
  });

  test("[T29] a client that trickles header bytes is cut all the same", async () => {
    await using server = await startHttpServer({ way, headersTimeoutMs: 300, answer: hello });
    const client = await server.connect();
    client.send("GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n");
    const trickle = setInterval(() => client.send("X: y\r\n"), 50);
    await client.closed;
    clearInterval(trickle);
    expect(server.finished).toEqual([]);
  });

  test("[T29] a second request's head has its own time", async () => {
    await using server = await startHttpServer({
      way,
      headersTimeoutMs: 200,
      keepAliveTimeoutMs: 10_000,
      answer: hello,
    });
    const client = await server.connect();
    client.send(head("GET /1"));
    await client.readAnswer();
    await Bun.sleep(400); // longer than the time for a head: idle is not slow
    client.send("GET /2 HTTP/1.1\r\n");
    const startedAt = performance.now();
    await client.closed;
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    expect(server.finished.length).toBe(1);
  });

  test("an idle connection is closed after the keep-alive time", async () => {
    await using server = await startHttpServer({ way, keepAliveTimeoutMs: 200, answer: hello });
    const client = await server.connect();
    client.send(head("GET /1"));
    await client.readAnswer();
    const startedAt = performance.now();
    await client.closed;
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test("a slow answer is not cut by the times for heads and idle connections", async () => {
    await using server = await startHttpServer({
      way,
      headersTimeoutMs: 100,
      keepAliveTimeoutMs: 100,
      answer: () => Bun.sleep(1_400).then(hello),
    });
    const client = await server.connect();
    client.send(head("GET /1"));
    expect((await client.readAnswer()).status).toBe(200);
    client.end();
  });

  test("a client that shuts its sending side gets a fast answer; a slow one is aborted", async () => {
    await using server = await startHttpServer({
      way,
      answer: async ({ path, signal }) => {
        if (path === "/slow") await new Promise((resolve) => signal.addEventListener("abort", resolve));
        return hello();
      },
    });
    const fast = await server.connect();
    fast.send(head("GET /fast"));
    fast.end();
    expect((await fast.readAnswer()).status).toBe(200);
    const slow = await server.connect();
    slow.send(head("GET /slow"));
    slow.end();
    await server.ended(2);
    expect(server.finished[1]?.outcome).toMatchObject({ complete: false, broken: "client-left" });
  });

  test("[R264] drain() closes idle connections, lets answers end and says that they are the last", async () => {
    const release = Promise.withResolvers<void>();
    await using server = await startHttpServer({
      way,
      answer: async ({ path }) => {
        if (path === "/slow") await release.promise;
        return hello();
      },
    });
    const idle = await server.connect();
    idle.send(head("GET /1"));
    await idle.readAnswer();
    const busy = await server.connect();
    busy.send(head("GET /slow"));
    while (server.http.openRequests === 0) await Bun.sleep(1);
    const drained = server.http.drain(5_000);
    await idle.closed;
    release.resolve();
    const answer = await busy.readAnswer();
    expect([answer.status, answer.isComplete, answer.header("connection")]).toEqual([200, true, "close"]);
    const startedAt = performance.now();
    await drained;
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(server.http.openRequests).toBe(0);
  });

  test("[R264] drain() lets a running download end and closes its connection", async () => {
    const pulls: (() => void)[] = [];
    await using server = await startHttpServer({
      way,
      answer: () => ({
        status: 200,
        headers: [["Content-Length", "10"]],
        body: new ReadableStream<Uint8Array>(
          {
            async pull(controller) {
              await new Promise<void>((resolve) => pulls.push(resolve));
              controller.enqueue(new Uint8Array(10));
              controller.close();
            },
          },
          { highWaterMark: 0 },
        ),
      }),
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    expect((await client.readHead()).header("connection")).toBe("keep-alive");
    const drained = server.http.drain(5_000);
    pulls.shift()?.();
    expect((await client.read(10)).length).toBe(10);
    const startedAt = performance.now();
    expect((await client.read(1)).length).toBe(0);
    await drained;
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });

  test("[R264] drain() destroys what has not ended in time, and aborts its signal", async () => {
    await using server = await startHttpServer({
      way,
      answer: ({ signal }) => new Promise((resolve) => signal.addEventListener("abort", () => resolve(hello()))),
    });
    const client = await server.connect();
    client.send(head("GET /stuck"));
    while (server.http.openRequests === 0) await Bun.sleep(1);
    await server.http.drain(50);
    await client.closed;
    await server.ended(1);
    expect(server.finished[0]?.outcome.complete).toBe(false);
  });

  test("a signal that is asked for after the client left is aborted", async () => {
    const signals: AbortSignal[] = [];
    await using server = await startHttpServer({
      way,
      answer: async (exchange) => {
        client.reset();
        while (server.http.openConnections > 0) await Bun.sleep(1);
        signals.push(exchange.signal, exchange.signal);
        return hello();
      },
    });
    const client = await server.connect();
    client.send(head("GET /left"));
    await server.ended(1);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    expect(signals[0]).toBe(signals[1]);
  });

  test("more than a hundred requests ahead end the connection", async () => {
    await using server = await startHttpServer({ way, answer: () => Bun.sleep(50).then(hello) });
    const client = await server.connect();
    client.send(head("GET /x").repeat(500));
    const how = await Promise.race([client.closed, Bun.sleep(2_000).then(() => "open")]);
    expect(how).not.toBe("open");
    expect(server.http.openRequests).toBeLessThanOrEqual(100);
    client.reset();
  });
});
