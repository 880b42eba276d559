/** Real layers: tar archives that clients unpack, packed in every way registries see. The same options give the same bytes. */
import { gzipSync } from "node:zlib";
import { digestOf, MEDIA_TYPES } from "../support/images.ts";

export interface TarEntry {
  name: string;
  data?: Uint8Array | string;
  mode?: number;
  /** Target of a symbolic link. */
  link?: string;
}

export interface Layer {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  /** Digest of the archive before packing, as the image's configuration lists it. */
  readonly diffId: string;
}

export type Packing = "gzip" | "stored" | "none" | "zstd";

const ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd";
const TAR_LAYER = "application/vnd.oci.image.layer.v1.tar";
/** 2024-01-01: no clock in the bytes. */
const MODIFIED_SECONDS = 1_704_067_200;

/** `stored` is gzip without compression, for large random files. */
export function makeLayer(entries: TarEntry[], packing: Packing = "gzip"): Layer {
  return packLayer(makeTar(entries), packing);
}

/** A layer of any bytes as archive; 1024 zero bytes are the empty archive. */
export function packLayer(archive: Uint8Array, packing: Packing = "gzip"): Layer {
  const diffId = digestOf(archive);
  if (packing === "none") return { bytes: archive, mediaType: TAR_LAYER, diffId };
  if (packing === "zstd") return { bytes: Bun.zstdCompressSync(archive), mediaType: ZSTD_LAYER, diffId };
  return { bytes: gzipSync(archive, { level: packing === "stored" ? 0 : 6 }), mediaType: MEDIA_TYPES.ociLayer, diffId };
}

/** A ustar archive: files, folders (a name that ends in `/`) and symbolic links, all of root. */
export function makeTar(entries: TarEntry[]): Uint8Array {
  const blocks = entries.flatMap((entry) => {
    const data = Buffer.from(entry.data ?? "");
    return [tarHeader(entry, data.length), data, Buffer.alloc((512 - (data.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function tarHeader(entry: TarEntry, size: number): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, width: number): void => {
    header.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at);
  };
  const isFolder = entry.name.endsWith("/");
  header.write(entry.name, 0, 100);
  octal(entry.mode ?? (isFolder ? 0o755 : 0o644), 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(MODIFIED_SECONDS, 136, 12);
  header.fill(" ", 148, 156);
  header.write(isFolder ? "5" : entry.link === undefined ? "0" : "2", 156);
  header.write(entry.link ?? "", 157, 100);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
