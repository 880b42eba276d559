/**
 * docs/protocol.md: each rule beside the tests that show it. A test names its rules at the front of its title, or of the row
 * that becomes its title: `[R12, T29] …`. The wording of the rules is in docs/rules; which test shows what is read from test/.
 */
import { join } from "node:path";
import { CLIENTS } from "./rules/clients.ts";
import { COMPAT } from "./rules/compat.ts";
import { LESSONS } from "./rules/lessons.ts";
import { CACHE } from "./rules/cache.ts";
import { PROXY } from "./rules/proxy.ts";
import { REGISTRIES } from "./rules/registries.ts";
import type { Rule, Rules } from "./rules/rules.ts";
import { SPECIFICATION } from "./rules/specification.ts";
import { TOKENS } from "./rules/tokens.ts";

/** A test's word that it shows a rule. */
export interface Claim {
  /** `"R12"` */
  readonly rule: string;
  /** `"e2e/blobs.test.ts"`, below test/. */
  readonly file: string;
  /** As written, without the rules in front. */
  readonly title: string;
}

export const SECTIONS: readonly { readonly title: string; readonly rules: Rules }[] = [
  { title: "The distribution specification", rules: SPECIFICATION },
  { title: "Tokens", rules: TOKENS },
  { title: "Registries", rules: REGISTRIES },
  { title: "Clients", rules: CLIENTS },
  { title: "Proxies, ranges, the runtime", rules: PROXY },
  { title: "The cache", rules: CACHE },
  { title: "Lessons of other tools", rules: LESSONS },
  { title: "What users of older tools find again", rules: COMPAT },
];

/** What must hold before there is a cache: first and last of each run. */
const REQUIRED_RUNS: readonly [letter: string, first: number, last: number][] = [
  ["R", 1, 64],
  ["R", 92, 205],
  ["R", 217, 231],
  ["R", 248, 264],
  ["R", 276, 281],
  ["C", 1, 8],
  ["C", 12, 12],
  ["C", 25, 29],
  ["C", 31, 34],
  ["C", 36, 36],
  ["C", 38, 39],
  ["T", 1, 30],
];

export const REQUIRED: readonly string[] = REQUIRED_RUNS.flatMap(([letter, first, last]) =>
  Array.from({ length: last - first + 1 }, (_, index) => `${letter}${first + index}`),
);

/** Every rule that has a wording. */
export const RULES: ReadonlyMap<string, Rule> = new Map(SECTIONS.flatMap(({ rules }) => Object.entries(rules)));

/** More tests than these of one rule are counted, not named. */
const MAX_NAMED = 5;
const TEST = join(import.meta.dir, "../test");

/** All claims of the tests; end-to-end tests first, as they show most. */
export async function readClaims(): Promise<Claim[]> {
  const files = [...new Bun.Glob("**/*.ts").scanSync(TEST)].toSorted();
  const texts = await Promise.all(files.map((file) => Bun.file(join(TEST, file)).text()));
  const rank = (file: string) => ["e2e/", "unit/", ""].findIndex((folder) => file.startsWith(folder));
  return files
    .flatMap((file, index) => claimsIn(texts[index] ?? "", file))
    .toSorted((a, b) => rank(a.file) - rank(b.file));
}

/** Claims of one file: its string literals that begin with rules in brackets. */
export function claimsIn(text: string, file: string): Claim[] {
  const literals = text.matchAll(/(["'`])\[([RTC]\d+(?:, ?[RTC]\d+)*)\] ?((?:\\.|(?!\1)[^\\\n])*)\1/g);
  return [...literals].flatMap(([, , rules = "", title = ""]) =>
    rules.split(/, ?/).map((rule) => ({ rule, file, title: title.replaceAll(/\\(.)/g, "$1") })),
  );
}

export function protocolPage(claims: readonly Claim[]): string {
  const byRule = Map.groupBy(claims, ({ rule }) => rule);
  return [
    "# Protocol",
    "",
    "<!-- Made by docs/generate.ts from docs/rules and the titles of the tests: change those, then run `npm run docs`. -->",
    "",
    "The rules that a registry proxy lives by, and the test that fails when one is broken. R: the wire; T: lessons of other",
    "tools; C: what users of older tools find again. Code and tests cite them by number. Not tested here is what happens",
    "inside a client: only what it sends, and what it needs of an answer.",
    ...SECTIONS.flatMap(({ title, rules }) => [
      "",
      `## ${title}`,
      "",
      "<!-- prettier-ignore-start -->",
      "| rule | what holds | shown by |",
      "|---|---|---|",
      ...Object.entries(rules).map(
        ([name, rule]) => `| ${name} | ${wordingOf(rule)} | ${shownBy(rule, byRule.get(name))} |`,
      ),
      "<!-- prettier-ignore-end -->",
    ]),
    "",
  ].join("\n");
}

function wordingOf(rule: Rule): string {
  return cell(typeof rule === "string" ? rule : rule.rule);
}

function shownBy(rule: Rule, claims: readonly Claim[] = []): string {
  if (typeof rule !== "string") return `none: ${cell(rule.because)}`;
  const named = claims.slice(0, MAX_NAMED);
  const files = [...Map.groupBy(named, ({ file }) => file)].map(
    ([file, of]) =>
      `[${file.replace(/\.test\.ts$/, "")}](../test/${file}) › ${of.map(({ title }) => titleCell(title)).join("; ")}`,
  );
  const more = claims.length - named.length;
  return [...files, ...(more > 0 ? [`and ${more} more`] : [])].join("<br>");
}

/** What a row fills in stays open. */
function titleCell(title: string): string {
  return cell(title.replaceAll(/%[sjpid#]|\$\{[^}]*\}/g, "…"));
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replaceAll("*", "\\*");
}
