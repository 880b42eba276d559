/**
 * How long a tag is served without asking upstream, by its name: the `tags` of registrymap.json and the three tiers of
 * older settings (compat, DRP). Pure. Patterns come from the operator, or from whoever serves a map by URL, and tags from
 * clients: an engine that backtracks is kept busy for seconds by `(a+)+b`, so one is used that cannot be (ADR 9).
 */
import { RE2JS } from "re2js";
import type { TagRule } from "../registry/registry.ts";

/** Longer than any tag, so a longer pattern is no pattern of one. */
const MAX_PATTERN_LENGTH = 200;
/** Patterns over tags need some dozens of steps; counted repetitions could make ten thousands out of few characters. */
const MAX_PROGRAM = 2000;

/** A compiled pattern. */
export interface TagPattern {
  /** In time proportional to the tag's length, whatever the pattern. */
  test(tag: string): boolean;
}

/**
 * Makes the function that gives the first rule that matches a tag; one with an empty `match` is switched off.
 * @throws Error when a pattern is not one that `compileTagPattern` takes
 */
export function createTagRules(rules: readonly TagRule[]): (tag: string) => TagRule | undefined {
  const compiled = rules.filter(({ match }) => !isOff(match)).map(compileRule);
  return (tag) => compiled.find(({ pattern }) => pattern.test(tag))?.rule;
}

/**
 * A regular expression over a tag: case matters, it must fit from the tag's first character on, the end is open, as in
 * `location ~ ^/v2/…/manifests/<pattern>`: `(stable|nightly)` also matches `stable-alpine`, not `unstable`.
 * @returns undefined for no regular expression, for one with look-around or back-references, which need backtracking, and
 *   for one of more than 200 characters or of too many repetitions
 */
export function compileTagPattern(text: string): TagPattern | undefined {
  if (text.length > MAX_PATTERN_LENGTH) return undefined;
  try {
    // Compiled alone first: `a)|(b` is none, but would become one between our parentheses.
    if (RE2JS.compile(text).programSize() > MAX_PROGRAM) return undefined;
    const pattern = RE2JS.compile(`^(?:${text})`);
    return { test: (tag) => pattern.test(tag) };
  } catch {
    // It throws for syntax only; the caller knows where the pattern stands and says so.
    return undefined;
  }
}

/** Empty, also as a regular expression's own text has it. */
function isOff(match: string): boolean {
  return match === "" || match === "(?:)";
}

function compileRule(rule: TagRule): { pattern: TagPattern; rule: TagRule } {
  const { match } = rule;
  const pattern = compileTagPattern(match);
  if (pattern === undefined) throw new Error(`expected a regular expression for tags, got ${JSON.stringify(match)}`);
  return { pattern, rule };
}
