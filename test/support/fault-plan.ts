/**
 * Which fault a connection gets: drawn from a seed, so that a bad run can be made again (`LAYOVER_CHAOS_SEED`). The order in
 * which connections come in still depends on the moment: a seed gives the same faults, not the same race.
 */
import { type ConnectionFaults, NO_FAULTS } from "./fault-relay.ts";

export type FaultKind =
  | "latency"
  | "rate"
  | "slices"
  | "reset"
  | "fin"
  | "silence"
  | "refuse"
  | "black hole"
  | "slow close"
  | "stale"
  | "corrupt";

/** Of a hundred connections so many get this fault; the rest get none. */
export type FaultMix = Partial<Record<FaultKind, number>>;

/** Everything but wrong bytes, which cost a download anew by their nature: half of the connections are well until they end. */
export const ALL_FAULTS: FaultMix = {
  latency: 8,
  rate: 5,
  slices: 5,
  reset: 10,
  fin: 8,
  silence: 4,
  refuse: 6,
  "black hole": 2,
  "slow close": 4,
  stale: 48,
};

const KINDS: readonly FaultKind[] = [
  "latency",
  "rate",
  "slices",
  "reset",
  "fin",
  "silence",
  "refuse",
  "black hole",
  "slow close",
  "stale",
  "corrupt",
];

/** @param random numbers from 0 to 1 that follow from the seed */
export function faultPlan(random: () => number, mix: FaultMix): (connection: number) => ConnectionFaults {
  return () => {
    let left = random() * 100;
    // Drawn always, so that one kind more or less does not move all that follow.
    const [one, other] = [random(), random()];
    for (const kind of KINDS) {
      left -= mix[kind] ?? 0;
      if (left < 0) return faultsOf(kind, one, other);
    }
    return NO_FAULTS;
  };
}

/** @param one @param other from 0 to 1: how bad it is */
function faultsOf(kind: FaultKind, one: number, other: number): ConnectionFaults {
  // What does not end a connection leaves its end to this, so that the next one has another fault.
  const staleAfterBytes = between(10_000, 3_000_000, other);
  switch (kind) {
    case "latency":
      return { name: kind, latencyMs: 5 + 95 * one, jitterMs: 5, staleAfterBytes };
    case "rate":
      return { name: kind, bytesPerSecond: between(1_500_000, 12_000_000, one), staleAfterBytes };
    case "slices":
      return { name: kind, sliceBytes: between(200, 3000, one), staleAfterBytes };
    case "reset":
    case "fin":
    case "silence":
      return { name: kind, end: { how: kind, afterBytes: between(100, 4_000_000, one) } };
    case "refuse":
      return { name: kind, start: "refuse" };
    case "black hole":
      return { name: kind, start: "silence" };
    case "slow close":
      return {
        name: kind,
        slowCloseMs: 200 + 1300 * one,
        end: { how: "fin", afterBytes: between(1000, 4_000_000, other) },
      };
    case "stale":
      return { name: kind, staleAfterBytes };
    case "corrupt":
      return { name: kind, corruptAt: between(1000, 1_000_000, one), staleAfterBytes };
  }
}

/** As often between 100 and 1000 as between 100 000 and a million: heads, small bodies and large ones are all hit. */
function between(least: number, most: number, part: number): number {
  return Math.round(least * (most / least) ** part);
}
