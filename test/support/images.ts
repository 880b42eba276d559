/**
 * Deterministic registry content in memory: the same options give the same bytes and digests on every run and runtime.
 * Layers are random-looking bytes, not tar files: no unit or e2e test unpacks them (the client suite makes real ones).
 */
import { createCipheriv, createHash } from "node:crypto";

export const MEDIA_TYPES = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociEmpty: "application/vnd.oci.empty.v1+json",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  schema1: "application/vnd.docker.distribution.manifest.v1+prettyjws",
} as const;

export interface StoredManifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
}

/** What a repository can hold: content by digest, and tags that point to manifests. */
export interface Image {
  /** Digest of what the default tag points to. */
  readonly digest: string;
  readonly mediaType: string;
  readonly platform?: Platform;
  readonly artifactType?: string;
  readonly blobs: Map<string, Uint8Array>;
  readonly manifests: Map<string, StoredManifest>;
  readonly tags: Map<string, string>;
}

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  artifactType?: string;
  platform?: Platform;
}

export interface ImageOptions {
  /** Sizes of the layers in bytes; default one of 1024. */
  layers?: number[];
  /** Different seeds give different bytes; default `"1"`. */
  seed?: string | number;
  mediaTypes?: "oci" | "docker";
  platform?: Platform;
  /** Tags that point to the image; default `["latest"]`. */
  tags?: string[];
  /** How digests are made; sha512 addresses config, layers and manifest so (protocol R19). */
  algorithm?: Algorithm;
  /** JSON indentation of the manifest: odd white space must survive byte for byte (protocol R24). */
  indent?: number | string;
  /** Appended to the manifest's bytes, e.g. `"\n\n  "`. */
  trailer?: string;
}

export type Algorithm = "sha256" | "sha512";

export function makeImage(options: ImageOptions = {}): Image {
  const { layers = [1024], seed = "1", mediaTypes = "oci", algorithm = "sha256" } = options;
  const platform = options.platform ?? { os: "linux", architecture: "amd64" };
  const isDocker = mediaTypes === "docker";
  const layerBytes = layers.map((size, index) => randomBytes(`${seed}/layer/${index}`, size));
  const config = encode({
    ...platform,
    config: {},
    rootfs: { type: "layers", diff_ids: layerBytes.map((bytes) => digestOf(bytes)) },
  });
  const mediaType = isDocker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.ociManifest;
  const layerType = isDocker ? MEDIA_TYPES.dockerLayer : MEDIA_TYPES.ociLayer;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: describe(config, isDocker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.ociConfig, algorithm),
    layers: layerBytes.map((bytes) => describe(bytes, layerType, algorithm)),
  };
  const bytes = new TextEncoder().encode(JSON.stringify(manifest, null, options.indent) + (options.trailer ?? ""));
  const blobs = new Map([config, ...layerBytes].map((blob) => [digestOf(blob, algorithm), blob]));
  return { ...single(bytes, mediaType, blobs, { algorithm, ...options }), platform };
}

/** An index over images and artifacts (or other indexes), with all their content. */
export function makeIndex(members: Image[], options: Pick<ImageOptions, "mediaTypes" | "tags" | "indent"> = {}): Image {
  const mediaType = options.mediaTypes === "docker" ? MEDIA_TYPES.dockerList : MEDIA_TYPES.ociIndex;
  const index = { schemaVersion: 2, mediaType, manifests: members.map(descriptorOf) };
  const bytes = new TextEncoder().encode(JSON.stringify(index, null, options.indent));
  const whole = single(bytes, mediaType, new Map(), options);
  for (const member of members) {
    for (const [digest, blob] of member.blobs) whole.blobs.set(digest, blob);
    for (const [digest, manifest] of member.manifests) whole.manifests.set(digest, manifest);
  }
  return whole;
}

export interface ArtifactOptions {
  artifactType?: string;
  /** The image this one refers to: it appears in that digest's referrers. */
  subject?: Image;
  blobs?: Uint8Array[];
  tags?: string[];
  annotations?: Record<string, string>;
}

/** An OCI 1.1 artifact: an empty config, any blobs, perhaps a subject. Untagged unless told. */
export function makeArtifact(options: ArtifactOptions = {}): Image {
  const artifactType = options.artifactType ?? "application/vnd.example.artifact";
  const config = encode({});
  const blobs = options.blobs ?? [new TextEncoder().encode("artifact")];
  const { platform: _, ...subject } = options.subject ? descriptorOf(options.subject) : {};
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    artifactType,
    config: describe(config, MEDIA_TYPES.ociEmpty),
    layers: blobs.map((bytes) => describe(bytes, "application/octet-stream")),
    ...(options.subject && { subject }),
    ...(options.annotations && { annotations: options.annotations }),
  };
  const content = new Map([config, ...blobs].map((blob) => [digestOf(blob), blob]));
  return { ...single(encode(manifest), MEDIA_TYPES.ociManifest, content, { tags: options.tags ?? [] }), artifactType };
}

/** `"sha256:…"` of the bytes. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = "sha256"): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

/** The seed's key stream: looks random, does not compress, about 2 GB/s. */
export function randomBytes(seed: string, size: number): Uint8Array {
  const cipher = createCipheriv("aes-256-ctr", createHash("sha256").update(seed).digest(), Buffer.alloc(16));
  const bytes = new Uint8Array(size);
  const zeros = Buffer.alloc(Math.min(size, 1 << 20));
  for (let at = 0; at < size; at += zeros.length) bytes.set(cipher.update(zeros.subarray(0, size - at)), at);
  return bytes;
}

export function descriptorOf(image: Image): Descriptor {
  const manifest = image.manifests.get(image.digest);
  if (manifest === undefined) throw new Error(`image does not hold its own manifest ${image.digest}`);
  return {
    mediaType: image.mediaType,
    digest: image.digest,
    size: manifest.bytes.length,
    ...(image.artifactType !== undefined && { artifactType: image.artifactType }),
    ...(image.platform && { platform: image.platform }),
  };
}

/** An image of one given manifest and its blobs, tagged `latest` unless told. */
export function single(
  bytes: Uint8Array,
  mediaType: string,
  blobs: Map<string, Uint8Array>,
  options: Pick<ImageOptions, "tags" | "algorithm"> = {},
): Image {
  const digest = digestOf(bytes, options.algorithm);
  const tags = new Map((options.tags ?? ["latest"]).map((tag) => [tag, digest]));
  return { digest, mediaType, blobs, manifests: new Map([[digest, { bytes, mediaType }]]), tags };
}

export function describe(bytes: Uint8Array, mediaType: string, algorithm?: Algorithm): Descriptor {
  return { mediaType, digest: digestOf(bytes, algorithm), size: bytes.length };
}

export function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
