/**
 * The keys of registrymap.json: which are valid, which lead to equal upstreams and are therefore one registry, and which
 * registry is meant when nothing names one.
 */
import { readEntry, type MapEntry } from "./map-schema.ts";
import { suggestion, type Problem } from "./problem.ts";
import { shownUrl } from "./kinds.ts";
import { formatUpstream, hostOf } from "./upstream-url.ts";
import { DOCKER_HUB_HOST, hostsOfKey } from "./well-known.ts";

/** Keys with equal upstreams: one registry to be. */
export interface KeyGroup {
  readonly keys: readonly [string, ...string[]];
  readonly entry: MapEntry;
}

/** Where problems go and what they call the map. */
export interface Reading {
  readonly source: "file" | "url" | "built in";
  /** `"/etc/layover/registrymap.json"`. */
  readonly name: string;
  readonly problems: Problem[];
}

export type MapFields = Readonly<Record<string, unknown>>;

/** A key is also a path of ours; these are taken (product sections 3 and 4). */
const RESERVED_KEYS = "v1 v2 token auth docs help metrics healthz health readyz setup api".split(" ");
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Not keys of registries. */
const OTHER_FIELDS = ["default", "$schema"];

/** Reads every entry and puts keys with equal upstreams together, in the order of their first key. */
export function readGroups(fields: MapFields, reading: Reading): KeyGroup[] {
  const groups = new Map<string, KeyGroup>();
  for (const [key, value] of Object.entries(fields)) {
    if (OTHER_FIELDS.includes(key)) continue;
    const from = `${reading.name}: ${key}`;
    checkKey(key, from, reading.problems);
    const entry = readEntry(value, { source: reading.source, from }, reading.problems);
    if (entry === undefined) continue;
    const identity = entry.upstreams.map(formatUpstream).join(" ");
    const earlier = groups.get(identity);
    groups.set(
      identity,
      earlier === undefined ? { keys: [key], entry } : joined(earlier, { key, entry, from }, reading),
    );
  }
  return [...groups.values()];
}

/**
 * The registry that is meant when nothing names one: the option, else the map's `default`, else Docker Hub, else the
 * first. A URL that no entry has becomes a registry of its own, which is not among `groups`.
 */
export function chooseDefault(
  fields: MapFields,
  groups: readonly KeyGroup[],
  reading: DefaultReading,
): KeyGroup | undefined {
  const { option, name, problems } = reading;
  const from = option === undefined ? `${name}: default` : "--default-registry";
  const wanted = option ?? fields["default"];
  if (wanted === undefined) {
    if (groups.length === 0 && problems.length === 0)
      problems.push({ from: name, what: "expected at least one registry" });
    return groups.find(isDockerHub) ?? groups[0];
  }
  if (typeof wanted !== "string") {
    problems.push({ from, what: "expected a key or a URL" });
    return undefined;
  }
  const byKey = groups.find(({ keys }) => keys.includes(wanted.toLowerCase()));
  // An entry that was refused has been told already.
  if (byKey !== undefined || Object.hasOwn(fields, wanted)) return byKey;
  if (wanted.includes("://")) return groupOfUrl(wanted, groups, { ...reading, from });
  const keys = groups.flatMap((group) => group.keys);
  problems.push({
    from,
    what: `expected a key of the map or a URL, got ${shownUrl(wanted)}${suggestion(wanted, keys)}`,
  });
  return undefined;
}

export interface DefaultReading extends Reading {
  /** Text of --default-registry. */
  readonly option: string | undefined;
}

function checkKey(key: string, from: string, problems: Problem[]): void {
  if (!LABEL.test(key)) problems.push({ from, what: "expected a DNS label in lower case as key" });
  if (RESERVED_KEYS.includes(key)) problems.push({ from, what: "expected another key: this one is a path of our own" });
}

interface Addition {
  readonly key: string;
  readonly entry: MapEntry;
  readonly from: string;
}

/** Of keys with equal upstreams only one may say more than its URLs, or all must say the same. */
function joined(earlier: KeyGroup, { key, entry, from }: Addition, { problems }: Reading): KeyGroup {
  const isContrary = !isPlain(earlier.entry) && !isPlain(entry) && !Bun.deepEquals(earlier.entry, entry);
  if (isContrary) {
    problems.push({
      from,
      what: `expected the settings of ${earlier.keys[0]}: keys with equal upstreams are one registry`,
    });
  }
  return { keys: [...earlier.keys, key], entry: isPlain(earlier.entry) ? entry : earlier.entry };
}

/** Whether an entry says no more than the short form does. */
function isPlain({ upstreams: _upstreams, ...settings }: MapEntry): boolean {
  return Object.values(settings).every((value) => value === undefined || (Array.isArray(value) && value.length === 0));
}

function isDockerHub({ keys, entry }: KeyGroup): boolean {
  const isNamed = entry.hosts?.includes(DOCKER_HUB_HOST) === true || keys.includes("docker");
  return isNamed || entry.upstreams.some((upstream) => hostsOfKey("docker").includes(hostOf(upstream)));
}

/** The registry whose first upstream this is, or one of its own. */
function groupOfUrl(
  url: string,
  groups: readonly KeyGroup[],
  { source, problems, from }: UrlReading,
): KeyGroup | undefined {
  const entry = readEntry(url, { source, from }, problems);
  const wanted = entry?.upstreams.map(formatUpstream)[0];
  if (entry === undefined || wanted === undefined) return undefined;
  const known = groups.find((group) => group.entry.upstreams.map(formatUpstream)[0] === wanted);
  return known ?? { keys: ["default"], entry };
}

interface UrlReading extends Reading {
  /** Where the URL came from. */
  readonly from: string;
}
