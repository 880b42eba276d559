/** Which of a registry's configured credentials is for a repository. */
import { matchesAny } from "../registry/pattern.ts";
import type { ConfiguredCredential, Registry } from "../registry/registry.ts";

/** The configured credential for a repository: the longest pattern that matches; one without patterns is for all. */
export function configuredCredential(registry: Registry, repository: string): ConfiguredCredential | undefined {
  let best: { configured: ConfiguredCredential; length: number } | undefined;
  for (const configured of registry.credentials) {
    const { repositories } = configured;
    const length = repositories.length === 0 ? 0 : longestMatch(repositories, repository);
    if (length === undefined || (best !== undefined && best.length >= length)) continue;
    best = { configured, length };
  }
  return best?.configured;
}

function longestMatch(patterns: readonly string[], repository: string): number | undefined {
  const lengths = patterns.filter((pattern) => matchesAny([pattern], repository)).map((pattern) => pattern.length);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}
