/** What the readings of a soak mean: for each of them how fast it grows, and whether it came back when all was over. */
import { type Slope, slopeOf } from "./slope.ts";
import type { Values } from "./samples.ts";

export interface Verdict {
  readonly name: string;
  readonly slope: Slope;
  /** Before the load and after it, when all clients and registries were gone. */
  readonly before: number;
  readonly after: number;
  readonly isGood: boolean;
  /** Why not. */
  readonly fault: string;
}

/** A rise in half a run that means nothing. Others: 3. */
const FLOORS: Readonly<Record<string, number>> = {
  "resident MiB": 24,
  "anonymous MiB": 24,
  "js heap MiB": 8,
  "kept MiB": 8,
  "cache MiB": 8,
  "temp MiB": 16,
  "records MiB": 4,
  "temp files": 12,
  "kept files": 30,
  "open files": 12,
  sockets: 12,
  "sockets established": 12,
  timers: 40,
  promises: 200,
  streams: 40,
  "abort signals": 60,
};
/** What must be back where it was before the load, give or take so many. */
const AT_REST: Readonly<Record<string, number>> = {
  "open requests": 0,
  "client connections": 1,
  fills: 0,
  followers: 0,
  "sockets established": 2,
  "sockets close-wait": 0,
  "open files, removed": 0,
  sockets: 4,
  "open files": 8,
};
/** Grows by what it is. */
const COUNTED_UP = ["evicted contents"];

export function judge(
  samples: readonly { readonly atMs: number; readonly values: Values }[],
  { before, after }: { readonly before: Values; readonly after: Values },
): Verdict[] {
  if (samples.length < 6) return [];
  const names = new Set(samples.flatMap(({ values }) => Object.keys(values)));
  return [...names].sort().map((name) => {
    const readings = samples.map(({ atMs, values }) => ({ atMs, value: values[name] ?? 0 }));
    const slope = slopeOf(readings, FLOORS[name] ?? 3);
    const [was, is] = [before[name] ?? 0, after[name] ?? 0];
    const isLeft = isLeftOver({ [name]: was }, { [name]: is });
    const grows = !slope.isFlat && !COUNTED_UP.includes(name);
    const fault = [grows ? "grows" : "", isLeft ? "is left over" : ""].filter(Boolean).join(", ");
    return { name, slope, before: was, after: is, isGood: fault === "", fault };
  });
}

/** Whether something that must be back where it was is not. */
export function isLeftOver(before: Values, after: Values): boolean {
  return Object.entries(AT_REST).some(([name, more]) => (after[name] ?? 0) > (before[name] ?? 0) + more);
}

export function printTable(verdicts: readonly Verdict[]): void {
  if (verdicts.length === 0) return console.log("too short for slopes: half a minute at least");
  const columns = ["", "before", "1st half", "2nd half", "most", "after", "slope/h", "rise", "allowed", "verdict"];
  const rows = verdicts.map(({ name, slope, before, after, isGood, fault }) => [
    name,
    ...[before, slope.firstMean, slope.secondMean, slope.max, after, slope.perHour, slope.rise, slope.allowed].map(
      (value) => value.toFixed(1),
    ),
    isGood ? "flat" : fault.toUpperCase(),
  ]);
  const widths = columns.map((column, index) => Math.max(column.length, ...rows.map((row) => row[index]?.length ?? 0)));
  for (const row of [columns, ...rows])
    console.log(
      row
        .map((cell, index) => (index === 0 ? cell.padEnd(widths[index] ?? 0) : cell.padStart(widths[index] ?? 0)))
        .join("  "),
    );
}
