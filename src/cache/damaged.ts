/** Content that no longer has its digest: moved aside for whoever looks after the disk, a bounded amount of it. */
import { lstat, mkdir, readdir, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "../registry/digest.ts";
import { unlessMissing } from "./disk.ts";
import type { Layout } from "./layout.ts";

/** Enough to see what a disk does to files, without becoming a second cache. */
const MAX_FILES = 16;
const MAX_BYTES = 1024 * 1024 * 1024;

/** Moves damaged content out of `blobs`, and removes the oldest of what lies there when it becomes too much. */
export async function setAside(layout: Layout, digest: Digest): Promise<void> {
  await mkdir(layout.damaged, { recursive: true });
  const name = `${digest.algorithm}-${digest.encoded}.${crypto.randomUUID().slice(0, 8)}`;
  await rename(layout.pathOf(digest), join(layout.damaged, name));
  await prune(layout.damaged);
}

async function prune(folder: string): Promise<void> {
  const files: { path: string; bytes: number; movedMs: number }[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const stats = await unlessMissing(lstat(path));
    // A rename sets the change time: the moment the file came here.
    if (stats?.isFile() === true) files.push({ path, bytes: stats.size, movedMs: stats.ctimeMs });
  }
  files.sort((a, b) => b.movedMs - a.movedMs);
  let bytes = 0;
  for (const [index, file] of files.entries()) {
    bytes += file.bytes;
    // The newest stays, however large it is.
    if (index > 0 && (index >= MAX_FILES || bytes > MAX_BYTES)) await unlessMissing(unlink(file.path));
  }
}
