/**
 * What the upstream of the peers holds: blobs that differ in their first bytes only, so that any number of them can be cold
 * without any of them lying in a file, and a manifest of a usual size.
 */
import { createHash } from "node:crypto";

export interface Blob {
  readonly digest: string;
  readonly bytes: number;
  /** The first bytes, which make it differ from all others. */
  readonly mark: string;
}

export interface Manifest {
  readonly tag: string;
  readonly digest: string;
  readonly mediaType: string;
  readonly body: string;
}

export interface Content {
  readonly manifests: readonly Manifest[];
  readonly blobs: readonly Blob[];
}

/** Blobs are whole multiples of it. */
export const CHUNK_BYTES = 256 * 1024;
const LAYERS = 16;
const MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** One chunk, the same in every process; nothing compresses it on the way. */
export function blockOf(): Buffer {
  const words = new Uint32Array(CHUNK_BYTES / 4);
  let state = 1;
  // A linear congruential generator: what it gives needs to look like nothing, no more.
  for (let word = 0; word < words.length; word += 1)
    words[word] = state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Buffer.from(words.buffer);
}

export function blobOf(mark: string, bytes: number): Blob {
  const block = blockOf();
  const hash = createHash("sha256").update(mark).update(block.subarray(mark.length));
  for (let hashed = CHUNK_BYTES; hashed < bytes; hashed += CHUNK_BYTES) hash.update(block);
  return { digest: `sha256:${hash.digest("hex")}`, bytes, mark };
}

export function manifestOf(tag: string, layer: Blob): Manifest {
  const { digest, bytes: size } = layer;
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest, size },
    layers: Array.from({ length: LAYERS }, () => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest,
      size,
    })),
  });
  return { tag, digest: `sha256:${createHash("sha256").update(body).digest("hex")}`, mediaType: MEDIA_TYPE, body };
}
