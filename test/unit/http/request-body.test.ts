import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { Exchange } from "../../../src/proxy/exchange.ts";
import { head, startHttpServer, text, trusted, WAYS } from "../../support/http-server.ts";

const MEGABYTE = 1024 * 1024;

/** Reads all of the body and tells what came. */
async function swallow(exchange: Exchange) {
  const hasher = new Bun.CryptoHasher("sha256");
  let length = 0;
  for await (const chunk of exchange.body ?? []) {
    hasher.update(chunk);
    length += chunk.byteLength;
  }
  return text(`${length} ${hasher.digest("hex")}`);
}

const refuse = () => ({ status: 401, headers: [], body: "no" });

describe.each(WAYS)("over a %s connection", (way) => {
  test.each(["Content-Length", "chunked"])("createRequestBody() streams a long body (%s)", async (framing) => {
    await using server = await startHttpServer({ way, answer: swallow });
    const client = await server.connect();
    const body = new Uint8Array(9 * MEGABYTE);
    for (let at = 0; at < body.length; at += 65_536) crypto.getRandomValues(body.subarray(at, at + 65_536));
    if (framing === "chunked") {
      client.send(head("PUT /upload", "Transfer-Encoding: chunked"));
      for (let at = 0; at < body.length; at += 700_001) {
        const piece = body.subarray(at, at + 700_001);
        client.send(`${piece.length.toString(16)}\r\n`);
        client.send(piece);
        client.send("\r\n");
      }
      client.send("0\r\n\r\n");
    } else {
      client.send(head("PUT /upload", `Content-Length: ${body.length}`));
      client.send(body);
    }
    const answer = await client.readAnswer();
    const digest = new Bun.CryptoHasher("sha256").update(body).digest("hex");
    expect(Buffer.from(answer.body).toString()).toBe(`${body.length} ${digest}`);
    expect(answer.header("connection")).toBe("keep-alive");
    client.send(head("GET /next"));
    expect((await client.readAnswer()).status).toBe(200);
    client.end();
  });

  test.each([
    ["GET", "Content-Length: 5", "null"],
    ["HEAD", "Content-Length: 5", "null"],
    ["DELETE", "Content-Length: 5", "null"],
    ["POST", "Content-Length: 0", "null"],
    ["POST", "X: y", "null"],
    ["POST", "Content-Length: 5", "stream"],
  ])(
    "createRequestBody() of %s with %s is %s, and the next request is not mistaken for it",
    async (method, line, kind) => {
      const bodies: string[] = [];
      await using server = await startHttpServer({
        way,
        answer: ({ body }) => (bodies.push(body === null ? "null" : "stream"), text("x")),
      });
      const client = await server.connect();
      const body = line.endsWith("5") ? "GET /" : "";
      client.send(head(`${method} /x`, line) + body + head("GET /next"));
      expect((await client.readAnswer(method)).status).toBe(200);
      expect((await client.readAnswer()).status).toBe(200);
      expect(bodies).toEqual([kind, "null"]);
      client.end();
    },
  );

  test("[R81] an answer pre-empts the body of a client that waits for 100 Continue", async () => {
    await using server = await startHttpServer({ way, answer: refuse });
    const client = await server.connect();
    client.send(head("PUT /upload", "Expect: 100-continue", "Content-Length: 5000000"));
    const answer = await client.readAnswer();
    // Whether the client sends the body now is its choice: the connection cannot be used again.
    expect([answer.status, answer.header("connection")]).toEqual([401, "close"]);
    await client.closed;
  });

  test("[R81] reading the body sends 100 Continue", async () => {
    await using server = await startHttpServer({ way, answer: swallow });
    const client = await server.connect();
    client.send(head("PUT /upload", "Expect: 100-continue", "Content-Length: 5"));
    expect((await client.readHead()).status).toBe(100);
    client.send("hello");
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection")]).toEqual([200, "keep-alive"]);
    expect(Buffer.from(answer.body).toString()).toStartWith("5 ");
    client.end();
  });

  test("an unread body of up to 1 MiB is dropped and the connection goes on", async () => {
    await using server = await startHttpServer({ way, answer: (e) => (e.method === "PUT" ? refuse() : text("x")) });
    const client = await server.connect();
    client.send(head("PUT /upload", `Content-Length: ${MEGABYTE}`));
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection")]).toEqual([401, "keep-alive"]);
    client.send(new Uint8Array(MEGABYTE));
    client.send(head("GET /next"));
    expect((await client.readAnswer()).status).toBe(200);
    client.end();
  });

  test("a half-read body of up to 1 MiB is dropped and the connection goes on", async () => {
    await using server = await startHttpServer({
      way,
      answer: async ({ body }) => {
        const reader = body?.getReader();
        await reader?.read();
        return text("x");
      },
    });
    const client = await server.connect();
    client.send(head("PUT /upload", `Content-Length: ${MEGABYTE}`));
    client.send(new Uint8Array(1000));
    expect((await client.readAnswer()).header("connection")).toBe("keep-alive");
    client.send(new Uint8Array(MEGABYTE - 1000));
    client.send(head("GET /next"));
    expect((await client.readAnswer()).status).toBe(200);
    client.end();
  });

  test.each([
    ["longer", `Content-Length: ${20 * MEGABYTE}`],
    ["of unknown length", "Transfer-Encoding: chunked"],
  ])("with an unread body that is %s the client gets the whole answer, then the end", async (_, line) => {
    await using server = await startHttpServer({ way, answer: refuse });
    const client = await server.connect();
    client.send(head("PUT /upload", line));
    if (line.startsWith("Transfer")) client.send("1000000\r\n");
    client.send(new Uint8Array(65_536));
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection"), answer.isComplete]).toEqual([401, "close", true]);
    // What was under way when the answer went out is taken: a reset could have overtaken the answer.
    for (let sent = 0; sent < 4; sent += 1) client.send(new Uint8Array(65_536));
    expect(await client.closed).toBe("fin");
    await server.ended(1);
    expect(server.finished[0]?.outcome).toMatchObject({ status: 401, complete: true });
  });

  test("a client that does not send the rest of an unread body is cut", async () => {
    await using server = await startHttpServer({ way, answer: refuse });
    const client = await server.connect();
    client.send(head("PUT /upload", "Content-Length: 1000") + "abc");
    expect((await client.readAnswer()).status).toBe(401);
    await client.closed;
  });

  test("a client that stalls in the middle of a body is cut after the idle time", async () => {
    let failure: unknown;
    await using server = await startHttpServer({
      way,
      bodyTimeoutMs: 100,
      answer: async (exchange) => {
        await swallow(exchange).catch((error: unknown) => (failure = error));
        return refuse();
      },
    });
    const client = await server.connect();
    client.send(head("PUT /upload", "Content-Length: 1000") + "abc");
    await client.closed;
    await server.ended(1);
    expect(String(failure)).toContain("expected more of the request body within 100 ms");
    expect(server.finished[0]?.exchange.signal.aborted).toBe(true);
  });

  test.each(["end", "reset"] as const)(
    "a client that leaves in the middle of a body fails the read (%s)",
    async (how) => {
      let failure: unknown;
      await using server = await startHttpServer({
        way,
        answer: async (exchange) => {
          await swallow(exchange).catch((error: unknown) => (failure = error));
          return refuse();
        },
      });
      const client = await server.connect();
      client.send(head("PUT /upload", "Content-Length: 1000") + "abc");
      while (server.http.openRequests === 0) await Bun.sleep(1);
      await Bun.sleep(5);
      client[how]();
      await server.ended(1);
      expect(failure).toBeInstanceOf(Error);
      expect(server.finished[0]?.outcome.complete).toBe(false);
      expect(server.refused).toEqual([]);
    },
  );

  test("[R260] a body that is read in steps fills no memory between them", async () => {
    const steps = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await using server = await startHttpServer({
      way,
      answer: async ({ body }) => {
        const reader = body?.getReader();
        for (const { promise } of steps) {
          await reader?.read();
          await promise;
        }
        return refuse();
      },
    });
    const socket = way === "tls" ? tls.connect({ ...trusted(), port: server.port }) : net.connect(server.port);
    await once(socket, way === "tls" ? "secureConnect" : "connect");
    socket.on("error", () => undefined);
    socket.write(head("PUT /upload", `Content-Length: ${200 * MEGABYTE}`));
    for (const { resolve } of steps) {
      const taken = await fill(socket);
      // What the buffers of the kernel hold, and a little.
      expect(taken / MEGABYTE).toBeLessThan(20);
      resolve();
    }
    await server.ended(1);
    socket.destroy();
  });

  test("[R260] a body that is read again after a pause arrives whole", async () => {
    await using server = await startHttpServer({
      way,
      answer: async (exchange) => {
        await Bun.sleep(200);
        return swallow(exchange);
      },
    });
    const client = await server.connect();
    client.send(head("PUT /upload", `Content-Length: ${5 * MEGABYTE}`));
    client.send(new Uint8Array(5 * MEGABYTE));
    expect(Buffer.from((await client.readAnswer()).body).toString()).toStartWith(`${5 * MEGABYTE} `);
    client.end();
  });
});

/** Writes until nothing was taken for a while. @returns how many bytes went */
async function fill(socket: net.Socket): Promise<number> {
  const piece = new Uint8Array(65_536);
  let taken = 0;
  while (taken < 100 * MEGABYTE) {
    const flows = socket.write(piece) || (await Promise.race([once(socket, "drain"), Bun.sleep(200)])) !== undefined;
    if (!flows) return taken;
    taken += piece.length;
  }
  return taken;
}
