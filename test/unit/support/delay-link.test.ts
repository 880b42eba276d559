import { expect, test } from "bun:test";
import { mayLink, startDelayLink } from "../../support/delay-link.ts";
import { createQueue } from "../../support/delay-link-relay.ts";

test("createQueue() gives packets in the order in which they are due, and none before", () => {
  const queue = createQueue();
  const order = [50, 10, 30, 20, 40, 10, 60];
  for (const dueAtMs of order) queue.add({ dueAtMs, to: 1, bytes: new Uint8Array() });
  expect([queue.due(9), queue.waitMs(4.5), queue.length()]).toEqual([undefined, 6, 7]);
  const given = Array.from({ length: 6 }, () => queue.due(50)?.dueAtMs);
  expect([given, queue.due(50), queue.due(60)?.dueAtMs, queue.length()]).toEqual([
    [10, 10, 20, 30, 40, 50],
    undefined,
    60,
    0,
  ]);
  expect(queue.waitMs(0)).toBe(1000);
});

/** Bytes of /dev/zero sent from the far to the near end; milliseconds. */
async function transfer(settings: object, bytes: number): Promise<{ tookMs: number; got: number; lost: number }> {
  await using link = await startDelayLink(settings);
  const server = Bun.spawn([...link.far.command, process.execPath, "-e", SERVER], { stdout: "pipe" });
  await server.stdout.getReader().read();
  const client = `fetch("http://${link.far.address}:8000/${bytes}").then(async (answer) => console.log((await answer.bytes()).length))`;
  const began = performance.now();
  const child = Bun.spawn([...link.near.command, process.execPath, "-e", client], { stdout: "pipe" });
  const got = Number(await new Response(child.stdout).text());
  const tookMs = performance.now() - began;
  server.kill();
  const { dropped } = await link.set({});
  return { tookMs, got, lost: dropped };
}

const SERVER = `Bun.serve({ hostname: "0.0.0.0", port: 8000, fetch: ({ url }) => new Response(new Uint8Array(Number(url.split("/").at(-1)))) }); console.log("ready")`;

test.skipIf(!mayLink())("startDelayLink() delays, loses and slows what passes, and leaves nothing behind", async () => {
  const quick = await transfer({}, 1_000_000);
  expect([quick.got, quick.lost]).toEqual([1_000_000, 0]);
  // Connection, request and a few windows: five ways at least.
  const late = await transfer({ delayMs: 50, jitterMs: 5 }, 1_000_000);
  expect([late.got, late.tookMs > quick.tookMs + 200]).toEqual([1_000_000, true]);
  const slow = await transfer({ rateMbit: 20 }, 1_000_000);
  expect([slow.got, slow.tookMs > 400]).toEqual([1_000_000, true]);
  const lossy = await transfer({ loss: 0.03 }, 2_000_000);
  expect([lossy.got, lossy.lost > 0]).toEqual([2_000_000, true]);
  expect(Bun.spawnSync(["ip", "link"]).stdout.toString()).not.toContain("laylink");
});
