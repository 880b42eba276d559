/**
 * The shape of one entry of registrymap.json, checked by zod; each finding becomes a Problem with its path. What entries
 * mean to each other is `registrymap`'s to judge.
 */
import { z } from "zod";
import { compileTagPattern } from "../cache/tag-rules.ts";
import { parseHost } from "../registry/host.ts";
import { parseProxyUrl } from "./kinds.ts";
import { CREDENTIAL } from "./map-credential.ts";
import { FILE, PATTERNS, STAND_IN, UPSTREAM, textBy } from "./map-fields.ts";
import { suggestion, type Problem } from "./problem.ts";
import { parseCidr, parseTime, quoted } from "./units.ts";

/** More upstreams than this could not all be asked within the budget of one request. */
const MAX_UPSTREAMS = 16;

/** They are asked one after the other in what is left of one request's budget. */
const MAX_STAND_INS = 4;

const HOST = textBy(parseHostName);
const TAG_RULE = z.strictObject({ match: textBy(parseTagPattern), ttl: textBy(parseTime) });
const TLS = z
  .strictObject({
    caFile: FILE.optional(),
    certFile: FILE.optional(),
    keyFile: FILE.optional(),
    insecureSkipVerify: z.boolean().default(false),
  })
  .refine(({ certFile, keyFile }) => (certFile === undefined) === (keyFile === undefined), {
    error: "expected certFile and keyFile together",
  });
const ENTRY = z.strictObject({
  upstreams: z.array(UPSTREAM).min(1).max(MAX_UPSTREAMS),
  hosts: z.array(HOST).optional(),
  login: z.enum(["relay", "proxy"]).optional(),
  credentials: z.array(CREDENTIAL).default([]),
  tags: z.array(TAG_RULE).default([]),
  alsoAt: z.array(STAND_IN).max(MAX_STAND_INS).default([]),
  allow: PATTERNS,
  deny: PATTERNS,
  push: z.boolean().optional(),
  proxy: z.union([z.literal(false), textBy(parseProxyUrl)], { error: "expected a proxy's URL or false" }).optional(),
  trustedRealms: z.array(HOST).default([]),
  tls: TLS.optional(),
  allowAddresses: z.array(textBy(parseCidr)).default([]),
});

/** One entry, checked; files are not read yet. */
export type MapEntry = z.output<typeof ENTRY>;

const FIELDS_BY_PARENT: Readonly<Record<string, readonly string[]>> = {
  credentials: Object.keys(CREDENTIAL.shape),
  tags: Object.keys(TAG_RULE.shape),
  alsoAt: ["at", "repositories"],
  tls: Object.keys(TLS.shape),
};
/** What a map from a URL may hold (product section 3): whoever serves it must not choose files, secrets or policies. */
export const FIELDS_FROM_URL = ["upstreams", "hosts", "tags", "allow", "deny"];

export interface EntryReading {
  readonly source: "file" | "url" | "built in";
  /** `"registrymap.json: ghcr"`. */
  readonly from: string;
}

/** Checks one entry; a text is the short form, its only upstream. Undefined when something is wrong, told in `problems`. */
export function readEntry(value: unknown, { source, from }: EntryReading, problems: Problem[]): MapEntry | undefined {
  const long = typeof value === "string" ? { upstreams: [value] } : value;
  const refused =
    source === "url" && isObject(long) ? Object.keys(long).filter((field) => !mayStandInUrlMap(field)) : [];
  for (const field of refused) {
    const what = `not allowed in a map from a URL, which may hold only ${FIELDS_FROM_URL.join(", ")}`;
    problems.push({ from: `${from}.${field}`, what });
  }
  const result = ENTRY.safeParse(long);
  if (!result.success) {
    const place = { from, isShort: typeof value === "string" };
    problems.push(...result.error.issues.flatMap((issue) => problemsOf(issue, place)));
  }
  return refused.length === 0 ? result.data : undefined;
}

function mayStandInUrlMap(field: string): boolean {
  return FIELDS_FROM_URL.includes(field) || !Object.hasOwn(ENTRY.shape, field);
}

interface Place {
  readonly from: string;
  /** The entry is one text: its path means nothing to its writer. */
  readonly isShort: boolean;
}

function problemsOf(issue: z.core.$ZodIssue, { from, isShort }: Place): Problem[] {
  const path = isShort
    ? ""
    : issue.path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`)).join("");
  if (issue.code !== "unrecognized_keys") {
    return [{ from: `${from}${path}`, what: issue.message.replace(/^Invalid (input|option): /, "") }];
  }
  const parent = issue.path.findLast((part) => typeof part === "string");
  const known = FIELDS_BY_PARENT[String(parent ?? "")] ?? Object.keys(ENTRY.shape);
  return issue.keys.map((key) => ({ from: `${from}${path}.${key}`, what: `unknown key${suggestion(key, known)}` }));
}

/** Lower case, and without the port of https, which clients leave out. */
function parseHostName(text: string): string {
  const host = parseHost(text);
  if (host === undefined) throw new Error(`expected a host such as ghcr.io or reg.example:5000, got ${quoted(text)}`);
  return host.port === 443 ? host.name : host.text;
}

function parseTagPattern(text: string): string {
  if (compileTagPattern(text) !== undefined) return text;
  throw new Error(
    `expected a regular expression of at most 200 characters, without look-around and back-references, got ${quoted(text)}`,
  );
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
