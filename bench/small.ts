/**
 * Small requests with wrk, 16 connections from one thread: a manifest by tag, which goes upstream each time, and
 * `/healthz`, which goes nowhere. The targets take turns.
 */
import type { Lab } from "./lab.ts";
import { ratioOf, type Sample, sampleOf, show } from "./numbers.ts";
import type { Row } from "./table.ts";

export interface SmallOptions {
  readonly rounds: number;
  readonly seconds: number;
}

export async function measureSmallRequests(lab: Lab, options: SmallOptions): Promise<Row[]> {
  if (Bun.which("wrk") === null) return [{ what: "small requests", layover: "not measured: wrk is not installed" }];
  const layover = await lab.startLayover();
  const passThrough = await lab.startPassThrough();
  const urls = {
    direct: `${lab.upstream.url}${lab.manifestPath}`,
    theirs: `${passThrough.url}${lab.manifestPath}`,
    ours: `${layover.url}${lab.manifestPath}`,
    health: `${layover.url}/healthz`,
  };
  const loads: Record<keyof typeof urls, Load[]> = { direct: [], theirs: [], ours: [], health: [] };
  for (let round = 0; round < options.rounds; round += 1) {
    loads.direct.push(await load(urls.direct, options));
    loads.theirs.push(await load(urls.theirs, options));
    loads.ours.push(await load(urls.ours, options));
    loads.health.push(await load(urls.health, options));
  }
  await Promise.all([layover.stop(), passThrough.stop()]);
  const { direct, theirs, ours, health } = loads;
  return [
    {
      what: "manifests by tag, requests/s",
      layover: show(rateOf(ours)),
      passThrough: show(rateOf(theirs)),
      direct: show(rateOf(direct)),
      ratio: show(ratioOf(rateOf(ours), rateOf(theirs)), 2),
    },
    {
      what: "the same, 99th percentile, ms",
      layover: show(slowestOf(ours), 1),
      passThrough: show(slowestOf(theirs), 1),
      direct: show(slowestOf(direct), 1),
      ratio: show(ratioOf(slowestOf(ours), slowestOf(theirs)), 2),
    },
    { what: "`/healthz`, requests/s", layover: show(rateOf(health)) },
    { what: "the same, 99th percentile, ms", layover: show(slowestOf(health), 1) },
  ];
}

interface Load {
  readonly requestsPerSecond: number;
  readonly p99Ms: number;
}

async function load(url: string, { seconds }: SmallOptions): Promise<Load> {
  const wrk = Bun.spawn(["wrk", "-t1", "-c16", `-d${seconds}s`, "--latency", url], { stdout: "pipe" });
  const report = await new Response(wrk.stdout).text();
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(report)?.[1];
  const [, p99, unit = ""] = /99%\s+([\d.]+)(us|ms|s)/.exec(report) ?? [];
  if (rate === undefined || p99 === undefined || report.includes("Non-2xx"))
    throw new Error(`expected nothing but 200 from ${url}, got:\n${report}`);
  return { requestsPerSecond: Number(rate), p99Ms: Number(p99) * (MS_OF[unit] ?? Number.NaN) };
}

const MS_OF: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000 };

function rateOf(loads: readonly Load[]): Sample {
  return sampleOf(loads.map(({ requestsPerSecond }) => requestsPerSecond));
}

function slowestOf(loads: readonly Load[]): Sample {
  return sampleOf(loads.map(({ p99Ms }) => p99Ms));
}
