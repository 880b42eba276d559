/**
 * Which host names lead to which registry of the map. What an entry says and where its first upstream stands are claims
 * that must not collide; names known by an older tool's key, and hosts of further upstreams, count where nobody claims them.
 */
import type { KeyGroup, Reading } from "./map-entries.ts";
import { hostOf, isBare } from "./upstream-url.ts";
import { aliasesOfHost, hostsOfKey } from "./well-known.ts";

/** The hosts of every group; a host that two groups claim is a problem. */
export function assignHosts(
  groups: readonly KeyGroup[],
  { name, problems }: Reading,
): ReadonlyMap<KeyGroup, readonly string[]> {
  const owners = new Map<string, KeyGroup>();
  for (const group of groups) {
    for (const host of new Set(claimsOf(group))) {
      const owner = owners.get(host);
      if (owner === undefined) owners.set(host, group);
      else
        problems.push({ from: `${name}: ${group.keys[0]}`, what: `host ${host} belongs to ${owner.keys[0]} already` });
    }
  }
  for (const group of groups) {
    for (const host of wishesOf(group)) if (!owners.has(host)) owners.set(host, group);
  }
  return new Map(
    groups.map((group) => [group, [...owners].filter(([, owner]) => owner === group).map(([host]) => host)]),
  );
}

function claimsOf({ entry }: KeyGroup): string[] {
  const [first] = entry.upstreams;
  const own = first !== undefined && isBare(first) ? namesOf(hostOf(first)) : [];
  return [...(entry.hosts ?? []), ...own];
}

function wishesOf({ keys, entry }: KeyGroup): string[] {
  const further = entry.upstreams
    .slice(1)
    .filter(isBare)
    .flatMap((upstream) => namesOf(hostOf(upstream)));
  // Who names hosts has said what the key means.
  return entry.hosts === undefined ? [...further, ...keys.flatMap(hostsOfKey)] : further;
}

/** A registry's own host and what clients call it besides: `docker.io` for `registry-1.docker.io`. */
function namesOf(host: string): string[] {
  return [host, ...aliasesOfHost(host)];
}
