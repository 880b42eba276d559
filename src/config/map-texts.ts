/**
 * What each field of registrymap.json means, for docs/configuration.md. The compiler compares it with the schema: a field without a
 * text, or a text without a field, does not compile.
 */
import type { MapEntry } from "./map-schema.ts";

export interface FieldText {
  /** What may stand there. */
  readonly value: string;
  /** What it does; with its default, unless that is "none". */
  readonly help: string;
}

type Texts<T> = Readonly<Record<keyof T, FieldText>>;

const PATTERNS = "patterns of repositories";
const PATH = "path";

export const ENTRY_TEXTS = {
  upstreams: {
    value: "1 to 16 URLs",
    help: "where the registry is, asked in this order; with a base path where it has one",
  },
  hosts: {
    value: "hosts",
    help: "names by which clients know it: `ghcr.io`, `reg.example:5000`; default: those that are well known, and its upstreams'",
  },
  login: {
    value: "`relay`, `proxy`",
    help: "`relay`: clients log in with accounts of their own at the registry; `proxy`: Layover's credentials are used; default `proxy` where there are `credentials`, else `relay`",
  },
  credentials: {
    value: "list of objects",
    help: "what Layover shows the registry in its own name; not in a map from a URL",
  },
  tags: {
    value: "list of objects",
    help: "how long tags are served without asking; the first pattern that fits counts",
  },
  alsoAt: {
    value: "up to 4 keys or objects",
    help: "other registries of this map that may give content by digest while this one fails",
  },
  allow: { value: PATTERNS, help: "only these repositories are served; default: all" },
  deny: { value: PATTERNS, help: "these are not, whatever `allow` says" },
  push: { value: "`true`, `false`", help: "`true`: writes pass through, also without `--allow-push`; default `false`" },
  proxy: {
    value: "URL or `false`",
    help: "the outgoing proxy of this registry, or none; default: `--upstream-proxy`, then the environment",
  },
  trustedRealms: {
    value: "hosts",
    help: "token servers outside the registry's own domain that may see logins",
  },
  tls: { value: "object", help: "certificates towards the registry" },
  allowAddresses: {
    value: "CIDRs",
    help: "private addresses to which redirects and token servers of this registry may lead",
  },
} satisfies Texts<MapEntry>;

const CREDENTIAL_TEXTS = {
  repositories: { value: PATTERNS, help: "for which repositories; the longest pattern counts; default: all others" },
  upstream: { value: "URL", help: "to which upstream it is shown, and to no other; default: the first" },
  username: { value: "text", help: "beside a password, or a program that prints only that" },
  password: { value: "text", help: "the password itself" },
  passwordFile: { value: PATH, help: "a file that holds it" },
  passwordEnv: { value: "name", help: "a variable that holds it" },
  identityTokenFile: { value: PATH, help: "a file with an identity (refresh) token" },
  dockerConfig: { value: PATH, help: "docker's `config.json`: its account for this host, or the helper it names" },
  exec: { value: "list of texts", help: "a program and its arguments that print the credential" },
  timeout: { value: "time", help: "how long a program may take, at most `20s`; default `10s`" },
  env: { value: "names", help: "variables that the program sees besides `PATH` and `HOME`" },
} satisfies Texts<MapEntry["credentials"][number]>;

const TAG_TEXTS = {
  match: {
    value: "regular expression",
    help: "which tags: it must fit from the first character on, its end is open; without look-around and back-references",
  },
  ttl: { value: "time", help: "how long they are served without asking; `0s`: always asked" },
} satisfies Texts<MapEntry["tags"][number]>;

const STAND_IN_TEXTS = {
  at: {
    value: "key, or key/path",
    help: "the other registry, and what stands before the names there; alone it may be written as a text",
  },
  repositories: { value: PATTERNS, help: "which repositories of this registry; default: all" },
} satisfies Texts<MapEntry["alsoAt"][number]>;

const TLS_TEXTS = {
  caFile: { value: PATH, help: "authorities that are trusted besides the usual ones" },
  certFile: { value: PATH, help: "a client certificate, with `keyFile`" },
  keyFile: { value: PATH, help: "its key" },
  insecureSkipVerify: {
    value: "`true`, `false`",
    help: "certificates are not verified: whoever stands between can read passwords",
  },
} satisfies Texts<NonNullable<MapEntry["tls"]>>;

/** Of the fields that hold objects. */
export const PART_TEXTS: Readonly<Record<string, Readonly<Record<string, FieldText>>>> = {
  credentials: CREDENTIAL_TEXTS,
  tags: TAG_TEXTS,
  alsoAt: STAND_IN_TEXTS,
  tls: TLS_TEXTS,
};
