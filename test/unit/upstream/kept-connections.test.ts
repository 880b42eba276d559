/** Connections that are kept for the next request, and that their upstream ended meanwhile (protocol R257). */
import net from "node:net";
import { expect, test } from "bun:test";
import { ask, bytesOf, closeAfter, registryAt, testClient } from "./fixture.ts";

/**
 * A server that answers each connection until it is told that those it has are old: then it ends them while they are idle, or
 * as soon as they bring a request, without a byte of an answer.
 */
async function agingServer() {
  const sockets = new Set<net.Socket>();
  let onOld: ((socket: net.Socket) => void) | undefined;
  const old = new WeakSet<net.Socket>();
  let requests = 0;
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", () => {
      requests += 1;
      if (old.has(socket)) onOld?.(socket);
      else held.push(() => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      if (held.length >= together) for (const answer of held.splice(0)) answer();
    });
  });
  const held: (() => void)[] = [];
  let together = 1;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeAfter(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error(`expected a TCP address, got ${address}`);
  return {
    url: `http://127.0.0.1:${address.port}`,
    connections: () => sockets.size,
    requests: () => requests,
    /** Answers only when so many requests wait, so that each has a connection of its own. */
    holdUntil(count: number) {
      together = count;
    },
    age(how: (socket: net.Socket) => void, when: "idle" | "asked") {
      together = 1;
      for (const socket of sockets) {
        if (when === "idle") how(socket);
        else old.add(socket);
      }
      onOld = how;
    },
  };
}

const fin = (socket: net.Socket) => void socket.end();
const reset = (socket: net.Socket) => void socket.resetAndDestroy();

test.each([
  ["FIN", "idle", fin, 1],
  ["FIN", "idle", fin, 8],
  ["a reset", "idle", reset, 1],
  ["a reset", "idle", reset, 8],
  ["FIN", "asked", fin, 1],
  ["FIN", "asked", fin, 8],
  ["a reset", "asked", reset, 1],
  ["a reset", "asked", reset, 8],
] as const)("[R257] send() does not notice %s on a kept connection that is %s", async (_, when, how, count) => {
  const server = await agingServer();
  const at = registryAt(server.url);
  const never = () => Promise.reject(new Error("expected no wait before another try"));
  const client = testClient({}, { sleep: never });
  const send = async () => new TextDecoder().decode(await bytesOf(await client.send(ask(at))));
  server.holdUntil(count);
  await Promise.all(Array.from({ length: count }, send));
  expect(server.connections()).toBe(count);
  server.age(how, when);
  expect(await Promise.all(Array.from({ length: count }, send))).toEqual(Array.from({ length: count }, () => "ok"));
  expect(client.notices).toEqual([]);
  expect(client.health(at)).toMatchObject([{ state: "closed" }]);
});
