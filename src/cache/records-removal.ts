/**
 * Taking an image out by hand: its links and tags, those of what it names, and what nobody else needs then. Statements
 * only. An image is one manifest or index with everything below it; bytes shared with another image stay (lesson T10).
 */
import type { Database } from "bun:sqlite";
import type { Place } from "./records-facts.ts";
import type { Rows } from "./records-rows.ts";

export interface Removal {
  /** What the tag leads to, under each class of Accept. */
  tagged(place: Place, tag: string): readonly string[];
  /** The tag is gone; what it led to, too, when no other tag of the repository leads there. */
  removeTag(place: Place, tag: string): readonly string[];
  /** The image is gone from this repository; from all of them without one. Digests whose bytes must go, manifests first. */
  remove(digest: string, place: Place | undefined): readonly string[];
  /** Manifests that are here and name the digest, at most ten. */
  namedBy(digest: string): readonly string[];
}

/** Rows looked at for one image: an index of a hundred platforms with a hundred layers each. */
const MAX_BELOW = 10_000;

interface BelowRow {
  readonly id: number;
  readonly digest: string;
  readonly neededMs: number | null;
  readonly pinned: number;
}

export function createRemoval(database: Database, rows: Rows): Removal {
  const selectTagged = database.prepare<{ digest: string }, [string, string, string]>(`
    SELECT DISTINCT content.digest FROM place JOIN tag ON tag.place = place.id AND tag.tag = ?3
    JOIN content ON content.id = tag.content WHERE place.registry = ?1 AND place.repository = ?2`);
  const deleteTag = database.prepare<null, [string, string, string]>(`
    DELETE FROM tag WHERE tag = ?3 AND place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)`);
  const hasTag = database.prepare<{ one: number }, [number, number]>(
    "SELECT 1 AS one FROM tag WHERE place = ?1 AND content = ?2 LIMIT 1",
  );
  const selectBelow = database.prepare<BelowRow, [number]>(`
    WITH RECURSIVE below (id) AS (
      SELECT ?1 UNION SELECT child FROM reference JOIN below ON reference.manifest = below.id LIMIT ${MAX_BELOW}
    ) SELECT content.id, digest, neededMs, pinned FROM below JOIN content ON content.id = below.id`);
  const selectPlaces = database.prepare<{ place: number }, [number]>(
    "SELECT place FROM link WHERE content = ?1 UNION SELECT place FROM tag WHERE content = ?1",
  );
  // Still needed in the repository: tagged there, or named by a manifest that is linked there.
  const isNeededAt = database.prepare<{ one: number }, [number, number]>(`
    SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM tag WHERE place = ?1 AND content = ?2) OR EXISTS (
      SELECT 1 FROM reference JOIN link ON link.content = reference.manifest AND link.place = ?1
      WHERE reference.child = ?2)`);
  const unlink = database.prepare<null, [number, number]>("DELETE FROM link WHERE place = ?1 AND content = ?2");
  const untag = database.prepare<null, [number, number]>("DELETE FROM tag WHERE place = ?1 AND content = ?2");
  const isNeeded = database.prepare<{ one: number }, [number]>(`
    SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM link WHERE content = ?1) OR EXISTS (SELECT 1 FROM tag WHERE content = ?1)
      OR EXISTS (SELECT 1 FROM reference WHERE child = ?1)`);
  const selectNaming = database.prepare<{ digest: string }, [string]>(`
    SELECT manifest.digest FROM content JOIN reference ON reference.child = content.id
    JOIN content AS manifest ON manifest.id = reference.manifest AND manifest.neededMs IS NOT NULL
    WHERE content.digest = ?1 ORDER BY manifest.digest LIMIT 10`);

  function tagged({ registry, repository }: Place, tag: string): readonly string[] {
    return selectTagged.all(registry, repository, tag).map(({ digest }) => digest);
  }

  function remove(digest: string, place: Place | undefined): readonly string[] {
    const content = rows.findContent(digest);
    if (content === undefined) return [];
    const below = selectBelow.all(content.id);
    for (const placeId of placesOf(content.id, place)) removeAt(placeId, below);
    const doomed: string[] = [];
    // From above: what a manifest names is free of it once the manifest is forgotten.
    for (const row of below) {
      if (row.neededMs === null || row.pinned === 1 || isNeeded.get(row.id) !== null) continue;
      rows.forget(row.id);
      doomed.push(row.digest);
    }
    return doomed;
  }

  function placesOf(contentId: number, place: Place | undefined): readonly number[] {
    if (place === undefined) return selectPlaces.all(contentId).map((row) => row.place);
    const id = rows.findPlace(place);
    return id === undefined ? [] : [id];
  }

  function removeAt(placeId: number, below: readonly BelowRow[]): void {
    const [image] = below;
    if (image !== undefined) untag.run(placeId, image.id);
    for (const { id } of below) if (isNeededAt.get(placeId, id) === null) unlink.run(placeId, id);
  }

  return {
    tagged,
    removeTag(place, tag) {
      const digests = tagged(place, tag);
      const placeId = rows.findPlace(place);
      deleteTag.run(place.registry, place.repository, tag);
      return digests.flatMap((digest) => {
        const id = rows.findContent(digest)?.id;
        const isTaggedStill = id !== undefined && placeId !== undefined && hasTag.get(placeId, id) !== null;
        return isTaggedStill ? [] : remove(digest, place);
      });
    },
    remove,
    namedBy: (digest) => selectNaming.all(digest).map((row) => row.digest),
  };
}
