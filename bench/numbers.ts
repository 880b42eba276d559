/**
 * What many rounds of one measurement say: the middle and the ends. Averages are left out on purpose: on a shared machine
 * one disturbed round would move them.
 */
export interface Sample {
  readonly values: readonly number[];
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

/** @param values at least one */
export function sampleOf(values: readonly number[]): Sample {
  const sorted = [...values].sort((a, b) => a - b);
  return { values, median: middleOf(sorted), lowest: sorted[0] ?? Number.NaN, highest: sorted.at(-1) ?? Number.NaN };
}

/** The ratio of each round to the peer's of the same round: what disturbed both is gone from it. */
export function ratioOf(ours: Sample, theirs: Sample): Sample {
  return sampleOf(ours.values.map((value, round) => value / (theirs.values[round] ?? Number.NaN)));
}

/** `"812 (640–901)"`: the median, lowest and highest. */
export function show(sample: Sample, digits = 0): string {
  const [median, lowest, highest] = [sample.median, sample.lowest, sample.highest].map((value) =>
    value.toFixed(digits),
  );
  return sample.values.length < 2 ? `${median}` : `${median} (${lowest}–${highest})`;
}

function middleOf(sorted: readonly number[]): number {
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (upper + lower) / 2;
}
