/** What the documents say is there: rules and their tests, links, commands, files. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { type Claim, claimsIn, protocolPage, readClaims, REQUIRED, RULES } from "../../docs/protocol.ts";

const ROOT = path.join(import.meta.dir, "../..");
const claims = await readClaims();
const claimed = new Set(claims.map(({ rule }) => rule));

const pages = ["*.md", "{docs,test,bench,.github}/**/*.md"]
  .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT, dot: true })])
  .toSorted()
  .map((name) => ({ name, text: readFileSync(path.join(ROOT, name), "utf8") }));

describe("docs/protocol.md", () => {
  test("every rule that must hold has a test or a reason, and none has both", () => {
    const unsaid = REQUIRED.filter((rule) => !RULES.has(rule));
    const neither = [...RULES].filter(([name, rule]) => typeof rule === "string" && !claimed.has(name));
    const both = [...RULES].filter(([name, rule]) => typeof rule !== "string" && claimed.has(name));
    expect({ unsaid, neither: neither.map(([name]) => name), both: both.map(([name]) => name) }).toEqual({
      unsaid: [],
      neither: [],
      both: [],
    });
  });

  test("no test claims a rule that has no wording", () => {
    const unknown = claims.filter(({ rule }) => !RULES.has(rule));
    expect(unknown.map(({ rule, file }) => `${rule} in ${file}`)).toEqual([]);
  });

  test("is what the rules and the tests say: run npm run docs", () => {
    expect(readFileSync(path.join(ROOT, "docs/protocol.md"), "utf8")).toBe(protocolPage(claims));
  });
});

test("claimsIn() reads titles and rows that begin with rules, and nothing else", () => {
  // Brackets come in later: this file is read for claims like any other.
  const text = [
    String.raw`test("<R1> one \"word\"", () => {});`,
    "test.each([['<R2,T3> two']])('%s', () => {});",
    "test(`<C4, R5> three`, () => {});",
    'test("not <R6> at the front", () => {});',
    "// <R7> in a comment",
    'const list = ["R8"];',
  ]
    .join("\n")
    .replaceAll(/<(.+?)>/g, "[$1]");
  const expected: [string, string][] = [
    ["R1", 'one "word"'],
    ["R2", "two"],
    ["T3", "two"],
    ["C4", "three"],
    ["R5", "three"],
  ];
  expect(claimsIn(text, "x.ts")).toEqual(expected.map(([rule, title]): Claim => ({ rule, file: "x.ts", title })));
});

describe.each(pages.map(({ name, text }) => [name, text] as const))("%s", (name, text) => {
  test("leads nowhere but to files that are there", () => {
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target.replace(/#.*$/, ""));
    const relative = targets.filter((target) => target !== "" && !/^[a-z]+:/.test(target));
    const missing = relative.filter((target) => !existsSync(path.join(ROOT, path.dirname(name), target)));
    expect(missing).toEqual([]);
  });

  test("names only files that are there", () => {
    const named = [...text.matchAll(/(?<![\w./-])((?:[\w-]+\/)+[\w-]+(?:\.[\w-]+)*\.(?:ts|md|sh|json))(?![\w/])/g)];
    const files = new Set(named.map(([, file = ""]) => file));
    // Prose about the code leaves src/ out: `proxy/blob.ts`. The changelog tells of what was.
    const isThere = (file: string) =>
      ["", "src", "test", path.dirname(name)].some((base) => existsSync(path.join(ROOT, base, file)));
    expect([...files].filter((file) => !isThere(file))).toEqual([]);
  });

  test("tells only commands that package.json has", () => {
    const { scripts } = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const told = [...text.matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g)].map(
      ([, run, short]) => run ?? short ?? "",
    );
    expect(told.filter((script) => scripts[script] === undefined)).toEqual([]);
  });
});

test("package.json runs only files that are there", () => {
  const { scripts } = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  const files = Object.values(scripts).flatMap((line) => line.match(/\b[\w-]+\/[\w/-]+\.(?:ts|sh)\b/g) ?? []);
  expect(files.filter((file) => !existsSync(path.join(ROOT, file)))).toEqual([]);
});
