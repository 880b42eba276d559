/**
 * Runs inside a measured Layover, before its own program: tells whoever connects to BENCH_LOOP_SOCKET how late the event
 * loop was since the last one asked.
 *
 *   BUN_OPTIONS="--preload bench/loop-delay.ts" BENCH_LOOP_SOCKET=/tmp/loop.sock layover …
 */
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { watchOwnLoop } from "./delays.ts";

const { late, busy } = watchOwnLoop();
const socketPath = process.env["BENCH_LOOP_SOCKET"] ?? "";
// Layover begins by running itself anew with another environment: the first one's socket is still there.
rmSync(socketPath, { force: true });
createServer((socket) => socket.end(JSON.stringify({ late: late.take(), busy: busy.take() })))
  .listen(socketPath)
  .unref();
