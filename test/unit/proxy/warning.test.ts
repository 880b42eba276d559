import { expect, test } from "bun:test";
import { parseWarnings } from "../../../src/proxy/warning.ts";

const rows: [joined: string, lines: string[]][] = [
  ["", []],
  ['299 - "one"', ['299 - "one"']],
  ['299 - "one, two", 299 - "three"', ['299 - "one, two"', '299 - "three"']],
  ['299 - "a \\"quoted\\" word"', ['299 - "a \\"quoted\\" word"']],
  ['110 anderson/1.3.37 "stale", 299 - "kept"', ['299 - "kept"']],
  ['299 - "never closed', []],
];

test.each(rows)("[R37, R38] parseWarnings(%j) gives one line each", (joined, lines) => {
  expect(parseWarnings(joined)).toEqual(lines);
});

test("[R37] parseWarnings() stops at 4096 bytes", () => {
  const one = `299 - "${"x".repeat(1000)}"`;
  expect(parseWarnings(Array(10).fill(one).join(", "))).toHaveLength(4);
});
