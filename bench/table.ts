/** The one table that `npm run bench` prints, in Markdown, so that it can stand in docs/benchmarks.md as it is. */
export interface Row {
  /** What is measured, with its unit: `"cold blob of 1 GiB, MB/s"`. */
  readonly what: string;
  readonly layover: string;
  readonly passThrough?: string;
  /** The upstream without anything between. */
  readonly direct?: string;
  /** Layover's figure over the pass-through's. */
  readonly ratio?: string;
  readonly goal?: Goal;
}

export interface Goal {
  /** `"≥ 0.8 of the pass-through"` */
  readonly text: string;
  readonly isMet: boolean;
}

const HEAD = ["measured", "Layover", "bare pass-through", "direct", "Layover ÷ pass-through", "goal", ""];

export function formatTable(rows: readonly Row[]): string {
  const lines = [HEAD, HEAD.map(() => "---"), ...rows.map(cellsOf)];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function cellsOf({ what, layover, passThrough = "", direct = "", ratio = "", goal }: Row): string[] {
  const verdict = goal === undefined ? "" : goal.isMet ? "met" : "**missed**";
  return [what, layover, passThrough, direct, ratio, goal?.text ?? "", verdict];
}
