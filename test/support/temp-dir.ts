/** A directory of its own for a test: `await using dir = await createTempDir()` removes it at the end of the block. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempDir extends AsyncDisposable {
  readonly path: string;
  /** `join(path, …names)` */
  file(...names: string[]): string;
  remove(): Promise<void>;
}

export async function createTempDir(prefix = "layover-test-"): Promise<TempDir> {
  const path = await mkdtemp(join(tmpdir(), prefix));
  const remove = (): Promise<void> => rm(path, { recursive: true, force: true });
  return { path, file: (...names) => join(path, ...names), remove, [Symbol.asyncDispose]: remove };
}
