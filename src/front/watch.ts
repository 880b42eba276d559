/**
 * Watches files by their folders, since a file that is replaced by rename or through a symlink is no longer the one that
 * was watched. The folders behind symlinks are watched too, and a slow look at the files' stamps covers what the kernel
 * does not report: network file systems, single files mounted into a container, a spent inotify budget.
 */
import fs from "node:fs";
import path from "node:path";

export interface WatchOptions {
  /** How long the folders must be quiet before `changed` is called. */
  readonly quietMs: number;
  /** The content of a file may have changed. */
  readonly changed: () => void;
}

export interface Watch {
  close(): void;
}

/** What the kernel reports comes at once; this is for the rest. */
const LOOK_INTERVAL_MS = 60_000;

export function watchFiles(files: readonly string[], { quietMs, changed }: WatchOptions): Watch {
  // At most MAX_LINKS per file.
  const watchers = new Map<string, fs.FSWatcher>();
  let quiet: ReturnType<typeof setTimeout> | undefined;
  let seen = stampsOf(files);

  function stirred(): void {
    clearTimeout(quiet);
    quiet = setTimeout(look, quietMs);
  }
  function look(): void {
    follow();
    const stamps = stampsOf(files);
    if (stamps === seen) return;
    seen = stamps;
    changed();
  }
  /** Symlinks may lead elsewhere than before. */
  function follow(): void {
    const wanted = foldersOf(files);
    for (const [folder, watcher] of watchers) {
      if (wanted.has(folder)) continue;
      watcher.close();
      watchers.delete(folder);
    }
    for (const folder of wanted) if (!watchers.has(folder)) watch(folder);
  }
  function watch(folder: string): void {
    const forget = (): void => {
      watchers.get(folder)?.close();
      watchers.delete(folder);
    };
    try {
      const watcher = fs.watch(folder, { persistent: false }, stirred);
      watchers.set(folder, watcher);
      // The folder went away, or cannot be watched: the slow look goes on, and takes the watch up again.
      watcher.on("error", forget);
    } catch {
      // No watch for this folder (missing, or no inotify left): as above.
    }
  }

  follow();
  const interval = setInterval(look, LOOK_INTERVAL_MS);
  interval.unref();
  return {
    close() {
      clearTimeout(quiet);
      clearInterval(interval);
      for (const watcher of watchers.values()) watcher.close();
      watchers.clear();
    },
  };
}

/** Each folder in which a replacement would happen: those of the symlinks on the way, and that of the file at the end. */
function foldersOf(files: readonly string[]): Set<string> {
  return new Set(files.flatMap((file) => foldersTo(path.resolve(file))));
}

/** More links than this in one path are a loop, as to the kernel. */
const MAX_LINKS = 40;

function foldersTo(file: string): string[] {
  const folders: string[] = [];
  let rest = file.split(path.sep).filter((part) => part !== "");
  let folder: string = path.sep;
  while (rest.length > 0 && folders.length < MAX_LINKS) {
    const [part = "", ...behind] = rest;
    const target = linkTarget(path.join(folder, part));
    if (target !== undefined || behind.length === 0) folders.push(folder);
    const next = path.resolve(folder, target ?? part);
    // A link leads to a path that may hold links itself: start over with what it leads to.
    folder = target === undefined ? next : path.sep;
    rest = target === undefined ? behind : [...next.split(path.sep).filter((name) => name !== ""), ...behind];
  }
  return folders;
}

function linkTarget(file: string): string | undefined {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true ? fs.readlinkSync(file) : undefined;
  } catch {
    // In the middle of a replacement, or not ours to look at: the folders that are known are watched in any case.
    return undefined;
  }
}

/** Changes when a file is replaced, rewritten or reached by another link. */
function stampsOf(files: readonly string[]): string {
  return files
    .map((file) => {
      const stat = fs.statSync(file, { throwIfNoEntry: false });
      return stat === undefined ? "none" : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeMs}:${stat.ctimeMs}`;
    })
    .join(" ");
}
