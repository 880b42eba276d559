/**
 * Globs of repository names, for `allow`, `deny` and `credentials`: `myorg/**`, `myorg/secret*`.
 * `*` and `?` stay within one component, a component `**` stands for any number of them, everything else is literal.
 * Own code instead of a glob library: those make regular expressions, and a pattern with a few stars makes one that takes
 * seconds on a name that a client may choose. This takes at most (pattern × name) steps.
 */

/** As long as the longest repository name. */
const MAX_PATTERN_LENGTH = 255;

const PATTERN = /^[a-z0-9._*?-]+(?:\/[a-z0-9._*?-]+)*$/;

/** True for a text that can match a repository name: its characters, `*`, `?` and `**`, at most 255 long. */
export function isPattern(text: string): boolean {
  return text.length <= MAX_PATTERN_LENGTH && PATTERN.test(text);
}

/**
 * True when the repository name (`"library/nginx"`) fits one of the patterns. A pattern without stars means exactly
 * itself; `myorg/**` is everything below `myorg`, not `myorg` itself; `**` is everything. A text that is no pattern
 * matches nothing.
 */
export function matchesAny(patterns: readonly string[], name: string): boolean {
  const components = name.split("/");
  return patterns.some((pattern) => isPattern(pattern) && matchesComponents(pattern.split("/"), components));
}

/** Whether a registry of the map is asked for this repository: an empty `allow` allows all, `deny` wins. */
export function isServed({ allow, deny }: Policy, repository: string): boolean {
  return (allow.length === 0 || matchesAny(allow, repository)) && !matchesAny(deny, repository);
}

interface Policy {
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

function matchesComponents(pattern: readonly string[], components: readonly string[]): boolean {
  // `a/**` asks for at least one component below `a`.
  const full = pattern.length > 1 && pattern.at(-1) === "**" ? [...pattern, "*"] : pattern;
  return matchesSequence(full, components, { many: "**", fits: matchesComponent });
}

function matchesComponent(pattern: string, component: string): boolean {
  return matchesSequence([...pattern], [...component], {
    many: "*",
    fits: (one, other) => one === "?" || one === other,
  });
}

interface Wildcard {
  /** The element that stands for any number of elements. */
  readonly many: string;
  fits(pattern: string, element: string): boolean;
}

/**
 * Walks both sequences together. At a mismatch only the last wildcard takes one more element: an earlier one never needs
 * to, because whatever it could free, the last one can skip as well.
 */
function matchesSequence(pattern: readonly string[], elements: readonly string[], wildcard: Wildcard): boolean {
  let at = 0;
  let retryPattern = -1;
  let retryElement = 0;
  let index = 0;
  while (index < elements.length) {
    const part = pattern[at];
    const element = elements[index] ?? "";
    if (part === wildcard.many) {
      at += 1;
      retryPattern = at;
      retryElement = index;
    } else if (part !== undefined && wildcard.fits(part, element)) {
      at += 1;
      index += 1;
    } else if (retryPattern !== -1) {
      at = retryPattern;
      retryElement += 1;
      index = retryElement;
    } else return false;
  }
  return pattern.slice(at).every((part) => part === wildcard.many);
}
