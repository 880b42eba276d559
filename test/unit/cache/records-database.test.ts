import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { createRecordsDatabase } from "../../../src/cache/records-database.ts";
import { silent } from "../../support/http-server.ts";
import { createTempDir } from "../../support/temp-dir.ts";

test("changes() is another number after each write, and whenever reads fail or may succeed again", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const database = createRecordsDatabase({ file, maxRows: 100 }, { log: silent, now: Date.now });
  let last = database.changes();
  const hasChanged = (): boolean => {
    const before = last;
    last = database.changes();
    return last !== before;
  };
  const holder = new Database(file);
  holder.run("BEGIN IMMEDIATE");

  expect(database.read<unknown>(false, () => true)).toBe(true);
  expect(hasChanged()).toBe(false);
  database.write({ kind: "fact", subject: "first", write: ({ links }) => links.unlinkAll("none") });
  expect(hasChanged()).toBe(true);
  database.write({ kind: "fact", subject: "second", write: () => undefined });
  expect(hasChanged()).toBe(true);
  expect(database.read<unknown>("absent", ({ clear }) => (clear(), "there"))).toBe("absent"); // busy
  expect(hasChanged()).toBe(true);
  holder.run("ROLLBACK");
  holder.close();
  expect(database.read<unknown>("absent", () => "there")).toBe("absent"); // the file rests
  expect(hasChanged()).toBe(false);
  database.flush();
  expect(hasChanged()).toBe(true);
  database.flush(); // nothing waits any more, but a file that rested would be asked again
  expect(hasChanged()).toBe(true);
  expect(database.read<unknown>("absent", () => "there")).toBe("there");
  expect(hasChanged()).toBe(false);
  database.close();
  expect(hasChanged()).toBe(true);
});
