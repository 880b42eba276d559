/**
 * Listings for the commands that look after the cache. Statements only; each page reads little more than what it gives,
 * place by place, because a running server answers them between its transfers.
 */
import type { Database } from "bun:sqlite";
import type { ImagePage, ImageRecord, Place, PlaceCount, RecordTotals } from "./records-facts.ts";

export interface Images {
  images(page: ImagePage): readonly ImageRecord[];
  countPlaces(from: number): PlaceCount;
  totals(): RecordTotals;
}

/** Rows of a page, whatever was asked for. */
const MAX_PAGE = 1000;
/** Places whose tags are counted at once: a repository with thousands of tags is rare. */
const PLACES_COUNTED = 100;
/** Digests summed up for one image: an index of a hundred platforms with a hundred layers each. */
const MAX_SUMMED = 10_000;

interface PlaceRow extends Place {
  readonly id: number;
}

interface ImageRow {
  readonly id: number;
  readonly tag: string | null;
  readonly digest: string;
  readonly usedMs: number;
  readonly pinned: number;
}

/** Where a place's listing goes on: behind this tag and digest; no tag for those that were pulled by digest only. */
interface Position {
  readonly tag: string | undefined;
  readonly digest: string;
}

const START: Position = { tag: undefined, digest: "" };

export function createImages(database: Database): Images {
  const placesFrom = database.prepare<PlaceRow, [string, string]>(`
    SELECT id, registry, repository FROM place WHERE (registry, repository) >= (?1, ?2)
    ORDER BY registry, repository LIMIT 100`);
  // Neither tagged here nor part of an image that this place has.
  const untagged = database.prepare<ImageRow, [number, string, number]>(`
    SELECT content.id, NULL AS tag, content.digest, content.usedMs, content.pinned
    FROM link JOIN content ON content.id = link.content
    WHERE link.place = ?1 AND link.mediaType IS NOT NULL AND content.digest > ?2
      AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.content = link.content AND tag.place = link.place)
      AND NOT EXISTS (
        SELECT 1 FROM reference JOIN link AS parent ON parent.content = reference.manifest AND parent.place = link.place
        WHERE reference.child = link.content)
    ORDER BY content.digest LIMIT ?3`);
  const tagged = database.prepare<ImageRow, [number, string, string, number]>(`
    SELECT DISTINCT content.id, tag.tag, content.digest, content.usedMs, content.pinned
    FROM tag JOIN content ON content.id = tag.content
    WHERE tag.place = ?1 AND tag.tag >= ?2 AND (tag.tag, content.digest) > (?2, ?3)
    ORDER BY tag.tag, content.digest LIMIT ?4`);
  const sum = database.prepare<{ bytes: number | null }, [number]>(`
    WITH RECURSIVE below (id) AS (
      SELECT ?1 UNION SELECT child FROM reference JOIN below ON reference.manifest = below.id LIMIT ${MAX_SUMMED}
    ) SELECT sum(bytes) AS bytes FROM below JOIN content ON content.id = below.id`);
  const countTags = database.prepare<{ places: number; tags: number | null; last: number | null }, [number]>(`
    SELECT count(*) AS places, sum((SELECT count(*) FROM tag WHERE tag.place = some.id)) AS tags, max(id) AS last
    FROM (SELECT id FROM place WHERE id >= ?1 ORDER BY id LIMIT ${PLACES_COUNTED}) AS some`);
  const count = database.prepare<RecordTotals, []>(`
    SELECT (SELECT count(*) FROM place) AS places, (SELECT count(*) FROM link) AS links, (SELECT count(*) FROM tag) AS tags,
      (SELECT count(*) FROM content WHERE neededMs IS NOT NULL) AS contents,
      (SELECT coalesce(sum(bytes), 0) FROM content) AS bytes,
      (SELECT count(*) FROM content WHERE pinned = 1) AS pinned`);

  function imagesOf(place: PlaceRow, { tag, digest }: Position, limit: number): readonly ImageRow[] {
    if (tag !== undefined) return tagged.all(place.id, tag, digest, limit);
    const first = untagged.all(place.id, digest, limit);
    return first.length === limit ? first : [...first, ...tagged.all(place.id, "", "", limit - first.length)];
  }

  function toRecord({ registry, repository }: Place, row: ImageRow): ImageRecord {
    return {
      place: { registry, repository },
      tag: row.tag ?? undefined,
      digest: row.digest,
      bytes: sum.get(row.id)?.bytes ?? 0,
      lastUsedMs: row.usedMs,
      pinned: row.pinned === 1,
    };
  }

  return {
    images({ after, limit }) {
      const found: ImageRecord[] = [];
      const most = Math.min(Math.max(limit, 1), MAX_PAGE);
      let from: Place = after?.place ?? { registry: "", repository: "" };
      for (;;) {
        const places = placesFrom.all(from.registry, from.repository);
        for (const place of places) {
          const position = after !== undefined && isSamePlace(place, after.place) ? after : START;
          const rows = imagesOf(place, position, most - found.length);
          for (const row of rows) found.push(toRecord(place, row));
          if (found.length >= most) return found;
        }
        const last = places.at(-1);
        if (last === undefined) return found;
        // The next text in order: the place behind the last one.
        from = { registry: last.registry, repository: `${last.repository}\0` };
      }
    },
    countPlaces(from) {
      const { places, tags, last } = countTags.get(from) ?? { places: 0, tags: 0, last: null };
      return { places, tags: tags ?? 0, next: places < PLACES_COUNTED || last === null ? undefined : last + 1 };
    },
    totals: () => count.get() ?? { places: 0, links: 0, tags: 0, contents: 0, bytes: 0, pinned: 0 },
  };
}

function isSamePlace(one: Place, other: Place): boolean {
  return one.registry === other.registry && one.repository === other.repository;
}
