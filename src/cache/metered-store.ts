/**
 * A Store that tells of its failures, whoever met them and however sparingly they are logged (lesson T19). It
 * changes nothing else: errors go on to who asked.
 */
import { errorCode } from "./disk.ts";
import { type Spool, type Store, StoreError } from "./store.ts";

/** `full`: no room in budget or on disk; `read-only`: the directory may not be written; `broken`: anything else. */
export type StoreFailure = "full" | "read-only" | "broken";

/** Told of each failure, at once; must not throw. */
export interface StoreMeter {
  failed(failure: StoreFailure): void;
}

const READ_ONLY_CODES: ReadonlySet<string> = new Set(["EROFS", "EACCES", "EPERM"]);

export function meteredStore(store: Store, meter: StoreMeter): Store {
  /** Wrong content is no failure of the store. */
  function tell(error: unknown): never {
    const isFailure = error instanceof StoreError && error.kind !== "mismatch";
    if (isFailure) meter.failed(failureOf(error));
    throw error;
  }

  function meteredSpool(spool: Spool): Spool {
    return {
      digest: spool.digest,
      get length() {
        return spool.length;
      },
      append: (bytes) => spool.append(bytes).catch(tell),
      expect: (totalBytes) => spool.expect(totalBytes).catch(tell),
      open: () => spool.open(),
      verify: () => spool.verify().catch(tell),
      commit: () => spool.commit().catch(tell),
      suspend: () => spool.suspend(),
      discard: () => spool.discard(),
    };
  }

  return {
    ...store,
    find: (digest) => store.find(digest).catch(tell),
    open: (digest) => store.open(digest).catch(tell),
    spool: (digest, expectedBytes) => store.spool(digest, expectedBytes).then(meteredSpool, tell),
    remove: (digest) => store.remove(digest).catch(tell),
    verify: (digest, signal) => store.verify(digest, signal).catch(tell),
  };
}

function failureOf(error: StoreError): StoreFailure {
  if (error.kind === "full") return "full";
  return READ_ONLY_CODES.has(errorCode(error.cause) ?? "") ? "read-only" : "broken";
}
