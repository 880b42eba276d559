import { describe, expect, test } from "bun:test";
import {
  digestOf,
  makeArtifact,
  makeImage,
  makeIndex,
  MEDIA_TYPES,
  randomBytes,
  type Image,
} from "../../support/images.ts";
import {
  EMPTY_DIGEST,
  makeEmptyBlobImage,
  makeLargeManifest,
  makeNestedIndex,
  makeOddlySpacedImage,
  makeSchema1,
  makeSha512Image,
} from "../../support/odd-images.ts";

const bytesOf = (image: Image): Uint8Array => image.manifests.get(image.digest)?.bytes ?? new Uint8Array();
const jsonOf = (image: Image) => JSON.parse(new TextDecoder().decode(bytesOf(image)));

describe("makeImage()", () => {
  test("gives the same digest on every run, and another for another seed", () => {
    expect(makeImage({ layers: [1, 2, 3], seed: "s" }).digest).toBe(
      "sha256:5d4d91f7d4f926c7c9e41eb3de9f827cc0d87cd19afa0e326cb4e3976332d43b",
    );
    expect(makeImage({ layers: [1, 2, 3], seed: "t" }).digest).not.toBe(
      makeImage({ layers: [1, 2, 3], seed: "s" }).digest,
    );
  });

  test("describes every blob with its digest and size, in both families of media types", () => {
    for (const mediaTypes of ["oci", "docker"] as const) {
      const image = makeImage({ layers: [10, 0, 70_000], mediaTypes });
      const { config, layers } = jsonOf(image);
      for (const { digest, size } of [config, ...layers]) expect(image.blobs.get(digest)?.length).toBe(size);
      expect(layers.map(({ size }: { size: number }) => size)).toEqual([10, 0, 70_000]);
      expect(jsonOf(image).mediaType).toBe(image.mediaType);
    }
  });
});

test("makeIndex() holds its members and their platforms", () => {
  const arm = { os: "linux", architecture: "arm", variant: "v7" };
  const members = [makeImage({ seed: 1 }), makeImage({ seed: 2, platform: arm })];
  const index = makeIndex(members, { mediaTypes: "docker", tags: ["v1"] });
  expect(index.mediaType).toBe(MEDIA_TYPES.dockerList);
  expect(jsonOf(index).manifests[1].platform).toEqual(arm);
  expect([...index.manifests.keys()].sort()).toEqual([index, ...members].map(({ digest }) => digest).sort());
  expect([...index.tags]).toEqual([["v1", index.digest]]);
});

test("makeArtifact() names its subject and type, untagged", () => {
  const subject = makeImage();
  const artifact = makeArtifact({ subject, artifactType: "a/b" });
  expect(jsonOf(artifact).subject).toEqual({
    mediaType: subject.mediaType,
    digest: subject.digest,
    size: bytesOf(subject).length,
  });
  expect([artifact.tags.size, jsonOf(artifact).artifactType]).toEqual([0, "a/b"]);
});

describe("odd images", () => {
  test("are what they claim to be", () => {
    const spaced = makeOddlySpacedImage();
    expect(digestOf(bytesOf(spaced))).toBe(spaced.digest);
    expect(JSON.stringify(jsonOf(spaced)).length).toBeLessThan(bytesOf(spaced).length);
    expect(makeEmptyBlobImage().blobs.get(EMPTY_DIGEST)?.length).toBe(0);
    expect(makeSha512Image().digest).toMatch(/^sha512:[0-9a-f]{128}$/);
    expect(bytesOf(makeLargeManifest()).length).toBe(4_194_304);
    expect(jsonOf(makeNestedIndex()).manifests[0].mediaType).toBe(MEDIA_TYPES.ociIndex);
  });

  test("makeSchema1() is addressed by its payload, which can be got back as clients do", () => {
    const image = makeSchema1();
    const text = new TextDecoder().decode(bytesOf(image));
    expect(digestOf(bytesOf(image))).not.toBe(image.digest);
    const frame = JSON.parse(Buffer.from(jsonOf(image).signatures[0].protected, "base64url").toString());
    const payload = text.slice(0, frame.formatLength) + Buffer.from(frame.formatTail, "base64url").toString();
    expect(digestOf(new TextEncoder().encode(payload))).toBe(image.digest);
  });
});

test("randomBytes() is one stream whatever its length", () => {
  const long = randomBytes("x", 3 * 1024 * 1024 + 5);
  expect(long.length).toBe(3_145_733);
  expect(digestOf(long.subarray(0, 1000))).toBe(digestOf(randomBytes("x", 1000)));
});
