import { expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import type { AddressRule } from "../../../src/upstream/address.ts";
import { createDial, type DialDependencies, type Race } from "../../../src/upstream/dial.ts";
import { UpstreamError } from "../../../src/errors.ts";
import { closeAfter, failureOf } from "./fixture.ts";

const configured: AddressRule = { kind: "configured" };
const derived: AddressRule = { kind: "derived", from: "public", allow: [] };
const options = { connectTimeoutMs: 1_000, family: 0 } as const;

function limits() {
  return { signal: new AbortController().signal, deadlineMs: performance.now() + 2_000 };
}

/** A race that any first address wins, and the addresses it was given. */
function wonRace() {
  const races: (readonly string[])[] = [];
  const race: Race = async (addresses) => {
    races.push(addresses);
    return addresses[0] ?? "";
  };
  return { races, race };
}

function names(table: Record<string, string[]>) {
  const asked: string[] = [];
  const lookup: DialDependencies["lookup"] = async (host) => {
    asked.push(host);
    const found = table[host];
    if (found === undefined) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND" });
    return found;
  };
  return { asked, lookup };
}

async function listenOn(host: string, port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.on("error", () => undefined));
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  closeAfter(() => void server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { server, port: address.port };
}

test("[T18] reach() refuses a name that leads to a forbidden address without dialling", async () => {
  const { races, race } = wonRace();
  const table = {
    "private.test": ["10.0.0.5"],
    "mapped.test": ["::ffff:192.168.0.1"],
    "meta.test": ["169.254.169.254"],
    "meta6.test": ["fe80::1", "::ffff:169.254.169.254"],
    "void.test": ["0.0.0.0"],
  };
  const dial = createDial(options, { ...names(table), race });
  for (const host of Object.keys(table)) {
    const error = await failureOf(dial.reach({ host, port: 443, rule: derived }, limits()));
    expect(error).toMatchObject({ kind: "refused-address" });
  }
  for (const host of ["meta.test", "meta6.test", "void.test"]) {
    expect(await failureOf(dial.reach({ host, port: 443, rule: configured }, limits()))).toMatchObject({
      kind: "refused-address",
    });
  }
  expect(races).toEqual([]);
});

test("[T18] reach() refuses decimal, octal and hexadecimal forms without asking the resolver", async () => {
  const { races, race } = wonRace();
  const { asked, lookup } = names({});
  const dial = createDial(options, { lookup, race });
  for (const host of ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"]) {
    expect(await failureOf(dial.reach({ host, port: 80, rule: configured }, limits()))).toMatchObject({
      kind: "refused-address",
    });
  }
  expect([asked, races]).toEqual([[], []]);
});

test("[T18] reach() dials only the allowed ones of several addresses", async () => {
  const { races, race } = wonRace();
  const dial = createDial(options, { ...names({ "both.test": ["10.0.0.5", "8.8.8.8", "169.254.169.254"] }), race });
  expect(await dial.reach({ host: "both.test", port: 443, rule: derived }, limits())).toEqual({
    address: "8.8.8.8",
    kind: "public",
  });
  expect(races).toEqual([["8.8.8.8"]]);
});

test("[T18] reach() judges each rule for itself, also when the name is remembered under another", async () => {
  const dial = createDial(options, { ...names({ "reg.test": ["10.0.0.5"] }), ...wonRace() });
  expect(await dial.reach({ host: "reg.test", port: 443, rule: configured }, limits())).toMatchObject({
    kind: "private",
  });
  expect(await failureOf(dial.reach({ host: "reg.test", port: 443, rule: derived }, limits()))).toMatchObject({
    kind: "refused-address",
  });
});

test("reach() resolves a name once for all who ask, and anew after forget()", async () => {
  const { asked, lookup } = names({ "reg.test": ["8.8.8.8"] });
  const dial = createDial(options, { lookup, ...wonRace() });
  const target = { host: "reg.test", port: 443, rule: configured };
  await Promise.all([dial.reach(target, limits()), dial.reach(target, limits())]);
  await dial.reach(target, limits());
  expect(asked).toEqual(["reg.test"]);
  dial.forget(target);
  await dial.reach(target, limits());
  expect(asked).toEqual(["reg.test", "reg.test"]);
});

test("reach() does not remember a failure", async () => {
  const table: Record<string, string[]> = {};
  const dial = createDial(options, { ...names(table), ...wonRace() });
  const target = { host: "late.test", port: 443, rule: configured };
  const error = await failureOf(dial.reach(target, limits()));
  expect(error).toMatchObject({ kind: "connect", message: "late.test could not be resolved: ENOTFOUND" });
  table["late.test"] = ["8.8.8.8"];
  expect(await dial.reach(target, limits())).toMatchObject({ address: "8.8.8.8" });
});

test("reach() ends at its caller's deadline and signal, and goes on for the others", async () => {
  const gate = Promise.withResolvers<readonly string[]>();
  const dial = createDial(options, { lookup: () => gate.promise, ...wonRace() });
  const target = { host: "slow.test", port: 443, rule: configured };
  const client = new AbortController();
  const patient = dial.reach(target, limits());
  const hurried = dial.reach(target, { ...limits(), deadlineMs: performance.now() + 5 });
  const gone = dial.reach(target, { ...limits(), signal: client.signal });
  client.abort(new DOMException("client left", "AbortError"));
  expect(await failureOf(gone)).toMatchObject({ name: "AbortError" });
  expect(await failureOf(hurried)).toMatchObject({ kind: "timeout" });
  gate.resolve(["8.8.8.8"]);
  expect(await patient).toMatchObject({ address: "8.8.8.8" });
});

test("reach() offers the families in turns, beginning with the resolver's first (RFC 8305)", async () => {
  const { races, race } = wonRace();
  const dial = createDial(options, {
    ...names({ "many.test": ["2606:4700::1", "2606:4700::2", "8.8.8.8", "8.8.4.4", "1.1.1.1"] }),
    race,
  });
  await dial.reach({ host: "many.test", port: 443, rule: configured }, limits());
  expect(races).toEqual([["2606:4700::1", "8.8.8.8", "2606:4700::2", "8.8.4.4", "1.1.1.1"]]);
});

test("reach() passes the wanted family to the resolver", async () => {
  const families: number[] = [];
  const lookup = async (_: string, family: 0 | 4 | 6) => {
    families.push(family);
    return ["8.8.8.8"];
  };
  const dial = createDial({ ...options, family: 4 }, { lookup, ...wonRace() });
  await dial.reach({ host: "reg.test", port: 443, rule: configured }, limits());
  expect(families).toEqual([4]);
});

test("reach() takes the address that answers at once when another refuses", async () => {
  const { port } = await listenOn("127.0.0.2");
  const dial = createDial(options, names({ "reg.test": ["127.0.0.1", "127.0.0.2"] }));
  const startedAtMs = performance.now();
  expect(await dial.reach({ host: "reg.test", port, rule: configured }, limits())).toEqual({
    address: "127.0.0.2",
    kind: "loopback",
  });
  // Earlier than the 250 ms after which it would have been tried anyway.
  expect(performance.now() - startedAtMs).toBeLessThan(200);
});

test("reach() says what was refused when no address takes a connection", async () => {
  const { server, port } = await listenOn("127.0.0.1");
  await new Promise((resolve) => server.close(resolve));
  const error = await failureOf(createDial(options).reach({ host: "127.0.0.1", port, rule: configured }, limits()));
  expect(error).toBeInstanceOf(UpstreamError);
  expect(error).toMatchObject({ kind: "connect", message: `no connection to port ${port} of 127.0.0.1: ECONNREFUSED` });
});
