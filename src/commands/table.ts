/** Tables for people: columns as wide as they must be, sizes and ages in few characters. */

const UNITS = ["KiB", "MiB", "GiB", "TiB"];

/** `532 B`, `1.5 KiB`, `31 GiB`: three digits at most, units of 1024. */
export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let [size, unit] = [bytes / 1024, 0];
  while (size >= 999.5 && unit < UNITS.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${size < 9.95 ? size.toFixed(1) : size.toFixed(0)} ${UNITS[unit]}`;
}

/** `now`, `5m ago`, `3h ago`, `12d ago`. */
export function ageText(thenMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - thenMs) / 1000));
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`;
  return `${Math.floor(seconds / 86_400)}d ago`;
}

/** `sha256:0123456789ab`: enough to tell two apart. */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(":");
  return digest.slice(0, colon + 13);
}

export interface Column {
  readonly title: string;
  readonly isNumber?: boolean;
}

/**
 * Makes the lines of a table that is printed in parts: columns are never narrower than before, so that what was printed
 * stays aligned as far as it can be.
 */
export function createTable(columns: readonly Column[]): (rows: readonly (readonly string[])[]) => string {
  const widths = columns.map(({ title }) => title.length);
  let isBegun = false;
  return (rows) => {
    for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
    const lines = isBegun ? rows : [columns.map(({ title }) => title), ...rows];
    isBegun = true;
    return lines.map((row) => `${lineOf(row)}\n`).join("");
  };

  function lineOf(row: readonly string[]): string {
    const cells = row.map((cell, i) => {
      const width = widths[i] ?? 0;
      return columns[i]?.isNumber === true ? cell.padStart(width) : cell.padEnd(width);
    });
    return cells.join("  ").trimEnd();
  }
}
