/**
 * Sealed values that were opened lately. A client sends its token with each request: it is deciphered once, not for each layer.
 * What did not open is not remembered, and neither is whether it has run out: that is asked of the value each time.
 */
import { LRUCache } from "lru-cache";
import type { Sealer } from "./seal.ts";

/** Some thousand tokens of a common size; what is remembered of each is about as long again. */
const MAX_CHARACTERS = 4 * 1024 * 1024;

/** As `open`; the same sealed text gives the same value, which is not to be changed. */
export function rememberOpened(open: Sealer["open"]): Sealer["open"] {
  const opened = new LRUCache<string, object>({
    maxSize: MAX_CHARACTERS,
    sizeCalculation: (_, sealed) => sealed.length,
  });
  return (sealed) => {
    const known = opened.get(sealed);
    if (known !== undefined) return known;
    const value = open(sealed);
    if (typeof value === "object" && value !== null) opened.set(sealed, value);
    return value;
  };
}
