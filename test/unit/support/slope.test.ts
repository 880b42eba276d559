import { expect, test } from "bun:test";
import { type Reading, slopeOf } from "../../soak/slope.ts";

/** A reading every five seconds. */
function readings(count: number, value: (index: number) => number): Reading[] {
  return Array.from({ length: count }, (_, index) => ({ atMs: index * 5000, value: value(index) }));
}

test("slopeOf() finds a slow leak under a scatter, and says how much it is an hour", () => {
  const wave = (index: number): number => 10 * Math.sin(index);
  const leaking = slopeOf(
    readings(240, (index) => 100 + wave(index) + index / 4),
    5,
  );
  expect(leaking.isFlat).toBe(false);
  expect(Math.abs(leaking.perHour - 180)).toBeLessThan(20);
  const steady = slopeOf(
    readings(240, (index) => 100 + wave(index)),
    5,
  );
  expect(steady.isFlat).toBe(true);
  expect(Math.abs(steady.rise)).toBeLessThan(2);
});

test("slopeOf() looks at the second half only, and lets fall what falls", () => {
  expect(
    slopeOf(
      readings(100, (index) => Math.min(index, 40)),
      1,
    ),
  ).toMatchObject({ isFlat: true, rise: 0, secondMean: 40, max: 40 });
  expect(
    slopeOf(
      readings(100, (index) => 200 - index),
      1,
    ),
  ).toMatchObject({ isFlat: true, perHour: -720 });
});

test("slopeOf() allows a rise up to the floor, not beyond", () => {
  const steps = readings(21, (index) => index); // rises by ten in the second half
  expect([slopeOf(steps, 10).isFlat, slopeOf(steps, 9.9).isFlat]).toEqual([true, false]);
  expect(() =>
    slopeOf(
      readings(5, () => 0),
      1,
    ),
  ).toThrow(RangeError);
});
