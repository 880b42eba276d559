/**
 * How late things came, in milliseconds. A turn of 200 ms is one late tick, but everybody who came meanwhile waited: each
 * tick that would have been in between counts too, so that a long turn weighs what it cost.
 */
import { openSync, readSync } from "node:fs";

export interface Delays {
  record(delayMs: number): void;
  /** What was recorded since the last call. */
  take(): DelaySummary;
}

export interface DelaySummary {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly samples: number;
}

/** Between two ticks. */
export const TICK_MS = 5;

export function createDelays(): Delays {
  let values: number[] = [];
  return {
    record(delayMs) {
      for (let left = Math.max(0, delayMs); left >= 0; left -= TICK_MS) values.push(left);
    },
    take() {
      const sorted = Float64Array.from(values).sort();
      values = [];
      const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
      return { p50: at(0.5), p99: at(0.99), max: at(1), samples: sorted.length };
    },
  };
}

export interface OwnLoop {
  /** How late the timer was, whyever. */
  readonly late: Delays;
  /** The same without the time in which the thread could have run and other programs had the processor. */
  readonly busy: Delays;
}

/** Records from now on how late this thread's own timer is. Linux only. */
export function watchOwnLoop(): OwnLoop {
  const loop = { late: createDelays(), busy: createDelays() };
  const waited = createWaitClock();
  let [dueMs, waitedMs] = [performance.now() + TICK_MS, waited()];
  function tick(): void {
    const [nowMs, nowWaitedMs] = [performance.now(), waited()];
    loop.late.record(nowMs - dueMs);
    loop.busy.record(nowMs - dueMs - (nowWaitedMs - waitedMs));
    dueMs = nowMs + TICK_MS;
    waitedMs = nowWaitedMs;
    setTimeout(tick, TICK_MS).unref();
  }
  setTimeout(tick, TICK_MS).unref();
  return loop;
}

/** How long this thread has waited for a processor so far, in milliseconds: the second figure that the kernel gives. */
function createWaitClock(): () => number {
  const file = openSync("/proc/thread-self/schedstat", "r");
  const buffer = new Uint8Array(100);
  const decoder = new TextDecoder();
  return () => {
    const text = decoder.decode(buffer.subarray(0, readSync(file, buffer, 0, buffer.byteLength, 0)));
    return Number(text.split(" ")[1]) / 1e6;
  };
}

/** `"0.2 / 1.4 / 12.0"` */
export function showDelays({ p50, p99, max }: DelaySummary): string {
  return [p50, p99, max].map((ms) => ms.toFixed(1)).join(" / ");
}
