/**
 * Where things are: an OCI image layout (image-spec image-layout.md), which skopeo, oras and others can read, with our own
 * folders beside it. What we do not know is left alone.
 *
 *   oci-layout  index.json           the marks of a layout; the index stays empty, tags are the business of Records
 *   blobs/<algorithm>/<hex>          committed content, nothing else is ever renamed to here
 *   spool/<owner>/<algorithm>-<hex>… downloads on their way, see `spool-folder`
 *   damaged/                         what `verify` moved aside
 */
import { mkdir, readdir, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../log.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { fileBytes, syncDirectory, unlessMissing } from "./disk.ts";

export interface Layout {
  readonly directory: string;
  readonly spool: string;
  readonly damaged: string;
  /** Folder of an algorithm: `blobs/sha256`. */
  folderOf(algorithm: string): string;
  /** @param digest one we can verify: only then is it known to be harmless as a path */
  pathOf(digest: Digest): string;
}

/** The algorithms whose content we can verify, and so keep (protocol R11). */
export const ALGORITHMS = ["sha256", "sha512"] as const;

export function layoutIn(directory: string): Layout {
  const folderOf = (algorithm: string): string => join(directory, "blobs", algorithm);
  return {
    directory,
    spool: join(directory, "spool"),
    damaged: join(directory, "damaged"),
    folderOf,
    pathOf: ({ algorithm, encoded }) => join(folderOf(algorithm), encoded),
  };
}

const MARKS: readonly (readonly [name: string, text: string])[] = [
  ["oci-layout", '{"imageLayoutVersion":"1.0.0"}\n'],
  ["index.json", '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}\n'],
];

const OWN_NAMES: ReadonlySet<string> = new Set([...MARKS.map(([name]) => name), "blobs", "spool", "damaged"]);

/** Makes folders and marks that are missing. */
export async function prepareLayout(layout: Layout): Promise<void> {
  for (const algorithm of ALGORITHMS) await mkdir(layout.folderOf(algorithm), { recursive: true });
  await mkdir(layout.spool, { recursive: true });
  for (const [name, text] of MARKS) {
    const path = join(layout.directory, name);
    if ((await fileBytes(path)) === undefined) await writeMark(path, text);
  }
  await syncDirectory(layout.directory);
}

/** Whole or not at all: a cut index would make the directory unreadable to other tools. */
async function writeMark(path: string, text: string): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    await Bun.write(temporary, text);
    await rename(temporary, path);
  } catch (cause) {
    await unlessMissing(unlink(temporary));
    throw cause;
  }
}

/** One line about what is in the directory and not ours, so that nobody wonders about the disk space. */
export async function reportStrangers(layout: Layout, neighbours: ReadonlySet<string>, log: Pick<Log, "warn">) {
  const names = (await unlessMissing(readdir(layout.directory))) ?? [];
  const strangers = names
    .filter((name) => !OWN_NAMES.has(name) && !neighbours.has(name) && name !== "lost+found")
    .toSorted();
  if (strangers.length === 0) return;
  log.warn(
    { directory: layout.directory, count: strangers.length, examples: strangers.slice(0, 5) },
    "the cache directory holds files that are not ours; they are left alone",
  );
}

/** The digest of a name in `blobs/<algorithm>`, undefined for names that are none of ours. */
export function digestNamed(algorithm: string, name: string): Digest | undefined {
  const digest = parseDigest(`${algorithm}:${name}`);
  return digest !== undefined && isVerifiable(digest) ? digest : undefined;
}

/**
 * Size of committed content, or undefined. A file without bytes is what a crash of the machine leaves under other tools;
 * it counts only for the digest of nothing.
 */
export async function committedBytes(layout: Layout, digest: Digest): Promise<number | undefined> {
  const bytes = await fileBytes(layout.pathOf(digest));
  return bytes === 0 && !isDigestOfNothing(digest) ? undefined : bytes;
}

export function isDigestOfNothing(digest: Digest): boolean {
  return hasherFor(digest).digest("hex") === digest.encoded;
}

/** @param digest of an algorithm that we can verify */
export function hasherFor(digest: Digest): Bun.CryptoHasher {
  return new Bun.CryptoHasher(digest.algorithm === "sha512" ? "sha512" : "sha256");
}
