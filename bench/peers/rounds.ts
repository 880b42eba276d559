/** Rounds in which the peers take turns, so that whatever else the machine does meets all of them. */
import { ratioOf, type Sample, sampleOf, show } from "../numbers.ts";
import type { Peer, PeerName } from "./lab.ts";

/** A peer that is not installed has none. */
export type Rounds<Result> = Record<PeerName, Result[]>;

export async function takeTurns<Result>(
  peers: readonly Peer[],
  rounds: number,
  measure: (peer: Peer, round: number) => Promise<Result>,
): Promise<Rounds<Result>> {
  const results: Rounds<Result> = { layover: [], nginx: [], dockerRegistry: [] };
  for (let round = 0; round < rounds; round += 1) {
    // Nobody is always first, or always behind the same one.
    const order = round % 2 === 0 ? peers : peers.toReversed();
    for (const peer of order) results[peer.name].push(await measure(peer, round));
  }
  return results;
}

export type Samples = Partial<Record<PeerName, Sample>>;

export function samplesOf<Result>(rounds: Rounds<Result>, figure: (result: Result) => number): Samples {
  const samples: Samples = {};
  for (const name of ["layover", "nginx", "dockerRegistry"] as const)
    if (rounds[name].length > 0) samples[name] = sampleOf(rounds[name].map(figure));
  return samples;
}

export function figuresOf(samples: Samples, digits = 0): Partial<Record<PeerName, string>> {
  const figures: Partial<Record<PeerName, string>> = {};
  for (const name of ["layover", "nginx", "dockerRegistry"] as const) {
    const sample = samples[name];
    if (sample !== undefined) figures[name] = show(sample, digits);
  }
  return figures;
}

/** Layover's over the peer's of the same round; undefined without that peer. */
export function ratioTo(samples: Samples, peer: PeerName): Sample | undefined {
  const { layover: ours, [peer]: theirs } = samples;
  return ours === undefined || theirs === undefined ? undefined : ratioOf(ours, theirs);
}
