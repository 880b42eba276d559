/**
 * The tables of the Records, and how a file of an older version becomes one of this. Version 0 is an empty file; each step
 * leads from its index to the next version, and is never changed once released.
 *
 *   grant ──▶ place ◀── link ──▶ content ◀── reference (manifest names child)
 *               ▲────── tag ───────▲
 *
 * Rows go together with what they are about: content by `forget` (its links, tags and references first), a place with its
 * last link, tag or grant, content known only by name with the last manifest that names it.
 */
import type { Database } from "bun:sqlite";

/** Takes a place away of which nothing is known any more. */
const DROP_PLACE = `
    DELETE FROM place WHERE id = OLD.place
      AND NOT EXISTS (SELECT 1 FROM link WHERE place = OLD.place)
      AND NOT EXISTS (SELECT 1 FROM tag WHERE place = OLD.place)
      AND NOT EXISTS (SELECT 1 FROM grants WHERE place = OLD.place);
`;

/**
 * `content.neededMs` orders eviction; null: known by name only, so nothing to evict. Ids are never used again (AUTOINCREMENT),
 * so that a row somebody deleted by hand cannot make another content's link out of a left over one.
 */
const VERSION_1 = `
  CREATE TABLE place (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    UNIQUE (registry, repository)
  ) STRICT;
  CREATE TABLE content (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    usedMs INTEGER NOT NULL,
    neededMs INTEGER,
    pinned INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX content_needed ON content (neededMs, id) WHERE neededMs IS NOT NULL;
  CREATE INDEX content_pinned ON content (id) WHERE pinned = 1;

  CREATE TABLE link (
    place INTEGER NOT NULL REFERENCES place,
    content INTEGER NOT NULL REFERENCES content,
    mediaType TEXT,
    provenMs INTEGER NOT NULL,
    PRIMARY KEY (place, content)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX link_content ON link (content);
  CREATE INDEX link_proven ON link (provenMs);

  CREATE TABLE tag (
    place INTEGER NOT NULL REFERENCES place,
    tag TEXT NOT NULL,
    accept TEXT NOT NULL,
    content INTEGER NOT NULL REFERENCES content,
    mediaType TEXT,
    bytes INTEGER NOT NULL,
    firstSeenMs INTEGER NOT NULL,
    checkedMs INTEGER NOT NULL,
    PRIMARY KEY (place, tag, accept)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX tag_content ON tag (content);
  CREATE INDEX tag_checked ON tag (checkedMs);

  CREATE TABLE grants (
    place INTEGER NOT NULL REFERENCES place,
    holder TEXT NOT NULL,
    proof TEXT NOT NULL,
    checkedMs INTEGER NOT NULL,
    PRIMARY KEY (place, holder)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX grants_checked ON grants (checkedMs);

  CREATE TABLE reference (
    manifest INTEGER NOT NULL REFERENCES content,
    child INTEGER NOT NULL REFERENCES content,
    PRIMARY KEY (manifest, child)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX reference_child ON reference (child);

  CREATE TRIGGER link_gone AFTER DELETE ON link BEGIN ${DROP_PLACE} END;
  CREATE TRIGGER tag_gone AFTER DELETE ON tag BEGIN ${DROP_PLACE} END;
  CREATE TRIGGER grant_gone AFTER DELETE ON grants BEGIN ${DROP_PLACE} END;
  CREATE TRIGGER reference_gone AFTER DELETE ON reference BEGIN
    DELETE FROM content WHERE id = OLD.child AND neededMs IS NULL AND pinned = 0
      AND NOT EXISTS (SELECT 1 FROM reference WHERE child = OLD.child);
  END;
`;

/** `content.bytes` is a fact where the bytes were hashed, else what a registry or the disk told. */
const VERSION_2 = `
  ALTER TABLE content ADD COLUMN isVerified INTEGER NOT NULL DEFAULT 0;
`;

const STEPS: readonly string[] = [VERSION_1, VERSION_2];

/**
 * Brings the file to the newest version. Safe when two processes open a new file at once: one of them finds it done.
 * @throws Error when a newer program wrote the file, or it cannot be read or written
 */
export function migrate(database: Database): void {
  if (versionOf(database) === STEPS.length) return;
  database
    .transaction(() => {
      const version = versionOf(database);
      if (version > STEPS.length)
        throw new Error(`expected records of version ${STEPS.length} or older, got version ${version}`);
      for (const step of STEPS.slice(version)) database.run(step);
      database.run(`PRAGMA user_version = ${STEPS.length}`);
    })
    .immediate();
}

function versionOf(database: Database): number {
  return database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0;
}
