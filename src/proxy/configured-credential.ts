/** Which of a registry's configured credentials are for a repository. */
import { matchesAny } from "../registry/pattern.ts";
import type { ConfiguredCredential, Registry } from "../registry/registry.ts";

/** The configured credential for a repository: the longest pattern that matches; one without patterns is for all. */
export function configuredCredential(registry: Registry, repository: string): ConfiguredCredential | undefined {
  return configuredCredentials(registry, repository)[0];
}

/** Every configured credential for a repository, that with the longest pattern first; equals as the map has them. */
export function configuredCredentials({ credentials }: Registry, repository: string): readonly ConfiguredCredential[] {
  return credentials
    .flatMap((configured) => {
      const { repositories } = configured;
      const length = repositories.length === 0 ? 0 : longestMatch(repositories, repository);
      return length === undefined ? [] : [{ configured, length }];
    })
    .toSorted((a, b) => b.length - a.length)
    .map(({ configured }) => configured);
}

function longestMatch(patterns: readonly string[], repository: string): number | undefined {
  const lengths = patterns.filter((pattern) => matchesAny([pattern], repository)).map((pattern) => pattern.length);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}
