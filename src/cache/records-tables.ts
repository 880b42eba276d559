/**
 * Everything that can be asked of one open database, prepared once. A database that is replaced gets new ones.
 */
import type { Database } from "bun:sqlite";
import { createGrants, type Grants } from "./records-grants.ts";
import { createImages, type Images } from "./records-images.ts";
import { createLinks, type Links } from "./records-links.ts";
import { createNeeds, type Needs } from "./records-needs.ts";
import { createRemoval, type Removal } from "./records-removal.ts";
import { createRows } from "./records-rows.ts";
import { createTags, type Tags } from "./records-tags.ts";
import { createTrim, type Trim } from "./records-trim.ts";

export interface Tables {
  readonly links: Links;
  readonly tags: Tags;
  readonly grants: Grants;
  readonly needs: Needs;
  readonly images: Images;
  readonly removal: Removal;
  readonly trim: Trim;
  /** Runs the action in one transaction that takes the write lock at its start. */
  atomically<T>(action: () => T): T;
  /** Pages of the log that are not in the file yet. */
  logPages(): number;
  /** Another number once another connection has written. */
  foreignChanges(): number;
  /** Takes every link, tag and grant away. */
  clear(): void;
  close(): void;
}

export interface TablesDependencies {
  readonly database: Database;
  readonly now: () => number;
  /** Links at most, and as many tags and grants. */
  readonly maxRows: number;
}

export function createTables({ database, now, maxRows }: TablesDependencies): Tables {
  const rows = createRows(database);
  const foreign = database.prepare<{ data_version: number }, []>("PRAGMA data_version");
  const logLength = database.prepare<{ log: number; checkpointed: number }, []>("PRAGMA wal_checkpoint(NOOP)");
  return {
    links: createLinks({ database, rows, now }),
    tags: createTags({ database, rows, now }),
    grants: createGrants(database, rows),
    needs: createNeeds({ database, rows, now }),
    images: createImages(database),
    removal: createRemoval(database, rows),
    trim: createTrim(database, maxRows),
    atomically: (action) => database.transaction(action).immediate(),
    logPages() {
      const { log, checkpointed } = logLength.get() ?? { log: 0, checkpointed: 0 };
      return log - checkpointed;
    },
    foreignChanges: () => foreign.get()?.data_version ?? 0,
    clear() {
      database.run("DELETE FROM tag");
      database.run("DELETE FROM link");
      database.run("DELETE FROM grants");
    },
    // Statements too, so that the file is whole without its log, and may be moved.
    close: () => database.close(true),
  };
}
