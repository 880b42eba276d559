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
  // At most two per file.
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

function foldersOf(files: readonly string[]): Set<string> {
  return new Set(files.flatMap((file) => [path.dirname(path.resolve(file)), path.dirname(realPath(file))]));
}

function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    // In the middle of a replacement there is no file; its own folder is watched in any case.
    return path.resolve(file);
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
