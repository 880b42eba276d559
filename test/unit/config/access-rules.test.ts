import { describe, expect, test } from "bun:test";
import { parseAccessRules, unknownNames } from "../../../src/config/access-rules.ts";
import { type Problem, problemLine } from "../../../src/config/problem.ts";
import { parseRegistryMap } from "../../../src/config/registrymap.ts";

const GOOD = `
rules:
  - users: [alice, "*"]
    repositories: ["docker.io/library/**", "reg.test:5000/a", "**"]
    rights: [pull, push, delete]
`;

function parse(text: string, path = "rules.yaml") {
  const problems: Problem[] = [];
  return { rules: parseAccessRules(path, text, problems), problems: problems.map(problemLine) };
}

const rule = (fields: Record<string, unknown>) =>
  JSON.stringify({ rules: [{ users: ["a"], repositories: ["**"], rights: ["pull"], ...fields }] });

describe("parseAccessRules()", () => {
  test("reads rules", () => {
    expect(parse(GOOD)).toEqual({
      rules: [
        {
          users: ["alice", "*"],
          repositories: [
            { kind: "registry", registry: "docker.io", pattern: "library/**" },
            { kind: "registry", registry: "reg.test:5000", pattern: "a" },
            { kind: "all" },
          ],
          rights: ["pull", "push", "delete"],
        },
      ],
      problems: [],
    });
  });

  test.each([
    ["rules.toml", '[[rules]]\nusers = ["a"]\nrepositories = ["**"]\nrights = ["pull"]'],
    ["rules.json", rule({})],
    ["rules.jsonc", `// ours\n${rule({})}`],
  ])("reads %s", (path, text) => expect(parse(text, path)).toMatchObject({ rules: [{ users: ["a"] }], problems: [] }));

  test.each([
    [rule({ users: [] }), "rules[0].users"],
    [rule({ users: [""] }), "rules[0].users[0]: expected the name of a user, * or anonymous"],
    [rule({ rights: ["pul"] }), 'rules[0].rights[0]: expected pull, push or delete, got "pul"; did you mean pull?'],
    [rule({ right: ["pull"] }), 'rules[0]: unknown key "right"; did you mean rights?'],
    ['{"rule": []}', 'unknown key "rule"; did you mean rules?'],
    ["[]", "expected names with values"],
    ["{", "rules.json"],
    ...["*", "docker.io", "docker.io/", "/a", "*/a", "docker.io/A", "docker.io/a//b", ""].map(
      (text): [string, string] => [
        rule({ repositories: [text] }),
        "rules[0].repositories[0]: expected <registry>/<repository>",
      ],
    ),
  ])("refuses %s", (text, problem) => {
    const { rules, problems } = parse(text, "rules.json");
    expect(problems.join("\n")).toContain(problem);
    expect(rules).toEqual([]);
  });

  test("tells all problems at once", () => {
    expect(parse(rule({ rights: ["x"], repositories: ["y"], more: 1 }), "rules.json").problems).toHaveLength(3);
  });

  test("refuses a file of another kind", () => {
    expect(parse("", "rules.txt").problems.join()).toContain("expected a file that ends in");
  });
});

test("unknownNames() names registries and users that are not there, with the nearest that are", async () => {
  const map = await parseRegistryMap(
    JSON.stringify({ default: "https://registry-1.docker.io", quay: "https://quay.io" }),
    {
      source: "file",
      name: "map.json",
      readFile: () => Promise.reject(new Error("no file")),
      defaultRegistry: undefined,
      dockerHub: undefined,
      verifyTls: true,
    },
  );
  const { rules } = parse(
    JSON.stringify({
      rules: [
        { users: ["alise", "*", "anonymous"], repositories: ["quay/a", "quya.io/a", "quay.io/b"], rights: ["pull"] },
      ],
    }),
    "rules.json",
  );
  expect(unknownNames(rules, { map, users: ["alice"] })).toEqual([
    '"quya.io" is no registry of the map; did you mean quay.io?',
    '"alise" is no user; did you mean alice?',
  ]);
  expect(unknownNames(rules, { map, users: undefined })).toHaveLength(1);
});
