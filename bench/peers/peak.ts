/** Memory of the peers through everything that is measured: the kernel's own peak, and the highest anonymous part seen. */
import type { Peer, PeerName } from "./lab.ts";
import type { PeerRow } from "./table.ts";

const GOAL_PEAK_MB = 300;
const SAMPLE_MS = 250;

export interface MemoryWatch {
  rows(): PeerRow[];
  close(): void;
}

export function watchMemory(peers: readonly Peer[]): MemoryWatch {
  const anonymous = new Map<PeerName, number>();
  const timer = setInterval(look, SAMPLE_MS);

  function look(): void {
    for (const { name, processes } of peers) {
      const now = Math.max(...processes.map((child) => child.memory().anonymous));
      anonymous.set(name, Math.max(now, anonymous.get(name) ?? 0));
    }
  }

  return {
    rows() {
      const peaks = peers.map(
        ({ name, processes }) => [name, Math.max(...processes.map((child) => child.memory().peak))] as const,
      );
      const ours = peaks.find(([name]) => name === "layover")?.[1] ?? Number.NaN;
      return [
        {
          what: "peak resident through all of it, MB",
          figures: shown(peaks),
          goal: { text: `< ${GOAL_PEAK_MB}`, isMet: ours < GOAL_PEAK_MB },
        },
        { what: "highest anonymous part of it, MB", figures: shown([...anonymous]) },
      ];
    },
    close: () => clearInterval(timer),
  };
}

function shown(figures: readonly (readonly [PeerName, number])[]): PeerRow["figures"] {
  return Object.fromEntries(figures.map(([name, megabytes]) => [name, megabytes.toFixed(0)]));
}
