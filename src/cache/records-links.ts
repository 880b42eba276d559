/**
 * Links: this repository of this registry may show this digest (product section 5). Statements only: when to write
 * and what to do when the file cannot be, is `records-database`'s.
 */
import type { Database } from "bun:sqlite";
import type { LinkFacts, Place } from "./records-facts.ts";
import type { Rows } from "./records-rows.ts";

export interface Links {
  isLinked(place: Place, digest: string): boolean;
  mediaType(place: Place, digest: string): string | undefined;
  link(place: Place, digest: string, facts: LinkFacts): void;
  unlink(place: Place, digest: string): void;
  unlinkAll(digest: string): void;
}

export interface LinksDependencies {
  readonly database: Database;
  readonly rows: Rows;
  readonly now: () => number;
}

export function createLinks({ database, rows, now }: LinksDependencies): Links {
  // No join: SQLite plans one anew for each set of values that is bound, which takes ten times as long as the look itself.
  const find = database.prepare<{ mediaType: string | null }, [string, string, string]>(`
    SELECT mediaType FROM link
    WHERE place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)
      AND content = (SELECT id FROM content WHERE digest = ?3)`);
  const write = database.prepare<null, [number, number, string | null, number]>(`
    INSERT INTO link (place, content, mediaType, provenMs) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET mediaType = coalesce(excluded.mediaType, mediaType), provenMs = excluded.provenMs`);
  const remove = database.prepare<null, [number, number]>("DELETE FROM link WHERE place = ?1 AND content = ?2");
  const removeTags = database.prepare<null, [number, number]>("DELETE FROM tag WHERE place = ?1 AND content = ?2");

  function unlink(place: Place, digest: string): void {
    const placeId = rows.findPlace(place);
    const content = rows.findContent(digest);
    if (placeId === undefined || content === undefined) return;
    removeTags.run(placeId, content.id);
    remove.run(placeId, content.id);
  }

  return {
    isLinked: (place, digest) => find.get(place.registry, place.repository, digest) !== null,
    mediaType: (place, digest) => find.get(place.registry, place.repository, digest)?.mediaType ?? undefined,
    link(place, digest, { bytes, mediaType }) {
      const placeId = rows.place(place);
      const contentId = rows.content({ digest, bytes }, now());
      write.run(placeId, contentId, mediaType ?? null, now());
    },
    unlink,
    unlinkAll(digest) {
      const content = rows.findContent(digest);
      if (content !== undefined) rows.unlinkContent(content.id);
    },
  };
}
