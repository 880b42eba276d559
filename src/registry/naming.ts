/**
 * What a name means once its registry is known (protocol R127, R191; product section 1). Which registry that is,
 * `registry/route` decides.
 */
import { isHostLike, registryOfHostText } from "./lookup.ts";
import { isRepositoryName } from "./reference.ts";
import type { Registry, RegistryMap } from "./registry.ts";

/**
 * The name as the given registry knows it, when something else than the name has said which registry is meant: its own host
 * in front is stripped, its own key if enough components follow, any other word is part of the name.
 * @returns undefined when another registry's host stands in front
 */
export function nameUnder(registry: Registry, name: string, map: RegistryMap): string | undefined {
  const { first, rest, following } = splitName(name);
  if (isHostLike(first, map)) {
    const named = registryOfHostText(first, map);
    if (named !== undefined && named !== registry) return undefined;
    return named === registry && following > 0 ? rest : name;
  }
  return map.byKey.get(first) === registry && following >= componentsBehindKey(registry) ? rest : name;
}

/**
 * How many components must follow a bare key for it to be one: two, so that `docker/dockerfile` on Docker Hub stays
 * reachable, or one where names have one (`k8s/pause`).
 */
export function componentsBehindKey(registry: Registry): number {
  return registry.singleNames ? 1 : 2;
}

/** The name as the registry's API wants it, `library/` included; undefined when it is no repository name. */
export function repositoryAt(registry: Registry, name: string): string | undefined {
  if (!isRepositoryName(name)) return undefined;
  // Without it Docker Hub answers 401, as for a private repository (protocol R127).
  return registry.isDockerHub && !name.includes("/") ? `library/${name}` : name;
}

/** The first component of a name, the text behind it, and how many components that has. */
export function splitName(name: string): { first: string; rest: string; following: number } {
  const [first = "", ...rest] = name.split("/");
  return { first, rest: rest.join("/"), following: rest.length };
}
