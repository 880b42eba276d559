/**
 * Small requests with wrk, 16 connections from one thread: a manifest by tag, which goes upstream each time, and
 * `/healthz`, which goes nowhere. The targets take turns.
 */
import type { Lab } from "./lab.ts";
import { ratioOf, show } from "./numbers.ts";
import type { Row } from "./table.ts";
import { type Load, load, rateOf, slowestOf } from "./wrk.ts";

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
