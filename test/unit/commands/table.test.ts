import { describe, expect, test } from "bun:test";
import { ageText, createTable, shortDigest, sizeText } from "../../../src/commands/table.ts";

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [10_188, "9.9 KiB"],
  [10_189, "10 KiB"],
  [1_022_976, "999 KiB"],
  [1_023_500, "1.0 MiB"],
  [32 * 1024 ** 3, "32 GiB"],
  [5 * 1024 ** 5, "5120 TiB"],
])("sizeText() of %d is %s", (bytes, text) => expect(sizeText(bytes)).toBe(text));

test.each([
  [0, "now"],
  [-5000, "now"],
  [59_999, "now"],
  [60_000, "1m ago"],
  [3_599_999, "59m ago"],
  [3_600_000, "1h ago"],
  [86_400_000 * 100, "100d ago"],
])("ageText() of %d ms is %s", (ms, text) => expect(ageText(1_000_000_000_000 - ms, 1_000_000_000_000)).toBe(text));

test("shortDigest() keeps the algorithm and twelve digits", () => {
  expect(shortDigest(`sha512:${"ab".repeat(64)}`)).toBe("sha512:abababababab");
});

describe("createTable()", () => {
  test("aligns words left and numbers right, with one head over all parts", () => {
    const table = createTable([{ title: "NAME" }, { title: "SIZE", isNumber: true }, { title: "X" }]);
    expect(table([["a", "1", ""]])).toBe("NAME  SIZE  X\na        1\n");
    expect(table([["longer", "22222", "y"]])).toBe("longer  22222  y\n");
    expect(table([["b", "3", "z"]])).toBe("b           3  z\n");
  });

  test("is its head alone when there are no rows", () => {
    expect(createTable([{ title: "NAME" }])([])).toBe("NAME\n");
  });
});
