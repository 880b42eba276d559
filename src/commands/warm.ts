/**
 * `layover warm`: pulls images into the cache, several at once with few transfers, and tells what became of each. Exit code
 * 1 when one could not be had; the others are there then.
 */
import { type ImageName, imageText } from "../registry/image.ts";
import type { Platforms } from "./platform.ts";
import { sizeText } from "./table.ts";
import { warmImage, WarmError, type Warmed } from "./warm-image.ts";
import type { WarmProgress } from "./warm-progress.ts";

export interface WarmOptions {
  readonly images: readonly ImageName[];
  readonly platforms: Platforms;
}

export interface WarmDependencies {
  ask(path: string, headers: Record<string, string>): Promise<Response>;
  readonly progress: WarmProgress;
}

/** Images whose manifests or blobs are being asked for: as many bars as one looks at. */
const IMAGES_AT_ONCE = 4;
/** Enough to fill a line; registries slow down those who ask for more. */
const TRANSFERS_AT_ONCE = 6;

export async function warm({ images, platforms }: WarmOptions, dependencies: WarmDependencies): Promise<0 | 1> {
  const { ask, progress } = dependencies;
  const takeTurn = createTurns(TRANSFERS_AT_ONCE);
  const takeImage = createTurns(IMAGES_AT_ONCE);
  const width = Math.max(...images.map((image) => imageText(image).length));

  async function one(image: ImageName): Promise<Warmed | undefined> {
    const name = imageText(image);
    const bar = progress.begin(name);
    try {
      const warmed = await warmImage(image, platforms, { ask, takeTurn, progress: bar.update });
      bar.end();
      progress.say(`ok    ${name.padEnd(width)}  ${amountText(warmed)}`);
      return warmed;
    } catch (error) {
      bar.end();
      // A connection that breaks is this image's failure as well; the others may still come.
      const reason = error instanceof Error ? error.message : String(error);
      progress.say(`FAIL  ${name.padEnd(width)}  ${error instanceof WarmError ? reason : `no answer: ${reason}`}`);
      return undefined;
    }
  }

  const results = await Promise.all(images.map((image) => takeImage(() => one(image))));
  const good = results.filter((result) => result !== undefined);
  const sum = (bytes: (warmed: Warmed) => number) => good.reduce((total, warmed) => total + bytes(warmed), 0);
  const total = { fetchedBytes: sum(({ fetchedBytes }) => fetchedBytes), keptBytes: sum(({ keptBytes }) => keptBytes) };
  progress.say(`\n${good.length} of ${images.length} images are in the cache: ${amountText(total)}`);
  progress.close();
  return good.length === images.length ? 0 : 1;
}

function amountText({ fetchedBytes, keptBytes }: Warmed): string {
  if (keptBytes === 0) return `${sizeText(fetchedBytes)} fetched`;
  return fetchedBytes === 0
    ? `${sizeText(keptBytes)} were there`
    : `${sizeText(fetchedBytes)} fetched, ${sizeText(keptBytes)} were there`;
}

/** At most so many at once, the others in the order they came. */
function createTurns(most: number): <T>(action: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (action) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await action();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
