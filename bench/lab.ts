/**
 * What the measurements run on: content in memory, the upstream, and before it any number of Layovers and bare
 * pass-throughs, each a process of its own on a free port of loopback. Layover is the compiled binary, built anew when it
 * is older than its sources.
 */
import { createHash, randomFillSync } from "node:crypto";
import { existsSync, readdirSync, statSync, writeSync } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type MeasuredProcess, startProcess } from "./process.ts";

export const BLOB_BYTES = 1024 ** 3;

export interface Lab {
  readonly upstream: MeasuredProcess;
  readonly binary: string;
  /** Of this run: in memory, removed by `close`. */
  readonly dir: string;
  /** Path and query of each, the same at all of them. */
  readonly blobPath: string;
  readonly manifestPath: string;
  /** Flags of a Layover before the upstream, without `--listen`. */
  layoverArguments(): string[];
  startLayover(flags?: readonly string[]): Promise<MeasuredProcess>;
  startPassThrough(): Promise<MeasuredProcess>;
  /** Ends everything that was started here and removes what it wrote. */
  close(): Promise<void>;
}

const ROOT = join(import.meta.dir, "..");
const LAYERS = 16;

export async function openLab(): Promise<Lab> {
  const binary = upToDateBinary();
  // The blob must come from memory: a disk would be measured otherwise.
  const dir = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "layover-bench-"));
  const running: MeasuredProcess[] = [];
  const digest = await writeBlob(join(dir, "blob"));
  await Bun.write(join(dir, "manifest"), manifestOf(digest));
  const upstream = await start(["bench/upstream.ts", join(dir, "blob"), join(dir, "manifest")]);
  const map = { default: "bench", bench: { upstreams: [upstream.url], hosts: ["bench.test"] } };
  await Bun.write(join(dir, "map.json"), JSON.stringify(map));

  async function run(command: readonly string[]): Promise<MeasuredProcess> {
    const child = await startProcess({ command, outputFile: join(dir, `output-${running.length}`), cwd: dir });
    running.push(child);
    return child;
  }

  function start([script = "", ...args]: readonly string[]): Promise<MeasuredProcess> {
    return run([process.execPath, "--no-env-file", join(ROOT, script), ...args]);
  }

  const layoverArguments = (): string[] => [
    `--registry-map=${join(dir, "map.json")}`,
    `--state-dir=${join(dir, "state")}`,
    "--log-format=json",
  ];
  return {
    upstream,
    binary,
    dir,
    blobPath: `/v2/bench/app/blobs/${digest}`,
    manifestPath: "/v2/bench/app/manifests/latest",
    layoverArguments,
    startLayover: (flags = []) => run([binary, "--listen", "127.0.0.1:0", ...layoverArguments(), ...flags]),
    startPassThrough: () => start(["bench/pass-through.ts", upstream.url]),
    async close() {
      await Promise.all(running.map((child) => child.stop()));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** LAYOVER_BINARY in the environment names another, which is taken as it is. */
export function upToDateBinary(): string {
  const given = process.env["LAYOVER_BINARY"];
  if (given !== undefined) return given;
  const binary = join(ROOT, "dist/layover");
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).map((name) => `src/${name}`);
  const changedAt = (name: string): number => statSync(join(ROOT, name)).mtimeMs;
  const newest = Math.max(...[...sources, "package.json", "registrymap.json"].map(changedAt));
  if (existsSync(binary) && statSync(binary).mtimeMs > newest) return binary;
  const build = Bun.spawnSync(["npm", "run", "--silent", "build"], { cwd: ROOT, stderr: "inherit" });
  if (build.exitCode !== 0) throw new Error(`expected npm run build to succeed, got exit code ${build.exitCode}`);
  return binary;
}

/** Writes the blob and gives its digest. Its content does not matter: nothing compresses it on the way. */
async function writeBlob(file: string): Promise<string> {
  const block = randomFillSync(new Uint8Array(1024 ** 2));
  const hash = createHash("sha256");
  await using handle = await open(file, "w");
  for (let written = 0; written < BLOB_BYTES; written += block.byteLength) {
    writeSync(handle.fd, block);
    hash.update(block);
  }
  return `sha256:${hash.digest("hex")}`;
}

/** A manifest of a usual size, 2 to 3 kB. */
function manifestOf(digest: string): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: BLOB_BYTES },
    layers: Array.from({ length: LAYERS }, () => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest,
      size: BLOB_BYTES,
    })),
  });
}
