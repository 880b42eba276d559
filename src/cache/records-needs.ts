/**
 * What is needed: last uses, pins, and which manifest names what; and from these, what eviction may take. Statements only.
 *
 * Content is needed as long as what names it: a base layer by every image on it, a platform's manifest by its index. That
 * is not kept up to date at each use but found out when eviction comes to it: `condemn` looks upwards, and content that is
 * needed moves behind the younger ones. So a use costs one row, and each content is looked at once per round.
 */
import type { Database } from "bun:sqlite";
import type { EvictionCandidate } from "./records-facts.ts";
import type { ContentRow, Rows } from "./records-rows.ts";
import type { KnownSize } from "./integrity.ts";
import type { StoredContent } from "./store.ts";

export interface Needs {
  used(digest: string, atMs: number): void;
  pin(digest: string): void;
  unpin(digest: string): void;
  isPinned(digest: string): boolean;
  pins(): number;
  setReferences(manifestDigest: string, digests: readonly string[]): void;
  knows(content: StoredContent): boolean;
  adopt(content: StoredContent, atMs: number): void;
  size(digest: string): KnownSize | undefined;
  verified(content: StoredContent): void;
  forget(digest: string): void;
  /** When any content counts as needed in the future (the clock was set back): from now on it counts as needed now. */
  isAheadOfTime(): boolean;
  comeBackToNow(): void;
  evictionCandidates(limit: number): readonly EvictionCandidate[];
  condemn(candidate: EvictionCandidate): readonly string[];
}

export interface NeedsDependencies {
  readonly database: Database;
  readonly rows: Rows;
  readonly now: () => number;
}

/** More than any image has layers or any index children; the rest of a longer list is not kept together with its manifest. */
const MAX_REFERENCES = 1000;
/** What more manifests than this name counts as needed without looking at each: looking takes the event loop's time. */
const MAX_ABOVE = 1000;
/** Digests on one page of candidates: a page is read at once. */
const MAX_CANDIDATES = 1000;

interface AboveRow {
  readonly id: number;
  readonly digest: string;
  readonly neededMs: number | null;
  readonly pinned: number;
}

export function createNeeds({ database, rows, now }: NeedsDependencies): Needs {
  const use = database.prepare<null, [string, number]>(`
    UPDATE content SET usedMs = max(usedMs, ?2), neededMs = max(neededMs, ?2) WHERE digest = ?1 AND neededMs IS NOT NULL`);
  const setPinned = database.prepare<null, [number, number]>("UPDATE content SET pinned = ?2 WHERE id = ?1");
  const countPinned = database.prepare<{ count: number }, []>("SELECT count(*) AS count FROM content WHERE pinned = 1");
  const refer = database.prepare<null, [number, number]>(
    "INSERT INTO reference (manifest, child) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
  );
  const unrefer = database.prepare<null, [number, number]>("DELETE FROM reference WHERE manifest = ?1 AND child = ?2");
  const selectChildren = database.prepare<{ child: number }, [number]>(
    "SELECT child FROM reference WHERE manifest = ?1",
  );
  const newest = database.prepare<{ neededMs: number | null }, []>(
    "SELECT max(neededMs) AS neededMs FROM content WHERE neededMs IS NOT NULL",
  );
  const clamp = database.prepare<null, [number]>("UPDATE content SET neededMs = ?1 WHERE neededMs > ?1");
  const oldest = database.prepare<EvictionCandidate, [number]>(`
    SELECT digest, bytes, neededMs FROM content WHERE neededMs IS NOT NULL ORDER BY neededMs, id LIMIT ?1`);
  const need = database.prepare<null, [number, number]>("UPDATE content SET neededMs = ?2 WHERE id = ?1");
  const selectAbove = database.prepare<AboveRow, [number]>(`
    WITH RECURSIVE above (id) AS (
      SELECT manifest FROM reference WHERE child = ?1
      UNION SELECT reference.manifest FROM reference JOIN above ON reference.child = above.id
      LIMIT ${MAX_ABOVE + 1}
    ) SELECT content.id, digest, neededMs, pinned FROM above JOIN content ON content.id = above.id`);

  function condemn({ digest, neededMs }: EvictionCandidate): readonly string[] {
    const row = rows.findContent(digest);
    // Used or forgotten since the page of candidates was read.
    if (row === undefined || row.neededMs === null || row.neededMs > neededMs) return [];
    const above = selectAbove.all(row.id);
    const group = [{ ...row, digest }, ...above];
    if (isKept(group)) {
      need.run(row.id, now());
      return [];
    }
    const neededUntil = Math.max(...group.map((each) => each.neededMs ?? 0));
    if (neededUntil > row.neededMs) {
      need.run(row.id, neededUntil);
      return [];
    }
    // The list leads upwards: what names others goes before them.
    const doomed = group.toReversed();
    for (const { id } of doomed) rows.forget(id);
    return doomed.map((each) => each.digest);
  }

  return {
    used: (digest, atMs) => void use.run(digest, atMs),
    pin: (digest) => void setPinned.run(rows.name(digest), 1),
    unpin(digest) {
      const row = rows.findContent(digest);
      if (row === undefined) return;
      setPinned.run(row.id, 0);
      rows.dropUnneeded(row.id);
    },
    isPinned: (digest) => rows.findContent(digest)?.pinned === 1,
    pins: () => countPinned.get()?.count ?? 0,
    setReferences(manifestDigest, digests) {
      const row = rows.findContent(manifestDigest);
      const manifest = rows.content({ digest: manifestDigest, bytes: row?.bytes ?? 0 }, keptUse(row) ?? now());
      const children = new Set(digests.slice(0, MAX_REFERENCES).map((digest) => rows.name(digest)));
      // New ones first: with its last reference a row goes that is known by name only.
      for (const child of children) refer.run(manifest, child);
      for (const { child } of selectChildren.all(manifest)) if (!children.has(child)) unrefer.run(manifest, child);
    },
    knows({ digest, bytes }) {
      const row = rows.findContent(digest);
      return row !== undefined && row.neededMs !== null && (row.bytes === bytes || row.isVerified === 1);
    },
    adopt(content, atMs) {
      rows.content(content, keptUse(rows.findContent(content.digest)) ?? atMs);
    },
    size(digest) {
      const row = rows.findContent(digest);
      if (row === undefined || row.neededMs === null) return undefined;
      // No content but one has no bytes: a manifest of which only the references are known.
      if (row.bytes === 0 && row.isVerified === 0) return undefined;
      return { bytes: row.bytes, isVerified: row.isVerified === 1 };
    },
    verified: (content) => rows.verified(content, now()),
    forget(digest) {
      const row = rows.findContent(digest);
      if (row !== undefined) rows.forget(row.id);
    },
    isAheadOfTime: () => (newest.get()?.neededMs ?? 0) > now(),
    comeBackToNow: () => void clamp.run(now()),
    evictionCandidates: (limit) => oldest.all(Math.min(limit, MAX_CANDIDATES)),
    condemn,
  };
}

/** What more manifests name than are looked at may be in use; and what a pin holds always is. */
function isKept(group: readonly AboveRow[]): boolean {
  return group.length > MAX_ABOVE || group.some(({ pinned }) => pinned === 1);
}

/** The last use of content that eviction knows of already: learning more about it is no use of it. */
function keptUse(row: ContentRow | undefined): number | undefined {
  return row === undefined || row.neededMs === null ? undefined : row.usedMs;
}
