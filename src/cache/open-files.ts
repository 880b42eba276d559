/**
 * The file handles that are open. The runtime ends the program when a handle is collected that nobody closed; whoever forgets
 * one here costs a handle until the store is closed, and no more.
 */
import { type FileHandle, open } from "node:fs/promises";

export interface OpenFiles {
  open(path: string, flags: string | number): Promise<FileHandle>;
  close(handle: FileHandle): Promise<void>;
  closeAll(): Promise<void>;
}

export function createOpenFiles(): OpenFiles {
  const handles = new Set<FileHandle>();

  async function close(handle: FileHandle): Promise<void> {
    if (handles.delete(handle)) await handle.close();
  }

  return {
    async open(path, flags) {
      const handle = await open(path, flags);
      handles.add(handle);
      return handle;
    },
    close,
    async closeAll() {
      for (const handle of handles) await close(handle);
    },
  };
}
