/** Layers larger than memory pass as fast as the registry takes them (protocol R79, R80, R82; lesson T22). */
import { expect, test } from "bun:test";
import { peakMiB } from "../support/cached.ts";
import { startLayover } from "../support/layover.ts";
import { openRaw } from "../support/raw-http.ts";
import { giantBody, startPushSink } from "../support/push-sink.ts";

const MIB = 1024 * 1024;

for (const framing of ["a length", "chunks"] as const) {
  test(`[R79, R80, R82] 200 MB with ${framing}: flat memory, and a registry that does not read holds the client back`, async () => {
    await using sink = await startPushSink();
    const map = { default: "sink", sink: { upstreams: [sink.url], hosts: ["sink.test"] } };
    const layover = await startLayover({ map, args: ["--allow-push"] });
    const begun = await fetch(`${layover.url}/v2/org/sink/blobs/uploads/`, { method: "POST" });
    const before = await peakMiB(layover);
    sink.holdAfter(8 * MIB);
    const { stream, counters } = giantBody(200 * MIB);
    const headers: Record<string, string> = framing === "chunks" ? {} : { "content-length": String(200 * MIB) };
    const patching = fetch(begun.headers.get("location") ?? "", { method: "PATCH", body: stream, headers });
    await stands(() => counters.sent);
    expect(counters.sent).toBeGreaterThanOrEqual(8 * MIB);
    expect(counters.sent).toBeLessThan(80 * MIB); // buffers of four sockets and of the test's own client
    sink.release();
    const patched = await patching;
    expect([patched.status, patched.headers.get("range")]).toEqual([202, `0-${200 * MIB - 1}`]);
    expect([sink.received, sink.digest]).toEqual([200 * MIB, counters.digest]);
    expect((await peakMiB(layover)) - before).toBeLessThan(100);
    await layover.stop();
  }, 60_000);
}

test("[R80] the first bytes are at the registry long before the client has sent the last", async () => {
  await using sink = await startPushSink();
  const map = { default: "sink", sink: { upstreams: [sink.url], hosts: ["sink.test"] } };
  const layover = await startLayover({ map, args: ["--allow-push"] });
  const begun = await fetch(`${layover.url}/v2/org/sink/blobs/uploads/`, { method: "POST" });
  const connection = await openRaw(layover.url);
  const { pathname } = new URL(begun.headers.get("location") ?? "");
  connection.send(`PATCH ${pathname} HTTP/1.1\r\nHost: ${layover.host}\r\nContent-Length: 2000000\r\n\r\n`);
  connection.send("x".repeat(1_000_000));
  while (sink.received < 1_000_000) await Bun.sleep(5);
  connection.send("x".repeat(1_000_000));
  expect((await connection.readAnswer()).status).toBe(202);
  connection.end();
  await layover.stop();
});

/** Until the count no longer grows. */
async function stands(count: () => number): Promise<void> {
  for (let last = -1; count() !== last; await Bun.sleep(500)) last = count();
}
