/**
 * The table of the leak matrix: who asks, for what, in which mode, while the upstream is up or down, and what the answer is.
 * Private content holds MARKER in every part, so that one look over all that was received tells whether some of it got out.
 */
import { type Image, type StoredManifest, MEDIA_TYPES, describe, digestOf, encode, makeArtifact } from "./images.ts";

/** In each layer, config, manifest, referrer and list of tags of what is private. */
export const MARKER = "TOP-SECRET";

/**
 * - `relay`: clients log in at the registry; `configured`: so they do, and Layover has a credential that reads everything
 * - `shared`: `--share-private`: what that credential reads is for everybody
 * - `access`: Layover has users of its own, who may use that credential where its rules let them
 */
export type Mode = "relay" | "configured" | "shared" | "access";
export const MODES: readonly Mode[] = ["relay", "configured", "shared", "access"];

/**
 * - `nobody` sends no Authorization, `anonymous` a token of ours for nobody, `wrong` by Basic a name and password that nobody has
 * - `forged` a token that we did not seal, `expired` one that was the right client's an hour ago
 * - `foreign` a login of another registry, from before there were users in mode `access`; `other` an account without the right
 * - `former` had the right and a grant, both of which ended; `right` has them
 */
export const CLIENTS = [
  "nobody",
  "anonymous",
  "wrong",
  "forged",
  "expired",
  "foreign",
  "other",
  "former",
  "right",
] as const;
export type Who = (typeof CLIENTS)[number];

export type Upstream = "up" | "down";

/** One repository's content, all of it private. */
export interface Secret {
  readonly repository: string;
  readonly image: Image;
  readonly layer: string;
  /** Being downloaded while clients ask. */
  readonly running: Record<Upstream, string>;
}

export interface What {
  readonly name: string;
  readonly method: "GET" | "HEAD";
  readonly path: (secret: Secret, upstream: Upstream) => string;
  readonly lines?: (secret: Secret) => string[];
  /** Asked of a repository that everybody may read and that does not have it; another registry stays up. */
  readonly elsewhere?: "repository" | "registry";
  /** Layover keeps none of it: without the registry there is no answer. */
  readonly isNeverKept?: true;
  readonly isRunning?: true;
  /** The right client's status. */
  readonly status: number;
}

const at = (path: (secret: Secret) => string) => (secret: Secret) => `/v2/closed/${secret.repository}/${path(secret)}`;
const blob = at(({ layer }) => `blobs/${layer}`);
const byDigest = at(({ image }) => `manifests/${image.digest}`);
const byTag = at(() => "manifests/v1");
const running = ({ repository, running: digests }: Secret, upstream: Upstream) =>
  `/v2/closed/${repository}/blobs/${digests[upstream]}`;
const knowsManifest = ({ image }: Secret) => [`If-None-Match: "${image.digest}"`];
const knowsBlob = ({ layer }: Secret) => [`If-None-Match: "${layer}"`];

export const WHATS: readonly What[] = [
  { name: "tag", method: "GET", path: byTag, status: 200 },
  { name: "tag, HEAD", method: "HEAD", path: byTag, status: 200 },
  { name: "tag, its ETag known", method: "GET", path: byTag, lines: knowsManifest, status: 304 },
  { name: "digest", method: "GET", path: byDigest, status: 200 },
  { name: "digest, HEAD", method: "HEAD", path: byDigest, status: 200 },
  { name: "digest, its ETag known", method: "GET", path: byDigest, lines: knowsManifest, status: 304 },
  { name: "blob", method: "GET", path: blob, status: 200 },
  { name: "blob, HEAD", method: "HEAD", path: blob, status: 200 },
  { name: "blob, its ETag known", method: "GET", path: blob, lines: knowsBlob, status: 304 },
  { name: "blob, HEAD, its ETag known", method: "HEAD", path: blob, lines: knowsBlob, status: 304 },
  { name: "Range", method: "GET", path: blob, lines: () => ["Range: bytes=0-99"], status: 206 },
  { name: "Range of several parts", method: "GET", path: blob, lines: () => ["Range: bytes=0-9,40-99"], status: 206 },
  { name: "Range outside", method: "GET", path: blob, lines: () => ["Range: bytes=99999999-"], status: 416 },
  {
    name: "If-Range",
    method: "GET",
    path: blob,
    lines: ({ layer }) => ["Range: bytes=0-99", `If-Range: "${layer}"`],
    status: 206,
  },
  elsewhere("repository", "blob", ({ layer }) => `closed/org/public/blobs/${layer}`),
  { ...elsewhere("repository", "blob, HEAD", ({ layer }) => `closed/org/public/blobs/${layer}`), method: "HEAD" },
  elsewhere("repository", "manifest", ({ image }) => `closed/org/public/manifests/${image.digest}`),
  elsewhere("registry", "blob", ({ layer }) => `open/org/app/blobs/${layer}`),
  elsewhere("registry", "manifest", ({ image }) => `open/org/app/manifests/${image.digest}`),
  {
    name: "referrers",
    method: "GET",
    path: at(({ image }) => `referrers/${image.digest}`),
    isNeverKept: true,
    status: 200,
  },
  { name: "tags", method: "GET", path: at(() => "tags/list"), isNeverKept: true, status: 200 },
  { name: "running fill", method: "GET", path: running, isRunning: true, status: 200 },
  {
    name: "running fill, Range",
    method: "GET",
    path: running,
    lines: () => ["Range: bytes=0-99"],
    isRunning: true,
    status: 206,
  },
];

