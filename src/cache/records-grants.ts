/**
 * Public grants: anybody may read this repository, as an anonymous 200 on one of its manifests showed. Statements only.
 */
import type { Database } from "bun:sqlite";
import type { Place, PublicGrant } from "./records-facts.ts";
import type { Rows } from "./records-rows.ts";

export interface Grants {
  public(place: Place): PublicGrant | undefined;
  setPublic(place: Place, proof: string, checkedMs: number): void;
  dropPublic(place: Place): void;
}

export function createGrants(database: Database, rows: Rows): Grants {
  const find = database.prepare<PublicGrant, [string, string]>(`
    SELECT proof, checkedMs FROM grant_public
    WHERE place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)`);
  const write = database.prepare<null, [number, string, number]>(`
    INSERT INTO grant_public (place, proof, checkedMs) VALUES (?1, ?2, ?3)
    ON CONFLICT DO UPDATE SET proof = excluded.proof, checkedMs = excluded.checkedMs`);
  const remove = database.prepare<null, [string, string]>(`
    DELETE FROM grant_public WHERE place = (SELECT id FROM place WHERE registry = ?1 AND repository = ?2)`);

  return {
    public: ({ registry, repository }) => find.get(registry, repository) ?? undefined,
    setPublic: (place, proof, checkedMs) => void write.run(rows.place(place), proof, checkedMs),
    dropPublic: ({ registry, repository }) => void remove.run(registry, repository),
  };
}
