import { expect, test } from "bun:test";
import net from "node:net";
import { type ConnectionFaults, type FaultRelay, startFaultRelay } from "../../support/fault-relay.ts";
import { rawRequest, openRaw, type RawConnection } from "../../support/raw-http.ts";

const BYTES = Buffer.alloc(300_000, "layover ");

/** A target that sends BYTES on each connection when asked for anything, and ends. */
async function withRelay(faults: ConnectionFaults, run: (relay: FaultRelay) => Promise<void>): Promise<void> {
  const server = net.createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", () => (faults.staleAfterBytes === undefined ? socket.end(BYTES) : socket.write(BYTES)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  {
    await using relay = await startFaultRelay({ to: port, faults: () => faults, random: () => 0.5 });
    await run(relay);
  }
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

interface Got {
  bytes: Buffer;
  end: "fin" | "reset";
  tookMs: number;
}

async function readAll(connection: RawConnection): Promise<Got> {
  const began = performance.now();
  connection.send("x");
  const bytes = Buffer.from(await connection.read(Number.POSITIVE_INFINITY));
  return { bytes, end: await connection.closed, tookMs: performance.now() - began };
}

async function getThrough(faults: ConnectionFaults): Promise<Got & { relay: FaultRelay }> {
  let got: (Got & { relay: FaultRelay }) | undefined;
  await withRelay(faults, async (relay) => {
    got = { ...(await readAll(await openRaw(relay.url))), relay };
  });
  if (got === undefined) throw new Error("expected an answer");
  return got;
}

test("startFaultRelay() passes everything when told nothing, and counts it", async () => {
  const { bytes, end, relay } = await getThrough({ name: "none" });
  expect([bytes.equals(BYTES), end]).toEqual([true, "fin"]);
  expect(relay.counts.get("none")).toEqual({ connections: 1, readBytes: 300_000, passedBytes: 300_000, happened: 0 });
});

test.each(["reset", "fin"] as const)("startFaultRelay() ends a connection by %s behind so many bytes", async (how) => {
  const { bytes, end, relay } = await getThrough({ name: "cut", end: { how, afterBytes: 1000 } });
  expect(end).toBe(how);
  // A reset takes what is on its way with it.
  if (how === "fin") expect(bytes.equals(BYTES.subarray(0, 1000))).toBe(true);
  expect(relay.counts.get("cut")).toMatchObject({ passedBytes: 1000, happened: 1 });
});

test("startFaultRelay() passes nothing behind so many bytes, and breaks the connection when it is closed", async () => {
  await withRelay({ name: "hole", end: { how: "silence", afterBytes: 1000 } }, async (relay) => {
    const connection = await openRaw(relay.url);
    connection.send("x");
    expect(await connection.read(1000)).toHaveLength(1000);
    expect(relay.open).toBe(1);
    await relay.close();
    expect([await connection.closed, relay.open]).toEqual(["reset", 0]);
  });
});

test("startFaultRelay() breaks a connection at once, or swallows it", async () => {
  await withRelay({ name: "refused", start: "refuse" }, async (relay) => {
    await expect(rawRequest(relay.url, "GET /")).rejects.toThrow();
    expect(relay.total).toMatchObject({ connections: 1, readBytes: 0, happened: 1 });
  });
  await withRelay({ name: "hole", start: "silence" }, async (relay) => {
    const connection = await openRaw(relay.url);
    connection.send("x");
    relay.resetAll();
    expect(await connection.closed).toBe("reset");
  });
});

test("startFaultRelay() breaks a kept connection at its next request", async () => {
  await withRelay({ name: "stale", staleAfterBytes: 1000 }, async (relay) => {
    const connection = await openRaw(relay.url);
    connection.send("x");
    expect(await connection.read(BYTES.length)).toHaveLength(BYTES.length);
    expect(relay.total.happened).toBe(0);
    connection.send("y");
    expect(await connection.closed).toBe("reset");
    expect(relay.total.happened).toBe(1);
  });
});

test("startFaultRelay() turns one byte over", async () => {
  const { bytes } = await getThrough({ name: "corrupt", corruptAt: 70_001 });
  const wrong = [...bytes.keys()].filter((at) => bytes[at] !== BYTES[at]);
  expect([bytes.length, wrong]).toEqual([300_000, [70_001]]);
});

test("startFaultRelay() sends late, slowly, in pieces, and closes late", async () => {
  const late = await getThrough({ name: "late", latencyMs: 40, jitterMs: 10 });
  expect(late.tookMs).toBeGreaterThan(79);
  const slow = await getThrough({ name: "slow", bytesPerSecond: 1_500_000 });
  expect([slow.bytes.equals(BYTES), slow.tookMs > 199]).toEqual([true, true]);
  const sliced = await getThrough({ name: "slices", sliceBytes: 999 });
  expect(sliced.bytes.equals(BYTES)).toBe(true);
  const lingering = await getThrough({ name: "lingering", slowCloseMs: 100 });
  expect([lingering.bytes.length, lingering.tookMs > 99]).toEqual([300_000, true]);
});