function elsewhere(where: "repository" | "registry", name: string, path: (secret: Secret) => string): What {
  const target = (secret: Secret) => `/v2/${path(secret)}`;
  return { name: `${name} through another ${where}`, method: "GET", path: target, elsewhere: where, status: 404 };
}

/** The answer that product section 5 promises. */
export function expected(mode: Mode, who: Who, what: What, upstream: Upstream): { status: number; isYes: boolean } {
  const no = (status: number) => ({ status, isYes: false });
  if (who === "forged" || who === "expired") return no(401);
  const mayRead = who === "right" || mode === "shared";
  if (mode === "access" && !USERS.has(who)) return no(401);
  if (what.elsewhere !== undefined) return no(what.elsewhere === "repository" && upstream === "down" ? 503 : 404);
  // Rules are asked before anything else; elsewhere the registry is who knows.
  const isDecidedHere = mode === "access" && !mayRead;
  if (upstream === "down" && !isDecidedHere && (what.isNeverKept === true || !mayRead)) return no(503);
  return mayRead ? { status: what.status, isYes: true } : no(DENIALS[who]);
}

/** Users of ours, in mode `access`. */
const USERS: ReadonlySet<Who> = new Set(["other", "former", "right"]);

/** How a client that may not read is told so, by what it showed. */
const DENIALS: Record<Who, number> = {
  nobody: 401,
  anonymous: 404,
  wrong: 403,
  forged: 401,
  expired: 401,
  foreign: 401,
  other: 403,
  former: 403,
  right: 403,
};

/** Content of one shape and one size, whatever the name, if names are equally long. */
export function makeSecret(repository: string): Secret {
  const layerOf = (part: string) => new TextEncoder().encode(`${MARKER} ${part} of ${repository}\n`.repeat(3000));
  const layers = ["kept", "up", "down"].map(layerOf);
  const config = encode({
    os: "linux",
    architecture: "amd64",
    config: { Labels: { secret: `${MARKER} ${repository}` } },
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: describe(config, MEDIA_TYPES.ociConfig),
    layers: layers.map((bytes) => describe(bytes, MEDIA_TYPES.ociLayer)),
    annotations: { secret: MARKER },
  };
  const bytes = encode(manifest);
  const digest = digestOf(bytes);
  const image: Image = {
    digest,
    mediaType: MEDIA_TYPES.ociManifest,
    blobs: new Map([config, ...layers].map((content) => [digestOf(content), content])),
    manifests: new Map<string, StoredManifest>([[digest, { bytes, mediaType: MEDIA_TYPES.ociManifest }]]),
    tags: new Map([
      ["v1", digest],
      [MARKER, digest],
    ]),
  };
  const referrer = makeArtifact({ subject: image, annotations: { secret: MARKER } });
  for (const [name, stored] of referrer.manifests) image.manifests.set(name, stored);
  const [layer = "", up = "", down = ""] = layers.map((content) => digestOf(content));
  return { repository, image, layer, running: { up, down } };
}
