/**
 * A registry of blobs too large to be held: their bytes are made while they are sent. Every block differs from the others, so
 * that nothing can be taken twice or in another order without the digest telling.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { encode, randomBytes } from "./images.ts";

export interface GiantRegistry extends AsyncDisposable {
  readonly url: string;
  /** Body bytes of blobs handed to sockets. */
  readonly sentBytes: number;
  readonly blobRequests: number;
  /** Adds `latest` with one layer of so many bytes; gives the layer's digest. */
  add(repository: string, bytes: number): string;
}

const BLOCK_BYTES = 1024 * 1024;
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

interface Giant {
  readonly layer: string;
  readonly bytes: number;
  readonly manifest: Uint8Array;
  readonly base: Buffer;
}

export async function startGiantRegistry(): Promise<GiantRegistry> {
  const giants = new Map<string, Giant>();
  let sentBytes = 0;
  let blobRequests = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, repository = "", noun = ""] = /^\/v2\/(.+)\/(manifests|blobs)\/[^/]+$/.exec(request.url ?? "") ?? [];
    const giant = giants.get(repository);
    if (giant === undefined) return void response.writeHead(404).end();
    if (noun === "manifests") return sendManifest(request, response, giant);
    blobRequests += 1;
    const first = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(first === 0 ? 200 : 206, {
      "content-type": "application/octet-stream",
      "content-length": giant.bytes - first,
      ...(first > 0 && { "content-range": `bytes ${first}-${giant.bytes - 1}/${giant.bytes}` }),
    });
    if (request.method === "HEAD") return void response.end();
    for (let at = first; at < giant.bytes && !response.destroyed;) {
      const piece = blockOf(giant, at);
      const isTaken = response.write(piece);
      sentBytes += piece.byteLength;
      at += piece.byteLength;
      if (!isTaken) await drained(response);
    }
    response.end();
  }

  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get sentBytes() {
      return sentBytes;
    },
    get blobRequests() {
      return blobRequests;
    },
    add(repository, bytes) {
      const giant = makeGiant(repository, bytes);
      giants.set(repository, giant);
      return giant.layer;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function makeGiant(seed: string, bytes: number): Giant {
  const giant = { bytes, base: Buffer.from(randomBytes(seed, BLOCK_BYTES)) };
  const hash = createHash("sha256");
  for (let at = 0; at < bytes; at += BLOCK_BYTES) hash.update(blockOf(giant, at));
  const layer = `sha256:${hash.digest("hex")}`;
  const config = encode({ os: "linux", architecture: "amd64" });
  const manifest = encode({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: sha256(config), size: config.byteLength },
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar", digest: layer, size: bytes }],
  });
  return { ...giant, layer, manifest };
}

/** From `at` to the end of its block. */
function blockOf({ base, bytes }: Pick<Giant, "base" | "bytes">, at: number): Buffer {
  const block = Buffer.from(base);
  block.writeUInt32LE(Math.floor(at / BLOCK_BYTES), 0);
  const begin = at - (at % BLOCK_BYTES);
  return block.subarray(at - begin, Math.min(BLOCK_BYTES, bytes - begin));
}

function sendManifest({ method }: IncomingMessage, response: ServerResponse, { manifest }: Giant): void {
  response.writeHead(200, {
    "content-type": MANIFEST_TYPE,
    "content-length": manifest.byteLength,
    "docker-content-digest": sha256(manifest),
  });
  response.end(method === "HEAD" ? undefined : manifest);
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Or gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      response.off("drain", settle).off("close", settle);
      resolve();
    };
    response.once("drain", settle).once("close", settle);
  });
}
