/**
 * Metrics of the process itself, under the names that Prometheus' own libraries use, and how late its event loop comes.
 *
 * The lag is sampled by a timer of ours, four times a second, and only while somebody scrapes: the runtime's monitor wakes an
 * idle process all the time, and a single sample at each scrape would miss nearly every stall. A histogram that only grows
 * may be read by several scrapers.
 */
import { readFileSync, readdirSync } from "node:fs";
import { createHistogram, createReading, type Metric } from "./metrics.ts";

export interface LoopMonitor {
  readonly metrics: readonly Metric[];
  /** Somebody scrapes: watch, for a while. */
  asked(): void;
  stop(): void;
}

const SAMPLE_MS = 250;
/** Longer than any usual interval of scrapes. */
const WATCH_MS = 5 * 60_000;
/** A stall of a quarter of a second is certain to be seen, a shorter one in proportion. */
const LAG_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export function createLoopMonitor(): LoopMonitor {
  const lag = createHistogram(
    {
      name: "layover_event_loop_lag_seconds",
      labels: [],
      help: "How late a timer came, sampled four times a second while metrics are scraped",
    },
    LAG_BOUNDS,
  );
  let timer: ReturnType<typeof setInterval> | undefined;
  let watchedUntilMs = 0;
  let dueMs = 0;

  function sample(): void {
    const nowMs = performance.now();
    lag.observe(Math.max(0, nowMs - dueMs) / 1000);
    dueMs = nowMs + SAMPLE_MS;
    if (nowMs > watchedUntilMs) stop();
  }

  function stop(): void {
    clearInterval(timer);
    timer = undefined;
  }

  return {
    metrics: [lag],
    asked() {
      watchedUntilMs = performance.now() + WATCH_MS;
      if (timer !== undefined) return;
      dueMs = performance.now() + SAMPLE_MS;
      timer = setInterval(sample, SAMPLE_MS);
      timer.unref();
    },
    stop,
  };
}

export function processMetrics(): Metric[] {
  const startedSeconds = Date.now() / 1000 - process.uptime();
  const maxFds = readMaxFds();
  return [
    createReading(
      { name: "process_cpu_seconds_total", help: "Processor time of the process" },
      "counter",
      () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
    ),
    createReading({ name: "process_resident_memory_bytes", help: "Memory of the process" }, "gauge", () =>
      process.memoryUsage.rss(),
    ),
    createReading({ name: "process_open_fds", help: "Open files and sockets" }, "gauge", countFds),
    createReading({ name: "process_max_fds", help: "How many may be open" }, "gauge", () => maxFds),
    createReading(
      { name: "process_start_time_seconds", help: "When the process started, seconds since 1970" },
      "gauge",
      () => startedSeconds,
    ),
  ];
}

/** Undefined where there is no /proc. */
function countFds(): number | undefined {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return undefined; // another system: the metric is left out
  }
}

function readMaxFds(): number | undefined {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return found?.[1] === undefined ? undefined : Number(found[1]);
  } catch {
    return undefined; // likewise
  }
}
