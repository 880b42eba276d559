/**
 * Tags: which digest a tag was when upstream was last asked, per class of Accept. Statements only.
 */
import type { Database } from "bun:sqlite";
import type { Place, TagFacts, TagRecord } from "./records-facts.ts";
import type { Rows } from "./records-rows.ts";

export interface Tags {
  tag(place: Place, tag: string, accept: string): TagRecord | undefined;
  setTag(place: Place, tag: string, accept: string, facts: TagFacts): void;
  touchTag(place: Place, tag: string, accept: string, checkedMs: number): void;
  removeTag(place: Place, tag: string): void;
}

export interface TagsDependencies {
  readonly database: Database;
  readonly rows: Rows;
  readonly now: () => number;
}

interface TagRow {
  readonly digest: string;
  readonly mediaType: string | null;
  readonly bytes: number;
  readonly firstSeenMs: number;
  readonly checkedMs: number;
}

/** Place, tag, accept, content, media type, bytes, checked. */
type NewTagRow = [number, string, string, number, string | null, number, number];

export function createTags({ database, rows, now }: TagsDependencies): Tags {
  // Each value in a SELECT of its own: SQLite plans a join anew for each set of values that is bound and visible to it,
  // which takes ten times as long as the look itself.
  const find = database.prepare<TagRow, [string, string, string, string]>(`
    SELECT content.digest, tag.mediaType, tag.bytes, tag.firstSeenMs, tag.checkedMs FROM place
    JOIN tag ON tag.place = place.id AND tag.tag = (SELECT ?3) AND tag.accept = (SELECT ?4)
    JOIN content ON content.id = tag.content
    WHERE place.registry = (SELECT ?1) AND place.repository = (SELECT ?2)`);
  const write = database.prepare<null, NewTagRow>(`
    INSERT INTO tag (place, tag, accept, content, mediaType, bytes, firstSeenMs, checkedMs)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
    ON CONFLICT DO UPDATE SET mediaType = excluded.mediaType, bytes = excluded.bytes, checkedMs = excluded.checkedMs,
      firstSeenMs = iif(content = excluded.content, firstSeenMs, excluded.firstSeenMs), content = excluded.content`);
  const touch = database.prepare<null, [string, string, string, string, number]>(`
    UPDATE tag SET checkedMs = ?5 WHERE tag = ?3 AND accept = ?4
      AND place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)`);
  const remove = database.prepare<null, [string, string, string]>(`
    DELETE FROM tag WHERE tag = ?3 AND place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)`);

  return {
    tag(place, tag, accept) {
      const row = find.get(place.registry, place.repository, tag, accept);
      return row === null ? undefined : { ...row, mediaType: row.mediaType ?? undefined };
    },
    setTag(place, tag, accept, { digest, mediaType, bytes, checkedMs }) {
      const content = rows.content({ digest, bytes }, now());
      write.run(rows.place(place), tag, accept, content, mediaType ?? null, bytes, checkedMs);
    },
    touchTag: (place, tag, accept, checkedMs) =>
      void touch.run(place.registry, place.repository, tag, accept, checkedMs),
    removeTag: (place, tag) => void remove.run(place.registry, place.repository, tag),
  };
}
