/**
 * Keeps the number of rows bounded. Rows go with their content, which goes by budget or idle time; this is the second lock,
 * for clients that ask for very many tags and repositories of very little content. What goes comes back with its next pull.
 */
import type { Database } from "bun:sqlite";

export interface Trim {
  /** Takes the longest unproven links, tags and grants above the limit away, at most a thousand of each; true when more are left. */
  trim(): boolean;
}

/** Rows removed at once: a few milliseconds. */
const SLICE = 1000;

export function createTrim(database: Database, maxRows: number): Trim {
  const links = database.prepare<{ count: number }, []>("SELECT count(*) AS count FROM link");
  const tags = database.prepare<{ count: number }, []>("SELECT count(*) AS count FROM tag");
  const oldestLinks = database.prepare<{ place: number; content: number }, [number]>(
    "SELECT place, content FROM link ORDER BY provenMs LIMIT ?1",
  );
  const oldestTags = database.prepare<{ place: number; tag: string; accept: string; content: number }, [number]>(
    "SELECT place, tag, accept, content FROM tag ORDER BY checkedMs LIMIT ?1",
  );
  const grants = database.prepare<{ count: number }, []>("SELECT count(*) AS count FROM grants");
  const deleteGrants = database.prepare<null, [number]>(
    "DELETE FROM grants WHERE (place, holder) IN (SELECT place, holder FROM grants ORDER BY checkedMs LIMIT ?1)",
  );
  const deleteLink = database.prepare<null, [number, number]>("DELETE FROM link WHERE place = ?1 AND content = ?2");
  const deleteTag = database.prepare<null, [number, string, string]>(
    "DELETE FROM tag WHERE place = ?1 AND tag = ?2 AND accept = ?3",
  );
  // Bytes of such content, if there are any, are found again by the next sweep.
  const deleteContent = database.prepare<null, [number]>(`
    DELETE FROM content WHERE id = ?1 AND pinned = 0
      AND NOT EXISTS (SELECT 1 FROM link WHERE content = ?1) AND NOT EXISTS (SELECT 1 FROM tag WHERE content = ?1)
      AND NOT EXISTS (SELECT 1 FROM reference WHERE child = ?1) AND NOT EXISTS (SELECT 1 FROM reference WHERE manifest = ?1)`);

  function trimLinks(): number {
    const excess = (links.get()?.count ?? 0) - maxRows;
    if (excess <= 0) return 0;
    for (const { place, content } of oldestLinks.all(Math.min(excess, SLICE))) {
      deleteLink.run(place, content);
      deleteContent.run(content);
    }
    return excess - SLICE;
  }

  function trimTags(): number {
    const excess = (tags.get()?.count ?? 0) - maxRows;
    if (excess <= 0) return 0;
    for (const { place, tag, accept, content } of oldestTags.all(Math.min(excess, SLICE))) {
      deleteTag.run(place, tag, accept);
      deleteContent.run(content);
    }
    return excess - SLICE;
  }

  function trimGrants(): number {
    const excess = (grants.get()?.count ?? 0) - maxRows;
    if (excess > 0) deleteGrants.run(Math.min(excess, SLICE));
    return excess - SLICE;
  }

  return {
    trim() {
      const left = [trimLinks(), trimTags(), trimGrants()];
      return left.some((rows) => rows > 0);
    },
  };
}
