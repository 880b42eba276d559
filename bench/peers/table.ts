/** The table of the peers, in Markdown: one column each, Layover's ratios to them, and the goal. */
import type { Goal } from "../table.ts";
import type { PeerName } from "./lab.ts";

export interface PeerRow {
  /** `"warm blob, 1 client, MB/s"` */
  readonly what: string;
  readonly figures: Partial<Record<PeerName, string>>;
  /** The upstream without anything between. */
  readonly direct?: string;
  /** Of Layover's figure to the one of the goal. */
  readonly ratio?: string;
  readonly goal?: Goal;
}

const HEAD = ["measured", "Layover", "nginx", "docker-registry", "direct", "ratio", "goal", ""];

export function formatPeerTable(rows: readonly PeerRow[]): string {
  const lines = [HEAD, HEAD.map(() => "---"), ...rows.map(cellsOf)];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function cellsOf({ what, figures, direct = "", ratio = "", goal }: PeerRow): string[] {
  const verdict = goal === undefined ? "" : goal.isMet ? "met" : "**missed**";
  const { layover = "", nginx = "", dockerRegistry = "" } = figures;
  return [what, layover, nginx, dockerRegistry, direct, ratio, goal?.text ?? "", verdict];
}
