/**
 * Images as they come in life: one byte to eight megabytes a layer, many layers and few, OCI and Docker types, indexes of
 * several platforms, and bases that many share.
 */
import { type Image, makeImage, makeIndex } from "../support/images.ts";

export interface ChaosImage {
  /** `"chaos/image3"`; its tag is `latest`. */
  readonly repository: string;
  readonly image: Image;
}

const KB = 1000;
const MB = 1000 * KB;
/** Layers that come before an image's own: the same bytes in all images of a family. */
const BASES: readonly (readonly number[])[] = [[2_300 * KB, 64 * KB], [900 * KB, 1, 32], [5 * MB], [40 * KB, 300]];
/** An image's own layers, behind those of its base. */
const TOPS: readonly (readonly number[])[] = [
  [1, 700, 12 * KB, 90 * KB],
  [8 * MB],
  [1500 * KB, 1500 * KB, 3],
  [256 * KB],
  [3 * MB, 17 * KB],
  [50, 60, 70, 80, 90, 100, 110, 120, 4 * KB],
  [6_100 * KB, 700 * KB],
];

/** @param seed put into the bytes, so that two runs never mean one content @param count how many images */
export function chaosImages(seed: string, count: number): ChaosImage[] {
  return Array.from({ length: count }, (_, number) => {
    const types = number % 2 === 0 ? "oci" : "docker";
    const make = (variant: string): Image => imageOf(seed, { number, variant, types });
    const image = number % 3 === 2 ? makeIndex([make("amd64"), make("arm64")], { mediaTypes: types }) : make("amd64");
    return { repository: `chaos/image${number}`, image };
  });
}

interface Kind {
  readonly number: number;
  readonly variant: string;
  readonly types: "oci" | "docker";
}

function imageOf(seed: string, { number, variant, types }: Kind): Image {
  const base = BASES[number % BASES.length] ?? [];
  // A few bytes more make each image's own layers differ from those of the same place in another.
  const own = (TOPS[number % TOPS.length] ?? []).map((bytes) => bytes + (bytes > 10 ? number * 2 : 0));
  const more = variant === "amd64" ? own : own.slice(0, 1).map((bytes) => bytes + 1);
  return makeImage({
    seed: `${seed}/${number % BASES.length}`,
    layers: [...base, ...more],
    mediaTypes: types,
    platform: { os: "linux", architecture: variant },
  });
}
