/**
 * What `alsoAt` names: another registry of the same map. That two registries stand in for each other is well, since a
 * stand-in is never stood in for.
 */
import type { KeyGroup, MapFields, Reading } from "./map-entries.ts";
import { suggestion } from "./problem.ts";
import { quoted } from "./units.ts";

/** Keys that the map lacks, and registries that would stand in for themselves, become problems. */
export function checkStandIns(fields: MapFields, groups: readonly KeyGroup[], { name, problems }: Reading): void {
  // An entry that was refused has been told already.
  const known = [...groups.flatMap(({ keys }) => keys), ...Object.keys(fields)];
  for (const { keys, entry } of groups) {
    for (const [index, { at }] of entry.alsoAt.entries()) {
      const what = problemOf(at.key, keys, known);
      if (what !== undefined) problems.push({ from: `${name}: ${keys[0]}.alsoAt[${index}]`, what });
    }
  }
}

function problemOf(key: string, own: readonly string[], known: readonly string[]): string | undefined {
  if (own.includes(key)) return `expected another registry than ${own[0]} itself`;
  if (!known.includes(key)) return `expected a key of the map, got ${quoted(key)}${suggestion(key, known)}`;
  return undefined;
}
