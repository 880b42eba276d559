/**
 * Disks of a few megabytes, which fill up and can be made read-only: a tmpfs, which only root on Linux may mount. Tests that
 * need one are shown as skipped elsewhere; where `CI=true` they fail instead, so that nobody believes they ran.
 *
 *     test.skipIf(!mayMount())("…", async () => {
 *       await using disk = await mountDisk("8m");
 */
import { createTempDir } from "./temp-dir.ts";

export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** From now on nothing can be written. */
  makeReadOnly(): void;
}

/** Whether tests on small disks are to run. In CI always: there they fail in `mountDisk` when it cannot be. */
export function mayMount(): boolean {
  if (process.env["CI"] === "true") return true;
  return process.platform === "linux" && process.getuid?.() === 0 && (probed ??= probe());
}

let probed: boolean | undefined;

/** Root in a container may be kept from mounting. */
function probe(): boolean {
  const path = `/tmp/layover-mount-${crypto.randomUUID()}`;
  if (run("mkdir", path) !== "") return false;
  const isMounted = mount(path, "64k") === "";
  if (isMounted) run("umount", path);
  run("rmdir", path);
  return isMounted;
}

/** @param size as tmpfs reads it: `"8m"` @throws Error where it cannot be mounted */
export async function mountDisk(size: string): Promise<SmallDisk> {
  const dir = await createTempDir("layover-disk-");
  const problem = mount(dir.path, size);
  if (problem !== "") {
    await dir.remove();
    throw new Error(`expected to be allowed to mount a tmpfs, which needs root on Linux, got: ${problem}`);
  }
  return {
    path: dir.path,
    makeReadOnly() {
      const refusal = run("mount", "-o", "remount,ro", dir.path);
      if (refusal !== "") throw new Error(`expected a read-only disk, got: ${refusal}`);
    },
    async [Symbol.asyncDispose]() {
      run("umount", "-l", dir.path);
      await dir.remove();
    },
  };
}

function mount(path: string, size: string): string {
  return run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path);
}

/** Empty when it went well, else why not. */
function run(...argv: string[]): string {
  try {
    const { exitCode, stderr } = Bun.spawnSync(argv, { stdout: "ignore" });
    return exitCode === 0 ? "" : `${argv.join(" ")}: ${stderr.toString().trim() || `exit code ${exitCode}`}`;
  } catch (error) {
    // No such program here.
    return error instanceof Error ? error.message : String(error);
  }
}
