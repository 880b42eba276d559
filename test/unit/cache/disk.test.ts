/** What a file system answers, told as the Store tells it. */
import { expect, test } from "bun:test";
import { storeErrorOf } from "../../../src/cache/disk.ts";
import { StoreError } from "../../../src/cache/store.ts";

test.each([
  ["ENOSPC", "full"],
  ["EDQUOT", "full"],
  ["EFBIG", "full"],
  ["EROFS", "broken"],
  ["EACCES", "broken"],
  ["EIO", "broken"],
  ["ENOENT", "broken"],
  [undefined, "broken"],
] as const)("storeErrorOf() takes %p for %s", (code, kind) => {
  const cause = Object.assign(new Error("what the system said"), code === undefined ? {} : { code });
  const error = storeErrorOf(cause, "append");
  expect(error).toMatchObject({ kind, cause });
  expect(error.message).toContain("could not append");
});

test("storeErrorOf() leaves a StoreError as it is", () => {
  const error = new StoreError("mismatch", "no");
  expect(storeErrorOf(error, "append")).toBe(error);
});
