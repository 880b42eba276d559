/** Counting, and the text that Prometheus reads. */
import { describe, expect, test } from "bun:test";
import {
  createCounter,
  createHistogram,
  createInfo,
  createReading,
  createReadings,
  exposition,
} from "../../src/metrics.ts";

const text = (name: string, ...labels: string[]) => ({ name, labels, help: "What it is" });

describe("exposition()", () => {
  test("writes counters, readings and information with their labels", () => {
    const requests = createCounter(text("requests_total", "registry", "status"));
    requests.add(1, "quay", "2xx");
    requests.add(2, "quay", "2xx");
    requests.add(1, "hub", "4xx");
    const missing = createReading({ name: "missing", help: "Nothing" }, "gauge", () => undefined);
    const build = createInfo(text("build_info", "version"), ['1.0 "a\\b"\n']);
    const waiting = createReadings(text("waiting", "registry"), "gauge", () => [
      [["quay"], 3],
      [['h"b'], 0],
    ]);
    expect(waiting.samples()).toEqual(['waiting{registry="quay"} 3', 'waiting{registry="h\\"b"} 0']);
    expect(exposition([requests, missing, build])).toBe(
      [
        "# HELP requests_total What it is",
        "# TYPE requests_total counter",
        'requests_total{registry="quay",status="2xx"} 3',
        'requests_total{registry="hub",status="4xx"} 1',
        "",
        "# HELP missing Nothing",
        "# TYPE missing gauge",
        "",
        "# HELP build_info What it is",
        "# TYPE build_info gauge",
        String.raw`build_info{version="1.0 \"a\\b\"\n"} 1`,
        "",
      ].join("\n"),
    );
  });

  test("writes what is known beforehand as 0", () => {
    const plain = createCounter(text("plain_total"));
    const words = createCounter(text("words_total", "kind"), [["full"], ["broken"]]);
    expect([...plain.samples(), ...words.samples()]).toEqual([
      "plain_total 0",
      'words_total{kind="full"} 0',
      'words_total{kind="broken"} 0',
    ]);
  });

  test("writes buckets that hold those below them", () => {
    const seconds = createHistogram(text("seconds", "endpoint"), [0.1, 1]);
    for (const value of [0.05, 0.1, 0.5, 7]) seconds.observe(value, "blob");
    expect(seconds.samples()).toEqual([
      'seconds_bucket{endpoint="blob",le="0.1"} 2',
      'seconds_bucket{endpoint="blob",le="1"} 3',
      'seconds_bucket{endpoint="blob",le="+Inf"} 4',
      'seconds_sum{endpoint="blob"} 7.65',
      'seconds_count{endpoint="blob"} 4',
    ]);
  });
});

test("a metric never has more than some thousand series, and loses no count", () => {
  const counter = createCounter(text("many_total", "value"));
  for (let value = 0; value < 10_000; value++) counter.add(1, String(value));
  const lines = counter.samples();
  expect(lines.length).toBeLessThanOrEqual(4001);
  expect(lines.at(-1)).toBe('many_total{value="other"} 6000');
});
