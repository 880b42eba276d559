/**
 * Grants: that a holder, or everybody, may read a repository, as a 200 on one of its manifests showed. Statements only.
 */
import type { Database } from "bun:sqlite";
import type { Grant, Place } from "./records-facts.ts";
import type { Rows } from "./records-rows.ts";

export interface Grants {
  grant(place: Place, holder: string): Grant | undefined;
  setGrant(place: Place, holder: string, facts: Grant): void;
  dropGrant(place: Place, holder: string): void;
}

export function createGrants(database: Database, rows: Rows): Grants {
  const find = database.prepare<Grant, [string, string, string]>(`
    SELECT proof, checkedMs FROM grants
    WHERE place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2) AND holder = ?3`);
  const write = database.prepare<null, [number, string, string, number]>(`
    INSERT INTO grants (place, holder, proof, checkedMs) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET proof = excluded.proof, checkedMs = excluded.checkedMs`);
  const remove = database.prepare<null, [string, string, string]>(`
    DELETE FROM grants
    WHERE place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2) AND holder = ?3`);

  return {
    grant: ({ registry, repository }, holder) => find.get(registry, repository, holder) ?? undefined,
    setGrant: (place, holder, { proof, checkedMs }) => void write.run(rows.place(place), holder, proof, checkedMs),
    dropGrant: ({ registry, repository }, holder) => void remove.run(registry, repository, holder),
  };
}
