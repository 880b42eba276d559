/** Content that is legal or met in the wild, and that careless proxies break: the ugly rows of the pull tests. */
import {
  describe,
  digestOf,
  encode,
  makeImage,
  makeIndex,
  MEDIA_TYPES,
  randomBytes,
  single,
  type Image,
} from "./images.ts";

/** The digest of nothing: a blob of length zero is legal (protocol R46). */
export const EMPTY_DIGEST = digestOf(new Uint8Array());

/** A manifest with tabs, trailing white space and no final form any serialiser would give back (protocol R24). */
export function makeOddlySpacedImage(): Image {
  return makeImage({ seed: "spaced", indent: "\t ", trailer: " \r\n\n  \t\n" });
}

/** An image whose only layer is the empty blob. */
export function makeEmptyBlobImage(): Image {
  return makeImage({ layers: [0], seed: "empty" });
}

/** An image that is addressed by sha512 all the way down (protocol R19). */
export function makeSha512Image(): Image {
  return makeImage({ layers: [3000, 7], seed: "sha512", algorithm: "sha512" });
}

/** A manifest of exactly so many bytes; the default is the largest that every client reads (protocol R45). */
export function makeLargeManifest(bytes = 4 * 1024 * 1024): Image {
  const config = encode({ os: "linux", architecture: "amd64" });
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: describe(config, MEDIA_TYPES.ociConfig),
    layers: [],
    annotations: { padding: "" },
  };
  manifest.annotations.padding = "p".repeat(bytes - encode(manifest).length);
  return single(encode(manifest), MEDIA_TYPES.ociManifest, new Map([[digestOf(config), config]]));
}

/** An index over an index over two platforms. */
export function makeNestedIndex(): Image {
  const arm64 = { os: "linux", architecture: "arm64", variant: "v8" };
  const inner = makeIndex([makeImage({ seed: "amd64" }), makeImage({ seed: "arm64", platform: arm64 })], { tags: [] });
  return makeIndex([inner]);
}

/**
 * A signed schema 1 manifest: its digest is over the payload without the signatures, so it never equals the digest of the
 * bytes that travel (protocol R217). The signature is of the right shape and nobody's.
 */
export function makeSchema1(name = "org/old"): Image {
  const layer = randomBytes("schema1", 500);
  const payload = JSON.stringify(
    {
      schemaVersion: 1,
      name,
      tag: "latest",
      architecture: "amd64",
      fsLayers: [{ blobSum: digestOf(layer) }],
      history: [{ v1Compatibility: '{"id":"0"}' }],
    },
    null,
    3,
  );
  const tail = "\n}";
  const formatted = {
    formatLength: payload.length - tail.length,
    formatTail: base64url(tail),
    time: "2016-01-01T00:00:00Z",
  };
  const signature = {
    header: { alg: "ES256", jwk: { crv: "P-256", kty: "EC", x: "AA", y: "AA" } },
    signature: base64url("nobody's signature"),
    protected: base64url(JSON.stringify(formatted)),
  };
  const signed = `${payload.slice(0, -tail.length)},\n   "signatures": ${JSON.stringify([signature])}${tail}`;
  const digest = digestOf(new TextEncoder().encode(payload));
  return {
    digest,
    mediaType: MEDIA_TYPES.schema1,
    blobs: new Map([[digestOf(layer), layer]]),
    manifests: new Map([[digest, { bytes: new TextEncoder().encode(signed), mediaType: MEDIA_TYPES.schema1 }]]),
    tags: new Map([["latest", digest]]),
  };
}

function base64url(text: string): string {
  return Buffer.from(text).toString("base64url");
}
