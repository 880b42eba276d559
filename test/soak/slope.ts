/**
 * Whether a series of readings grows: a line is laid through the second half of it (least squares), when everything that
 * is made once has been made. Growth is what the line rises in that time beyond what such scattered readings may rise by chance.
 */

export interface Reading {
  readonly atMs: number;
  readonly value: number;
}

export interface Slope {
  readonly perHour: number;
  /** What the line rises from the middle of the run to its end. */
  readonly rise: number;
  /** The rise that still counts as flat: four standard errors of it, or the floor. */
  readonly allowed: number;
  readonly isFlat: boolean;
  readonly firstMean: number;
  readonly secondMean: number;
  readonly max: number;
}

const HOUR_MS = 3_600_000;
/** Readings five seconds apart are of the same weather as the one before or behind them: two of them tell as much as one. */
const READINGS_PER_FACT = 2;
const STANDARD_ERRORS = 4;

/** @param floor a rise that means nothing, in the unit of the readings @throws RangeError for fewer than six readings */
export function slopeOf(readings: readonly Reading[], floor: number): Slope {
  if (readings.length < 6) throw new RangeError(`expected six readings or more, got ${readings.length}`);
  const middle = Math.floor(readings.length / 2);
  const second = readings.slice(middle);
  const atMean = mean(second.map(({ atMs }) => atMs));
  const valueMean = mean(second.map(({ value }) => value));
  const spread = second.reduce((sum, { atMs }) => sum + (atMs - atMean) ** 2, 0);
  const common = second.reduce((sum, { atMs, value }) => sum + (atMs - atMean) * (value - valueMean), 0);
  const perMs = spread === 0 ? 0 : common / spread;
  const rests = second.map(({ atMs, value }) => value - valueMean - perMs * (atMs - atMean));
  const scatter = Math.sqrt(mean(rests.map((rest) => rest ** 2)));
  const rise = perMs * ((second.at(-1)?.atMs ?? 0) - (second[0]?.atMs ?? 0));
  const standardError = scatter * Math.sqrt((12 * READINGS_PER_FACT) / second.length);
  const allowed = Math.max(floor, STANDARD_ERRORS * standardError);
  return {
    perHour: perMs * HOUR_MS,
    rise,
    allowed,
    isFlat: rise <= allowed,
    firstMean: mean(readings.slice(0, middle).map(({ value }) => value)),
    secondMean: valueMean,
    max: Math.max(...readings.map(({ value }) => value)),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
