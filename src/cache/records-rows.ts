/**
 * The rows that links, tags and references point at: places and content. Finding, making and forgetting them.
 */
import type { Database } from "bun:sqlite";
import type { Place } from "./records-facts.ts";
import type { StoredContent } from "./store.ts";

export interface ContentRow {
  readonly id: number;
  readonly bytes: number;
  readonly usedMs: number;
  /** Null for content that is only pinned or named by a manifest. */
  readonly neededMs: number | null;
  readonly pinned: number;
  /** 1 when the bytes were hashed: their number is a fact. */
  readonly isVerified: number;
}

export interface Rows {
  findPlace(place: Place): number | undefined;
  /** Finds or makes it. */
  place(place: Place): number;
  findContent(digest: string): ContentRow | undefined;
  /** Finds or makes it, and counts as a use. A length that was verified stays. */
  content(content: StoredContent, atMs: number): number;
  /** The length is a fact from now on. No use of content that is known. */
  verified(content: StoredContent, atMs: number): void;
  /** Finds or makes it, known by name only. */
  name(digest: string): number;
  /** Takes its links and tags away. */
  unlinkContent(id: number): void;
  /** The bytes are gone: links, tags and references too. The row stays only while it is pinned or named by a manifest. */
  forget(id: number): void;
  /** Takes the row away when nothing is about it any more. */
  dropUnneeded(id: number): void;
}

export function createRows(database: Database): Rows {
  const selectPlace = database.prepare<{ id: number }, [string, string]>(
    "SELECT id FROM place WHERE registry = ?1 AND repository = ?2",
  );
  const insertPlace = database.prepare<{ id: number }, [string, string]>(
    "INSERT INTO place (registry, repository) VALUES (?1, ?2) RETURNING id",
  );
  const selectContent = database.prepare<ContentRow, [string]>(
    "SELECT id, bytes, usedMs, neededMs, pinned, isVerified FROM content WHERE digest = ?1",
  );
  const upsertContent = database.prepare<{ id: number }, [string, number, number]>(`
    INSERT INTO content (digest, bytes, usedMs, neededMs) VALUES (?1, ?2, ?3, ?3)
    ON CONFLICT DO UPDATE SET bytes = iif(isVerified, bytes, excluded.bytes),
      usedMs = max(usedMs, excluded.usedMs), neededMs = max(coalesce(neededMs, 0), excluded.neededMs)
    RETURNING id`);
  const verify = database.prepare<null, [string, number, number]>(`
    INSERT INTO content (digest, bytes, usedMs, neededMs, isVerified) VALUES (?1, ?2, ?3, ?3, 1)
    ON CONFLICT DO UPDATE SET bytes = excluded.bytes, isVerified = 1,
      usedMs = iif(neededMs IS NULL, excluded.usedMs, usedMs), neededMs = coalesce(neededMs, excluded.neededMs)`);
  const insertName = database.prepare<{ id: number }, [string]>(
    "INSERT INTO content (digest, bytes, usedMs) VALUES (?1, 0, 0) RETURNING id",
  );
  const deleteLinks = database.prepare<null, [number]>("DELETE FROM link WHERE content = ?1");
  const deleteTags = database.prepare<null, [number]>("DELETE FROM tag WHERE content = ?1");
  const deleteReferences = database.prepare<null, [number]>("DELETE FROM reference WHERE manifest = ?1");
  const becomeName = database.prepare<null, [number]>(
    "UPDATE content SET neededMs = NULL, bytes = 0, isVerified = 0 WHERE id = ?1",
  );
  const deleteContent = database.prepare<null, [number]>(`
    DELETE FROM content WHERE id = ?1 AND neededMs IS NULL AND pinned = 0
      AND NOT EXISTS (SELECT 1 FROM reference WHERE child = ?1)`);

  function unlinkContent(id: number): void {
    deleteTags.run(id);
    deleteLinks.run(id);
  }

  return {
    findPlace: ({ registry, repository }) => selectPlace.get(registry, repository)?.id,
    place: ({ registry, repository }) =>
      idOf(selectPlace.get(registry, repository) ?? insertPlace.get(registry, repository)),
    findContent: (digest) => selectContent.get(digest) ?? undefined,
    content: ({ digest, bytes }, atMs) => idOf(upsertContent.get(digest, bytes, atMs)),
    verified: ({ digest, bytes }, atMs) => void verify.run(digest, bytes, atMs),
    name: (digest) => idOf(selectContent.get(digest) ?? insertName.get(digest)),
    unlinkContent,
    forget(id) {
      unlinkContent(id);
      deleteReferences.run(id);
      becomeName.run(id);
      deleteContent.run(id);
    },
    dropUnneeded: (id) => void deleteContent.run(id),
  };
}

function idOf(row: { readonly id: number } | null): number {
  if (row === null) throw new Error("expected a row from INSERT … RETURNING, got none");
  return row.id;
}
