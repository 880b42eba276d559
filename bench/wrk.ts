/** Small requests with wrk, 16 connections from one thread, kept alive. */
import { type Sample, sampleOf } from "./numbers.ts";

export interface Load {
  readonly requestsPerSecond: number;
  readonly p99Ms: number;
  /** That were answered. */
  readonly requests: number;
}

export interface LoadOptions {
  readonly seconds: number;
  /** Lines: `"Accept: application/json"`. */
  readonly headers?: readonly string[];
}

/** @throws Error when an answer was not 200: a server that refuses fast is not a fast server */
export async function load(url: string, { seconds, headers = [] }: LoadOptions): Promise<Load> {
  const extra = headers.flatMap((header) => ["-H", header]);
  const wrk = Bun.spawn(["wrk", "-t1", "-c16", `-d${seconds}s`, "--latency", ...extra, url], { stdout: "pipe" });
  const report = await new Response(wrk.stdout).text();
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(report)?.[1];
  const requests = /(\d+) requests in/.exec(report)?.[1];
  const [, p99, unit = ""] = /99%\s+([\d.]+)(us|ms|s)/.exec(report) ?? [];
  if (rate === undefined || p99 === undefined || report.includes("Non-2xx"))
    throw new Error(`expected nothing but 200 from ${url}, got:\n${report}`);
  return {
    requestsPerSecond: Number(rate),
    p99Ms: Number(p99) * (MS_OF[unit] ?? Number.NaN),
    requests: Number(requests),
  };
}

const MS_OF: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000 };

export function rateOf(loads: readonly Load[]): Sample {
  return sampleOf(loads.map(({ requestsPerSecond }) => requestsPerSecond));
}

export function slowestOf(loads: readonly Load[]): Sample {
  return sampleOf(loads.map(({ p99Ms }) => p99Ms));
}
