import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { ListenError, listenOn, specText } from "../../../src/front/listen.ts";
import type { ListenSpec } from "../../../src/front/listen.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const loopback: ListenSpec = { kind: "tcp", host: "127.0.0.1", port: 0 };

function newServer(): net.Server & AsyncDisposable {
  const server = net.createServer((socket) => socket.end("hello"));
  return Object.assign(server, { [Symbol.asyncDispose]: async () => void server.close() });
}

async function greetingFrom(options: net.NetConnectOpts): Promise<string> {
  const socket = net.connect(options);
  const [data] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return data.toString();
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ListenError);
  return error instanceof Error ? error.message : "";
}

test("specText() writes an address as people do", () => {
  expect(specText({ kind: "tcp", host: undefined, port: 5000 })).toBe(":5000");
  expect(specText({ kind: "tcp", host: "::1", port: 5000 })).toBe("[::1]:5000");
  expect(specText({ kind: "tcp", host: "192.0.2.7", port: 80 })).toBe("192.0.2.7:80");
  expect(specText({ kind: "unix", path: "/run/x.sock" })).toBe("unix:/run/x.sock");
});

describe("tcp", () => {
  test("listenOn() reports the port that the system chose", async () => {
    await using server = newServer();
    const bound = await listenOn(server, loopback, "--listen");
    expect(bound.text).toBe(`127.0.0.1:${bound.port}`);
    expect(await greetingFrom({ host: "127.0.0.1", port: bound.port ?? 0 })).toBe("hello");
  });

  test("listenOn() without a host listens on both families", async () => {
    await using server = newServer();
    const { port = 0, text } = await listenOn(server, { kind: "tcp", host: undefined, port: 0 }, "--listen");
    expect(text).toEndWith(`:${port}`);
    for (const host of ["127.0.0.1", "::1"]) expect(await greetingFrom({ host, port })).toBe("hello");
  });

  test("listenOn() says that a port is in use, and what to do", async () => {
    await using first = newServer();
    await using second = newServer();
    const { port = 0 } = await listenOn(first, loopback, "--listen");
    expect(await failure(listenOn(second, { kind: "tcp", host: "127.0.0.1", port }, "--listen"))).toBe(
      `port ${port} is in use: another program listens on 127.0.0.1:${port}; stop it or choose another --listen`,
    );
    expect(await failure(listenOn(second, { kind: "tcp", host: undefined, port }, "--http-redirect"))).toBe(
      `port ${port} is in use: another program listens on :${port}; stop it or choose another --http-redirect`,
    );
  });

  test("listenOn() says that an address is not of this machine", async () => {
    await using server = newServer();
    const message = await failure(listenOn(server, { kind: "tcp", host: "192.0.2.1", port: 0 }, "--listen"));
    expect(message).toBe("192.0.2.1:0 is not an address of this machine: choose another --listen");
  });
});

describe("unix", () => {
  test("listenOn() opens the socket to owner and group and removes it at the end", async () => {
    await using dir = await createTempDir();
    await using server = newServer();
    const path = dir.file("x.sock");
    const bound = await listenOn(server, { kind: "unix", path }, "--listen");
    expect([bound.text, bound.port]).toEqual([`unix:${path}`, undefined]);
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(await greetingFrom({ path })).toBe("hello");
    server.close();
    expect(existsSync(path)).toBe(false);
  });

  test("listenOn() replaces the file of a process that died", async () => {
    await using dir = await createTempDir();
    const path = dir.file("x.sock");
    const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    await Bun.spawn([process.execPath, "-e", script]).exited;
    expect(existsSync(path)).toBe(true);
    await using server = newServer();
    await listenOn(server, { kind: "unix", path }, "--listen");
    expect(await greetingFrom({ path })).toBe("hello");
  });

  test("listenOn() leaves the socket of a living program alone", async () => {
    await using dir = await createTempDir();
    const path = dir.file("x.sock");
    await using first = newServer();
    await using second = newServer();
    await listenOn(first, { kind: "unix", path }, "--listen");
    expect(await failure(listenOn(second, { kind: "unix", path }, "--listen"))).toBe(
      `unix:${path} is in use: another program listens on unix:${path}; stop it or choose another --listen`,
    );
    expect(await greetingFrom({ path })).toBe("hello");
  });

  test("listenOn() never removes a file that is no socket", async () => {
    await using dir = await createTempDir();
    await using server = newServer();
    const path = dir.file("notes.txt");
    writeFileSync(path, "mine");
    expect(await failure(listenOn(server, { kind: "unix", path }, "--listen"))).toContain("is not a socket");
    expect(await Bun.file(path).text()).toBe("mine");
    mkdirSync(dir.file("folder"));
    expect(await failure(listenOn(server, { kind: "unix", path: dir.file("folder") }, "--listen"))).toContain(
      "is not a socket",
    );
  });

  test("listenOn() says that the folder does not exist", async () => {
    await using dir = await createTempDir();
    await using server = newServer();
    const path = dir.file("none", "x.sock");
    expect(await failure(listenOn(server, { kind: "unix", path }, "--listen"))).toContain("does not exist: make it");
  });
});
