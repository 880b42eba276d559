/** A manifest that every peer has, as containerd asks for it: by tag while the tag is fresh, and by digest. */
import { type Sample, show } from "../numbers.ts";
import type { MeasuredProcess } from "../process.ts";
import { type Load, load } from "../wrk.ts";
import type { Peer, PeersLab } from "./lab.ts";
import { figuresOf, ratioTo, samplesOf, takeTurns } from "./rounds.ts";
import type { PeerRow } from "./table.ts";

const GOAL_OF_NGINX = 0.5;
const GOAL_OF_DOCKER_REGISTRY = 10;
export const ACCEPT = `Accept: ${[
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
  "*/*",
].join(", ")}`;

export interface ManifestOptions {
  readonly rounds: number;
  readonly seconds: number;
}

export async function measureManifests(lab: PeersLab, options: ManifestOptions): Promise<PeerRow[]> {
  if (Bun.which("wrk") === null) return [{ what: "manifests: not measured, wrk is not installed", figures: {} }];
  const rows: PeerRow[] = [];
  for (const [title, reference] of [
    ["by tag", lab.manifest.tag],
    ["by digest", lab.manifest.digest],
  ] as const) {
    const path = `/v2/bench/app/manifests/${reference}`;
    const measure = ({ plain }: Peer): Promise<CostedLoad> => loadOf(plain, path, options.seconds);
    // What compiles while it runs is not measured before it has.
    for (const { plain } of lab.peers) await loadOf(plain, path, 1);
    const results = await takeTurns(lab.peers, options.rounds, measure);
    const rate = samplesOf(results, ({ requestsPerSecond }) => requestsPerSecond);
    const p99 = samplesOf(results, ({ p99Ms }) => p99Ms);
    const cpu = samplesOf(results, ({ cpuMicroseconds }) => cpuMicroseconds);
    rows.push(
      { what: `manifest ${title}, requests/s`, figures: figuresOf(rate), ...verdict(ratioTo(rate, "nginx"), NGINX) },
      { what: "the same, to docker-registry", figures: {}, ...verdict(ratioTo(rate, "dockerRegistry"), REGISTRY) },
      { what: "the same, 99th percentile, ms", figures: figuresOf(p99, 1), ...verdict(ratioTo(p99, "nginx")) },
      {
        what: "the same: processor time of one, µs",
        figures: figuresOf(cpu),
        ...verdict(ratioTo(cpu, "nginx")),
      },
    );
  }
  return rows;
}

interface CostedLoad extends Load {
  /** Of the server, for one request. */
  readonly cpuMicroseconds: number;
}

async function loadOf(server: MeasuredProcess, path: string, seconds: number): Promise<CostedLoad> {
  const before = server.cpuSeconds();
  const result = await load(`${server.url}${path}`, { seconds, headers: [ACCEPT] });
  return { ...result, cpuMicroseconds: ((server.cpuSeconds() - before) * 1e6) / result.requests };
}

interface Least {
  readonly ratio: number;
  readonly peer: string;
}

const NGINX: Least = { ratio: GOAL_OF_NGINX, peer: "nginx" };
const REGISTRY: Least = { ratio: GOAL_OF_DOCKER_REGISTRY, peer: "docker-registry" };

function verdict(ratio: Sample | undefined, least?: Least): Pick<PeerRow, "ratio" | "goal"> {
  if (ratio === undefined) return {};
  if (least === undefined) return { ratio: show(ratio, 2) };
  const goal = { text: `≥ ${least.ratio} of ${least.peer}`, isMet: ratio.median >= least.ratio };
  return { ratio: show(ratio, 2), goal };
}
