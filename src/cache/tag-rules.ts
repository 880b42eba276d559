/**
 * How long a tag is served without asking upstream, by its name: the `tags` of registrymap.json and the three tiers of
 * older settings (compat, DRP). Pure. Patterns come from the operator, tags from clients; tags are at most 128 characters.
 */
import type { TagRule } from "../registry/registry.ts";

/** Longer than any tag, so a longer pattern is no pattern of one. */
const MAX_PATTERN_LENGTH = 200;

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
 * @returns undefined for no regular expression, and for one of more than 200 characters
 */
export function compileTagPattern(text: string): RegExp | undefined {
  if (text.length > MAX_PATTERN_LENGTH) return undefined;
  try {
    // Compiled alone first: `a)|(b` is none, but would become one between our parentheses.
    return new RegExp(`^(?:${new RegExp(text).source})`);
  } catch {
    // The only error of this constructor is a syntax error; the caller knows where the pattern stands and says so.
    return undefined;
  }
}

/** Empty, also as a regular expression's own text has it. */
function isOff(match: string): boolean {
  return match === "" || match === "(?:)";
}

function compileRule(rule: TagRule): { pattern: RegExp; rule: TagRule } {
  const { match } = rule;
  const pattern = compileTagPattern(match);
  if (pattern === undefined) throw new Error(`expected a regular expression for tags, got ${JSON.stringify(match)}`);
  return { pattern, rule };
}
