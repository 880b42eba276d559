/**
 * What the peers run on: one upstream behind a link, and before it Layover, nginx and docker-registry, each with a cache of
 * its own in one file system in memory, on free ports of loopback, with one certificate. A peer that is not installed is
 * left out.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../free-port.ts";
import { upToDateBinary } from "../lab.ts";
import { type MeasuredProcess, type PeerProcessOptions, startPeer, startProcess } from "../process.ts";
import { type Blob, blobOf, type Manifest, manifestOf } from "./content.ts";
import { dockerRegistryConfigOf } from "./docker-registry.ts";
import { nginxConfigOf } from "./nginx.ts";
import { createPrograms, type Programs } from "./programs.ts";

export const PEER_NAMES = ["layover", "nginx", "dockerRegistry"] as const;
export type PeerName = (typeof PEER_NAMES)[number];

export interface Peer {
  readonly name: PeerName;
  readonly plain: MeasuredProcess;
  readonly tls: MeasuredProcess;
  /** Asked for while others are served. */
  readonly healthPath: string;
  /** Without counting one twice that serves both. */
  readonly processes: readonly MeasuredProcess[];
}

export interface PeersLab {
  readonly upstream: MeasuredProcess;
  readonly peers: readonly Peer[];
  /** `"nginx is not installed"`, one for each that is left out. */
  readonly missing: readonly string[];
  readonly certFile: string;
  readonly manifest: Manifest;
  /** For one client: its start does not count. */
  readonly largeBlob: Blob;
  /** For many clients at once. */
  readonly blob: Blob;
  /** A blob of `COLD_BYTES` that no peer has seen. */
  nextColdBlob(): Blob;
  /** A blob of `FAN_OUT_BYTES` that no peer has seen. */
  nextFanOutBlob(): Blob;
  /** Sets the speed of the link (0: unlimited) and gives the blob bytes that passed since it was set the last time. */
  pace(bytesPerSecond: number): Promise<number>;
  /** Until no blob leaves the upstream. */
  upstreamRests(): Promise<void>;
  close(): Promise<void>;
}

export interface PeersLabOptions {
  readonly coldBlobs: number;
  readonly fanOutBlobs: number;
}

const LARGE_BYTES = 1024 ** 3;
const BLOB_BYTES = 256 * 1024 ** 2;
export const COLD_BYTES = 256 * 1024 ** 2;
/** 10^8, in whole chunks. */
export const FAN_OUT_BYTES = 381 * 256 * 1024;
const REST_TIMEOUT_MS = 60_000;
const ROOT = join(import.meta.dir, "../..");

