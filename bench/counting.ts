/**
 * What counting costs: one request is counted by the functions that the server calls, many times, and the time is divided.
 * `bun bench/counting.ts`
 */
import { createCounter, createHistogram } from "../src/metrics.ts";
import { createMetrics } from "../src/server-metrics.ts";
import { exchangeWith } from "../test/support/exchange.ts";

const TIMES = 1_000_000;

function measure(what: string, once: () => void): void {
  for (let turn = 0; turn < TIMES / 5; turn++) once();
  const startedAtMs = performance.now();
  for (let turn = 0; turn < TIMES; turn++) once();
  console.log(`${what.padEnd(40)} ${(((performance.now() - startedAtMs) / TIMES) * 1000).toFixed(2)} µs`);
}

const counter = createCounter({ name: "a", help: "", labels: ["registry", "endpoint", "status", "cache"] });
const histogram = createHistogram({ name: "b", help: "", labels: ["endpoint", "cache"] }, [0.001, 0.01, 0.1, 1, 10]);
measure("a count with four labels", () => counter.add(1, "quay", "blob", "2xx", "HIT"));
measure("an observation with two labels", () => histogram.observe(0.02, "blob", "HIT"));

const metrics = createMetrics({ version: "0", commit: "0", builtAt: "0", bun: "0" });
const exchange = exchangeWith({});
Object.assign(exchange.notes, { registry: "quay", endpoint: "blob", cache: "HIT" });
measure("a request, as the server counts it", () => {
  metrics.answered(exchange);
  metrics.finished(exchange, { status: 200, bytesSent: 1000 });
});
