/**
 * Token scopes: `repository:library/nginx:pull,push` (protocol R100, distribution "Token Scope Documentation").
 *
 *     scope         := resourcescope [ ' ' resourcescope ]*
 *     resourcescope := type ":" name ":" action [ ',' action ]*
 *
 * Which repository a name means is `registry/route`'s to say.
 */

export interface ResourceScope {
  /** `"repository"`, `"registry"`, or with a class: `"repository(plugin)"`. */
  readonly type: string;
  /** `"library/nginx"`, `"localhost:5000/a/b"`, `"catalog"`. */
  readonly name: string;
  /** At least one: `"pull"`, `"push"`, `"delete"`, `"*"`. */
  readonly actions: readonly string[];
}

/** Clients ask for a handful; a cross-repository push asks for two. */
const MAX_SCOPES = 100;

const TYPE = /^[a-z0-9]+(?:\([a-z0-9]+\))?$/;
const NAME = /^[a-zA-Z0-9[\]._:/-]{1,511}$/;
const ACTION = /^(?:[a-z]{1,32}|\*)$/;

/**
 * Reads the scopes of one `scope` value. Malformed ones are dropped, since a token may always grant less than was asked
 * (protocol R101); what comes after the hundredth is not read.
 */
export function parseScopes(text: string): ResourceScope[] {
  return text
    .split(" ", MAX_SCOPES)
    .map(parseScope)
    .filter((scope) => scope !== undefined);
}

/** The scope as it is written in a challenge or a token request. */
export function formatScope(scope: ResourceScope): string {
  return `${scope.type}:${scope.name}:${scope.actions.join(",")}`;
}

/** The name may hold a colon of its own, for a port: the type ends at the first colon, the actions begin at the last. */
function parseScope(text: string): ResourceScope | undefined {
  const first = text.indexOf(":");
  const last = text.lastIndexOf(":");
  const type = text.slice(0, first);
  const name = text.slice(first + 1, last);
  const actions = text.slice(last + 1).split(",");
  const isWellFormed =
    first < last && TYPE.test(type) && NAME.test(name) && actions.every((action) => ACTION.test(action));
  return isWellFormed ? { type, name, actions } : undefined;
}
