import { describe, expect, test } from "bun:test";
import { parseMap, problemsOfMap } from "./map-parsing.ts";

const OTHERS = { two: "https://two.test", three: "https://three.test" };

describe("alsoAt", () => {
  test("names keys of the map, each with a path there and the repositories it is for", async () => {
    const alsoAt = [
      "two",
      "three/mirror/hub",
      { at: "TWO/x" },
      { at: "three", repositories: ["library/**", "org/app"] },
    ];
    const map = await parseMap({ one: { upstreams: ["https://one.test"], alsoAt }, ...OTHERS });
    expect(map.byKey.get("one")?.standIns).toEqual([
      { key: "two", prefix: "", repositories: [] },
      { key: "three", prefix: "mirror/hub/", repositories: [] },
      { key: "two", prefix: "x/", repositories: [] },
      { key: "three", prefix: "", repositories: ["library/**", "org/app"] },
    ]);
    expect(map.byKey.get("two")?.standIns).toEqual([]);
  });

  test("may go both ways", async () => {
    const map = await parseMap({
      one: { upstreams: ["https://one.test"], alsoAt: ["two"] },
      two: { upstreams: ["https://two.test"], alsoAt: ["one"] },
    });
    expect(map.registries.map(({ standIns }) => standIns[0]?.key)).toEqual(["two", "one"]);
  });

  test.each([
    [["twoo"], ['map: one.alsoAt[0]: expected a key of the map, got "twoo"; did you mean two?']],
    [
      ["two", "https://x.test"],
      [expect.stringContaining("map: one.alsoAt[1].at: expected a key of the map and maybe")],
    ],
    [["one"], ["map: one.alsoAt[0]: expected another registry than one itself"]],
    [["alias/x"], ["map: one.alsoAt[0]: expected another registry than one itself"]],
    [["two/"], [expect.stringContaining("map: one.alsoAt[0].at: expected a key of the map and maybe a path there")]],
    [["two/Not A Name"], [expect.stringContaining("map: one.alsoAt[0].at: expected a key")]],
    [["two/../x"], [expect.stringContaining("map: one.alsoAt[0].at: expected a key")]],
    [[""], [expect.stringContaining("map: one.alsoAt[0].at: expected a key")]],
    [
      [{ at: "two", repositories: ["A b"] }],
      [expect.stringContaining("map: one.alsoAt[0].repositories[0]: expected a")],
    ],
    [[{ at: "two", repos: [] }], [expect.stringContaining("map: one.alsoAt[0].repos: unknown key")]],
    [[5], ["map: one.alsoAt[0]: expected object, received number"]],
    ["two", ["map: one.alsoAt: expected array, received string"]],
    [["two", "two", "two", "two", "two"], [expect.stringContaining("map: one.alsoAt: ")]],
  ])("refuses %j", async (alsoAt, problems) => {
    const map = { one: { upstreams: ["https://one.test"], alsoAt }, alias: "https://one.test", ...OTHERS };
    expect(await problemsOfMap(map)).toEqual(problems);
  });

  test("says nothing more about a key whose entry is refused", async () => {
    const map = { one: { upstreams: ["https://one.test"], alsoAt: ["two"] }, two: { upstreams: ["ftp://two.test"] } };
    expect(await problemsOfMap(map)).toEqual([expect.stringContaining("map: two.upstreams[0]")]);
  });
});