export async function openPeersLab({ coldBlobs, fanOutBlobs }: PeersLabOptions): Promise<PeersLab> {
  const binary = upToDateBinary();
  const dir = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "layover-peers-"));
  // nginx's workers are another user's.
  await chmod(dir, 0o755);
  const programs = createPrograms();
  let closing: Promise<void> | undefined;
  // A signal may come while the end is under way already.
  const close = (): Promise<void> => (closing ??= end(programs, dir));
  // Whoever ends a measurement early leaves nothing behind.
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => void close().finally(() => process.exit(1)));
  try {
    const [largeBlob, blob] = [blobOf("large", LARGE_BYTES), blobOf("usual", BLOB_BYTES)];
    const cold = Array.from({ length: coldBlobs }, (_, number) => blobOf(`cold ${number}`, COLD_BYTES));
    const fanOut = Array.from({ length: fanOutBlobs }, (_, number) => blobOf(`fan-out ${number}`, FAN_OUT_BYTES));
    const manifest = manifestOf("latest", blob);
    await Bun.write(
      join(dir, "content.json"),
      JSON.stringify({ manifests: [manifest], blobs: [largeBlob, blob, ...cold, ...fanOut] }),
    );
    const upstream = await programs.run(() => startUpstream(dir));
    const place: Place = { dir, binary, upstream: upstream.url, programs, ...writeCertificate(dir) };
    const peers = [await startLayover(place)];
    if (Bun.which("nginx") !== null) peers.push(await startNginx(place));
    if (Bun.which("docker-registry") !== null) peers.push(await startDockerRegistry(place));
    return {
      upstream,
      peers,
      missing: ["nginx", "docker-registry"]
        .filter((name) => Bun.which(name) === null)
        .map((name) => `${name} is not installed`),
      certFile: place.certFile,
      manifest,
      largeBlob,
      blob,
      nextColdBlob: () => taken(cold),
      nextFanOutBlob: () => taken(fanOut),
      async pace(bytesPerSecond) {
        const { sent }: { sent: number } = await askJson(`${upstream.url}/pace?bytesPerSecond=${bytesPerSecond}`);
        return sent;
      },
      upstreamRests: () => restOf(upstream),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function end(programs: Programs, dir: string): Promise<void> {
  await programs.endAll();
  await rm(dir, { recursive: true, force: true });
}

interface Place {
  readonly dir: string;
  readonly binary: string;
  readonly upstream: string;
  readonly programs: Programs;
  readonly certFile: string;
  readonly keyFile: string;
}

function startUpstream(dir: string): Promise<MeasuredProcess> {
  const content = join(dir, "content.json");
  return startProcess({
    command: [process.execPath, "--no-env-file", join(ROOT, "bench/peers/upstream.ts"), content],
    outputFile: join(dir, "upstream.log"),
    cwd: dir,
  });
}

async function startLayover(place: Place): Promise<Peer> {
  const { dir, binary, programs, certFile, keyFile } = place;
  await Bun.write(
    join(dir, "map.json"),
    JSON.stringify({ default: "bench", bench: { upstreams: [place.upstream], hosts: ["bench.test"] } }),
  );
  const start = (name: string, flags: readonly string[]): Promise<MeasuredProcess> => {
    const files = [`--cache-dir=${dir}/${name}`, `--state-dir=${dir}/${name}-state`, `--registry-map=${dir}/map.json`];
    const command = [binary, "--listen=127.0.0.1:0", "--log-format=json", "--tag-ttl=10m", ...files, ...flags];
    return programs.run(() => startProcess({ command, outputFile: join(dir, `${name}.log`), cwd: dir }));
  };
  const plain = await start("layover", []);
  const tls = await start("layover-tls", [`--tls-cert=${certFile}`, `--tls-key=${keyFile}`]);
  return { name: "layover", plain, tls, healthPath: "/healthz", processes: [plain, tls] };
}

async function startNginx(place: Place): Promise<Peer> {
  const dir = await subdirectory(place, "nginx");
  const [port, tlsPort] = [await freePort(), await freePort()];
  await Bun.write(join(dir, "nginx.conf"), nginxConfigOf({ ...place, dir, port, tlsPort }));
  const plain = await startNamed(place, {
    command: ["nginx", "-p", dir, "-c", join(dir, "nginx.conf")],
    outputFile: join(dir, "output.log"),
    cwd: dir,
    url: `http://127.0.0.1:${port}`,
  });
  const tls = { ...plain, url: `https://127.0.0.1:${tlsPort}` };
  return { name: "nginx", plain, tls, healthPath: "/healthz", processes: [plain] };
}

async function startDockerRegistry(place: Place): Promise<Peer> {
  const start = async (scheme: "http" | "https"): Promise<MeasuredProcess> => {
    const dir = await subdirectory(place, `docker-registry-${scheme}`);
    const port = await freePort();
    const options = { dir, port, upstream: place.upstream };
    await Bun.write(
      join(dir, "config.json"),
      dockerRegistryConfigOf(scheme === "https" ? { ...options, tls: place } : options),
    );
    return startNamed(place, {
      command: ["docker-registry", "serve", join(dir, "config.json")],
      outputFile: join(dir, "output.log"),
      cwd: dir,
      url: `${scheme}://127.0.0.1:${port}`,
    });
  };
  const [plain, tls] = [await start("http"), await start("https")];
  return { name: "dockerRegistry", plain, tls, healthPath: "/", processes: [plain, tls] };
}

function startNamed({ programs }: Place, options: PeerProcessOptions): Promise<MeasuredProcess> {
  return programs.run(() => startPeer(options));
}

async function subdirectory({ dir }: Place, name: string): Promise<string> {
  await mkdir(join(dir, name));
  return join(dir, name);
}

function writeCertificate(dir: string): { certFile: string; keyFile: string } {
  if (Bun.which("openssl") === null) throw new Error("expected openssl, which makes the certificate: install it");
  const [certFile, keyFile] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", keyFile];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
  const made = Bun.spawnSync(["openssl", "req", "-x509", ...key, ...subject, "-out", certFile]);
  if (made.exitCode !== 0) throw new Error(`expected openssl to make a certificate, got: ${made.stderr}`);
  return { certFile, keyFile };
}

async function restOf(upstream: MeasuredProcess): Promise<void> {
  const deadline = performance.now() + REST_TIMEOUT_MS;
  for (;;) {
    const { sending }: { sending: number } = await askJson(`${upstream.url}/sending`);
    if (sending === 0) return;
    if (performance.now() > deadline) throw new Error(`expected the upstream to rest within ${REST_TIMEOUT_MS} ms`);
    await Bun.sleep(20);
  }
}

async function askJson<Answer>(url: string): Promise<Answer> {
  return (await (await fetch(url)).json()) as Answer;
}

function taken(blobs: Blob[]): Blob {
  const blob = blobs.shift();
  if (blob === undefined) throw new Error("expected as many cold blobs as rounds");
  return blob;
}
