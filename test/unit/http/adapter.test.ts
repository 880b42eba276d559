import { describe, expect, test } from "bun:test";
import type { Exchange } from "../../../src/proxy/exchange.ts";
import { feed, head, startHttpServer, text, WAYS } from "../../support/http-server.ts";

const echo = (exchange: Exchange) => text(`${exchange.method} ${exchange.path}`);

describe.each(WAYS)("over a %s connection", (way) => {
  test("[R276, R121, R38] accept() answers with header lines in order, repeated ones as lines of their own", async () => {
    await using server = await startHttpServer({
      way,
      answer: () => ({
        status: 401,
        headers: [
          ["WWW-Authenticate", 'Bearer realm="https://a.test/token"'],
          ["OCI-Tag", "1"],
          ["www-authenticate", 'Basic realm="b"'],
          ["OCI-Tag", "2"],
        ],
        body: "no",
      }),
    });
    const client = await server.connect();
    client.send(head("GET /v2/"));
    const answer = await client.readAnswer();
    expect(answer.status).toBe(401);
    expect(answer.all("www-authenticate")).toEqual(['Bearer realm="https://a.test/token"', 'Basic realm="b"']);
    expect(answer.all("oci-tag")).toEqual(["1", "2"]);
    expect(answer.header("content-length")).toBe("2");
    expect(answer.header("x-request-id")).toBe("0123456789abcdef");
    expect(Date.parse(answer.header("date") ?? "")).toBeGreaterThan(0);
    client.end();
  });

  test("accept() makes an Exchange of the request", async () => {
    await using server = await startHttpServer({ way, answer: echo });
    const client = await server.connect();
    client.send(head("GET /v2/a/tags/list?n=1&x=%2F", "Accept: a", "ACCEPT: b", "X-Odd: \xff"));
    await client.readAnswer();
    await server.ended(1);
    const { exchange, outcome } = server.finished[0] ?? {};
    expect(exchange).toMatchObject({
      id: "0123456789abcdef",
      method: "GET",
      path: "/v2/a/tags/list",
      query: "n=1&x=%2F",
      host: { text: "registry.test" },
      peer: "127.0.0.1",
      secure: way === "tls",
      body: null,
    });
    expect(exchange?.headers.get("accept")).toBe("a, b");
    expect(outcome).toMatchObject({ status: 200, bytesSent: 19, complete: true });
    expect(exchange?.signal.aborted).toBe(false);
    client.end();
  });

  test("accept() answers pipelined requests one after the other", async () => {
    const steps: string[] = [];
    await using server = await startHttpServer({
      way,
      answer: async (exchange) => {
        steps.push(`asked ${exchange.path}`);
        if (exchange.path === "/slow") await Bun.sleep(20);
        steps.push(`answered ${exchange.path}`);
        return echo(exchange);
      },
    });
    const client = await server.connect();
    client.send(head("GET /slow") + head("GET /fast"));
    const slow = await client.readAnswer();
    const fast = await client.readAnswer();
    expect([slow.body, fast.body].map((body) => Buffer.from(body).toString())).toEqual(["GET /slow", "GET /fast"]);
    expect(steps).toEqual(["asked /slow", "answered /slow", "asked /fast", "answered /fast"]);
    client.end();
  });

  test("accept() keeps the connection for the next request", async () => {
    await using server = await startHttpServer({ way, answer: echo });
    const client = await server.connect();
    for (const path of ["/1", "/2", "/3"]) {
      client.send(head(`GET ${path}`));
      expect(Buffer.from((await client.readAnswer()).body).toString()).toBe(`GET ${path}`);
    }
    client.end();
  });

  test("accept() reads a request that comes byte by byte", async () => {
    await using server = await startHttpServer({ way, answer: echo });
    const client = await server.connect();
    for (const byte of head("GET /v2/")) {
      client.send(byte);
      await Bun.sleep(0);
    }
    expect((await client.readAnswer()).status).toBe(200);
    client.end();
  });

  test("accept() serves HTTP/1.0 without Host and closes", async () => {
    await using server = await startHttpServer({ way, answer: echo });
    const client = await server.connect();
    client.send("GET /healthz HTTP/1.0\r\n\r\n");
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection")]).toEqual([200, "close"]);
    expect(await client.closed).toBe("fin");
    expect(server.finished[0]?.exchange.host).toBeUndefined();
  });

  test("[T29] accept() takes 64 KiB of headers and refuses more with 431", async () => {
    await using server = await startHttpServer({ way, answer: echo });
    const fits = await server.connect();
    fits.send(head("GET /v2/", `Authorization: Bearer ${"a".repeat(65_000)}`));
    expect((await fits.readAnswer()).status).toBe(200);
    fits.end();
    for (const rest of ["\r\n\r\n", ""]) {
      const client = await server.connect();
      client.send(`GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX: ${"a".repeat(70_000)}${rest}`);
      const answer = await client.readAnswer();
      expect([answer.status, answer.header("connection")]).toEqual([431, "close"]);
    }
    const many = await server.connect();
    many.send(head("GET /v2/", ...Array.from({ length: 300 }, () => "A: b")));
    expect((await many.readAnswer()).status).toBe(431);
    expect(server.refused.map(({ status }) => status)).toEqual([431, 431, 431]);
  });

  test.each([
    ["no Host", "GET /v2/ HTTP/1.1\r\n\r\n", 400],
    ["two Hosts", head("GET /v2/", "Host: evil.test"), 400],
    ["a Host with a path", "GET / HTTP/1.1\r\nHost: a/v2/x?\r\n\r\n", 400],
    ["dot components", head("GET /v2/../x"), 400],
    ["an encoded slash", head("GET /v2/..%2fx"), 400],
    ["another authority", head("GET http://evil.test/v2/"), 400],
    ["an unknown method", head("PURGE /v2/"), 405],
    ["TRACE", head("TRACE /v2/"), 405],
    // node's parser refuses it before us on sockets it accepted itself.
    ["OPTIONS *", head("OPTIONS *"), way === "direct" ? 400 : 405],
    ["CONNECT", "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 405],
    [
      "CONNECT with a body",
      "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\nContent-Length: 5\r\n\r\nhello",
      405,
    ],
    ["length and coding", head("PUT /v2/", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", 400],
    ["two lengths", head("PUT /v2/", "Content-Length: 5", "Content-Length: 6") + "hello", 400],
    ["one length twice", head("PUT /v2/", "Content-Length: 5", "Content-Length: 5") + "hello", 400],
    ["a signed length", head("PUT /v2/", "Content-Length: +5") + "hello", 400],
    ["an unknown coding", head("PUT /v2/", "Transfer-Encoding: gzip") + "0\r\n\r\n", 400],
    ["a folded line", head("GET /v2/", "A: 1\r\n  2"), 400],
    ["bare line feeds", "GET /v2/ HTTP/1.1\nHost: registry.test\n\n", 400],
    ["a bare line feed between lines", head("GET /v2/", "A: 1\nB: 2"), 400],
    ["a bare carriage return", head("GET /v2/", "A: 1\rB: 2"), 400],
    ["NUL in a header", head("GET /v2/", "A: 1\0"), 400],
    ["NUL in the path", head("GET /v2/\0"), 400],
    ["a space before the colon", head("GET /v2/", "A : 1"), 400],
    ["a space in the path", head("GET /v2/ x"), 400],
    ["HTTP/2.0", "GET /v2/ HTTP/2.0\r\nHost: registry.test\r\n\r\n", 400],
    ["the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400],
    ["no HTTP", "\x00\x01\x02\x03zzzz\r\n\r\n", 400],
  ])("[T29, R223, R251, R254] accept() refuses %s", async (_, bytes, status) => {
    let asked = 0;
    await using server = await startHttpServer({ way, answer: (exchange) => ((asked += 1), echo(exchange)) });
    const client = await server.connect();
    client.send(bytes);
    const answer = await client.readAnswer();
    expect([answer.status, answer.header("connection"), answer.header("content-type")]).toEqual([
      status,
      "close",
      "application/json",
    ]);
    const body = Buffer.from(answer.body).toString();
    expect(Object.keys(JSON.parse(body).errors[0])).toEqual(["code", "message"]);
    expect(body).not.toContain("evil");
    if (status === 405) expect(answer.header("allow")).toContain("GET, HEAD");
    // Nothing after the refusal: no second answer to the bytes behind it.
    expect((await client.read(1)).length).toBe(0);
    expect([asked, server.refused.length]).toEqual([0, 1]);
    expect(server.refused[0]).toMatchObject({ status, peer: "127.0.0.1" });
    await client.closed;
    expect(server.http.openRequests).toBe(0);
  });

  test("accept() answers 500 without the reason when the answer throws", async () => {
    const cause = new Error("secret detail");
    await using server = await startHttpServer({ way, answer: () => Promise.reject(cause) });
    const client = await server.connect();
    client.send(head("GET /v2/"));
    const answer = await client.readAnswer();
    expect(answer.status).toBe(500);
    expect(Buffer.from(answer.body).toString()).toBe('{"errors":[{"code":"UNKNOWN","message":"internal error"}]}');
    await server.ended(1);
    expect(server.finished).toMatchObject([{ outcome: { status: 500, complete: true, cause } }]);
    client.end();
  });

  test.each([
    ["a line feed", "a\r\nSet-Cookie: x=1"],
    ["a character beyond Latin-1", "snow\u2603"],
    ["NUL", "a\0"],
  ])("[T29] accept() answers 500 when a reply's line holds %s, and sends none of its lines", async (_, value) => {
    await using server = await startHttpServer({ way, answer: () => text("x", ["A", "1"], ["Location", value]) });
    const client = await server.connect();
    client.send(head("GET /v2/") + head("GET /v2/"));
    for (const answer of [await client.readAnswer(), await client.readAnswer()]) {
      expect([answer.status, answer.all("a"), answer.all("set-cookie")]).toEqual([500, [], []]);
    }
    client.end();
    await server.ended(2);
  });

  test("accept() stops the body of a reply whose lines cannot be sent", async () => {
    const stopped = Promise.withResolvers<string>();
    const body = new ReadableStream<Uint8Array>({ cancel: () => stopped.resolve("stopped") });
    const answer = () => ({ status: 200, headers: [["Content-Length", "9999999999999999"]] as const, body });
    await using server = await startHttpServer({ way, answer });
    const client = await server.connect();
    client.send(head("GET /v2/"));
    expect((await client.readAnswer()).status).toBe(500);
    expect(await stopped.promise).toBe("stopped");
    client.end();
  });
});

describe("plain HTTP on a port that speaks https", () => {
  test.each([
    ["/v2/", 400],
    ["/healthz", 200],
    ["/health", 200],
    ["/healthz/x", 400],
  ])("%s gets %d from elsewhere than loopback, request by request", async (path, status) => {
    await using server = await startHttpServer({ way: "direct", answer: echo });
    await using front = await feed(server.http, { secure: false, peer: "192.0.2.7", httpsOnly: true });
    const client = await front.connect();
    client.send(head("GET /healthz"));
    expect((await client.readAnswer()).status).toBe(200);
    client.send(head(`GET ${path}`));
    const answer = await client.readAnswer();
    expect(answer.status).toBe(status);
    if (status === 400) expect(Buffer.from(answer.body).toString()).toContain("this port speaks https; use https://");
    client.end();
  });
});
