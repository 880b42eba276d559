/**
 * The file of access rules: who may pull, push and delete where. Checked by zod; each finding becomes a Problem with its
 * path. Which registries there are is the map's to say, which may change without this file: names that are in neither the
 * map nor the list of users are warnings.
 */
import { z } from "zod";
import { parseHost } from "../registry/host.ts";
import { registryNamed } from "../registry/lookup.ts";
import { isPattern } from "../registry/pattern.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { type AccessRule, ANONYMOUS_NAME, ANY_USER, type RepositoryPattern } from "../proxy/users.ts";
import { readRoot } from "./file.ts";
import { suggestion, type Problem } from "./problem.ts";
import { quoted } from "./units.ts";

/** Each request looks at all of them: more than a person writes, and few enough to look at. */
const MAX_RULES = 1_000;
const MAX_ENTRIES = 1_000;
const RIGHTS = ["pull", "push", "delete"] as const;

const USER = z.string().min(1, { error: "expected the name of a user, * or anonymous" }).max(256);
const RIGHT = z.string().transform((text, context) => {
  const right = RIGHTS.find((one) => one === text);
  if (right !== undefined) return right;
  const message = `expected pull, push or delete, got ${quoted(text)}${suggestion(text, RIGHTS)}`;
  context.issues.push({ code: "custom", input: text, message });
  return z.NEVER;
});
const REPOSITORIES = z.string().transform((text, context): RepositoryPattern => {
  const pattern = parseRepositories(text);
  if (pattern !== undefined) return pattern;
  const message = `expected <registry>/<repository> such as docker.io/library/**, or ** for all, got ${quoted(text)}`;
  context.issues.push({ code: "custom", input: text, message });
  return z.NEVER;
});
const RULE = z.strictObject({
  users: z.array(USER).min(1).max(MAX_ENTRIES),
  repositories: z.array(REPOSITORIES).min(1).max(MAX_ENTRIES),
  rights: z.array(RIGHT).min(1).max(MAX_ENTRIES),
});
const FILE = z.strictObject({ $schema: z.string().optional(), rules: z.array(RULE).max(MAX_RULES) });

/** Reads the file's text; what is wrong is added to `problems`. `path` decides the language and names the place. */
export function parseAccessRules(path: string, text: string, problems: Problem[]): readonly AccessRule[] {
  const root = readRoot(path, text);
  if (root.error !== undefined) {
    problems.push({ from: path, what: root.error });
    return [];
  }
  const result = FILE.safeParse(root.fields);
  if (!result.success) problems.push(...result.error.issues.flatMap((issue) => problemsOf(path, issue)));
  return result.data?.rules ?? [];
}

export interface KnownNames {
  readonly map: RegistryMap;
  /** Undefined where a certificate may hold any name. */
  readonly users: Iterable<string> | undefined;
}

/** Names that mean nobody and nothing now: one line each. */
export function unknownNames(rules: readonly AccessRule[], { map, users }: KnownNames): string[] {
  const patterns = rules.flatMap(({ repositories }) => repositories);
  const registries = new Set(patterns.flatMap((pattern) => (pattern.kind === "registry" ? [pattern.registry] : [])));
  const known = [...map.byKey.keys(), ...map.byHost.keys()];
  const lines = [...registries]
    .filter((name) => registryNamed(name, map) === undefined)
    .map((name) => `${quoted(name)} is no registry of the map${suggestion(name, known)}`);
  if (users === undefined) return lines;
  const names = new Set([...users, ANY_USER, ANONYMOUS_NAME]);
  const strangers = new Set(rules.flatMap((rule) => rule.users).filter((name) => !names.has(name)));
  return [...lines, ...[...strangers].map((name) => `${quoted(name)} is no user${suggestion(name, names)}`)];
}

/** `"**"`; `"ghcr.io/myorg/**"`: the first component is a registry's key or host, the rest a glob of names there. */
function parseRepositories(text: string): RepositoryPattern | undefined {
  if (text === "**") return { kind: "all" };
  const slash = text.indexOf("/");
  const registry = text.slice(0, Math.max(0, slash));
  const pattern = text.slice(slash + 1);
  // A star in the first place would be taken for a registry's, and match nothing.
  if (registry === "" || registry.includes("*") || parseHost(registry) === undefined) return undefined;
  return isPattern(pattern) ? { kind: "registry", registry: registry.toLowerCase(), pattern } : undefined;
}

function problemsOf(path: string, issue: z.core.$ZodIssue): Problem[] {
  const place = issue.path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`)).join("");
  const from = `${path}: ${place.replace(/^\./, "")}`.replace(/: $/, "");
  if (issue.code !== "unrecognized_keys") {
    return [{ from, what: issue.message.replace(/^Invalid (input|option): /, "") }];
  }
  const known = Object.keys(issue.path.length === 0 ? FILE.shape : RULE.shape);
  return issue.keys.map((key) => ({ from, what: `unknown key ${quoted(key)}${suggestion(key, known)}` }));
}
