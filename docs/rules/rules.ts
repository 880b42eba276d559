/**
 * The rules that the code and its tests cite, each in a few words of our own. `docs/generate.ts` sets the tests beside them.
 * A rule without a test says why: `because`. Both at once, or neither, is a failing test (test/unit/docs.test.ts).
 */

export type Rule = string | { readonly rule: string; readonly because: string };
export type Rules = Readonly<Record<string, Rule>>;

export const BECAUSE = {
  cache: "belongs to the cache",
} as const;
