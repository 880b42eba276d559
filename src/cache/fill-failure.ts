/** What a failure of a fill means. */
import { RegistryError, UpstreamError } from "../errors.ts";
import { StoreError } from "./store.ts";

/** The upstream was asked for bytes behind the end. */
export function isBeyondEnd(error: unknown): boolean {
  return error instanceof RegistryError && error.status === 416;
}

/** Wrong content is the upstream's fault, whoever noticed. */
export function clientErrorOf(cause: unknown): unknown {
  if (!(cause instanceof StoreError) || cause.kind !== "mismatch") return cause;
  return new UpstreamError("bad-answer", cause.message, { cause });
}
