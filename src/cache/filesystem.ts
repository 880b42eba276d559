/**
 * The Store on a file system: an OCI image layout that other tools can read, with a folder of spools beside it.
 */
import type { Log } from "../log.ts";
import { type Store, StoreError } from "./store.ts";

export interface FilesystemStoreOptions {
  /** Made when missing. */
  readonly directory: string;
  /** Budget of committed and spooled content together. */
  readonly maxBytes: number;
  /** Free space of the file system that is never used up. */
  readonly minFreeBytes: number;
  /** Names in the directory that belong to others of ours (records, admin socket); anything else unknown is logged once. */
  readonly neighbours?: readonly string[];
}

export interface FilesystemStoreDependencies {
  readonly log: Pick<Log, "info" | "warn">;
  /** Asked for room when the budget is used up: true when it made at least so many bytes free. Default: never. */
  readonly makeRoom?: (bytes: number) => Promise<boolean>;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * Opens the store. A read-only directory still serves what it holds; spools are then refused as `broken`.
 * @throws StoreError `broken` when the directory can neither be made nor read
 */
export async function createFilesystemStore(
  options: FilesystemStoreOptions,
  _dependencies: FilesystemStoreDependencies,
): Promise<Store> {
  throw new StoreError("broken", `not built yet: ${options.directory}`);
}
