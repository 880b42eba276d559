/**
 * What is wrong with a configuration, said all at once: each problem names what was expected and what came, where the
 * value came from, and the nearest valid name where a name was not known. No value of a secret is ever part of one.
 */
import { distance } from "fastest-levenshtein";

export interface Problem {
  /** Where the value came from: `"flag --listen"`, `"environment variable LAYOVER_LISTEN"`, `"/etc/layover.yaml: listen"`. */
  readonly from: string;
  /** What was expected and what came. */
  readonly what: string;
}

/** All problems of one configuration. The program ends with exit code 2. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(problemLine).join("\n"));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

export function problemLine(problem: Problem): string {
  return `${problem.from}: ${problem.what}`;
}

/**
 * The candidate most like `name`, or undefined when none is near enough to be a slip: more than half of the letters
 * would have to change.
 */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let smallest = Infinity;
  for (const candidate of candidates) {
    const changes = distance(name.toLowerCase(), candidate.toLowerCase());
    if (changes < smallest) [nearest, smallest] = [candidate, changes];
  }
  return nearest !== undefined && smallest <= Math.max(1, Math.floor(name.length / 2)) ? nearest : undefined;
}

/** `"; did you mean --listen?"`, or nothing. */
export function suggestion(name: string, candidates: Iterable<string>): string {
  const nearest = nearestName(name, candidates);
  return nearest === undefined ? "" : `; did you mean ${nearest}?`;
}
