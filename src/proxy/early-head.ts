/**
 * The head of a blob that a fill downloads. Clients give up on a head that does not come (protocol R174); a registry may need
 * minutes for a blob's first byte and still say at once that it has it (lesson T4). So when it was silent for ten seconds it
 * is asked by HEAD, and what that shows is told to the client while the download goes on waiting.
 *
 * Nothing is told that no answer showed: after a head only a broken connection says that the blob cannot be had.
 */
import type { Fill } from "../cache/fill.ts";
import { RegistryError, UpstreamError } from "../errors.ts";
import type { RegistryRequest } from "./access.ts";
import { errorOfFailure } from "./refusal.ts";

export interface BlobHead {
  readonly totalBytes: number | undefined;
}

/** A third of what clients wait, and more than a registry takes that fetches the blob from its storage. */
const SILENCE_MS = 10_000;

/**
 * The fill's head, what `shownBytes` tells when the registry is silent, or the end of the client's patience, whichever is first.
 * @param shownBytes asks whether the registry has the blob, and how long it is; undefined when that is not known for sure
 * @throws RegistryError 503 when the time is over; what the fill's source threw; 503 too for an upstream that said nothing for
 * `--idle-timeout`, where that is shorter than the time for headers
 */
export async function headOf(
  fill: Fill,
  { exchange, deadlineMs }: RegistryRequest,
  shownBytes: () => Promise<number | undefined> = async () => undefined,
): Promise<BlobHead> {
  const head = Promise.withResolvers<BlobHead>();
  const giveUp = () =>
    head.reject(new RegistryError("UNAVAILABLE", "the registry did not answer in time", { status: 503 }));
  const askElse = async (): Promise<void> => {
    // When that is not answered either, the fill's answer or the end of the time says what to tell.
    const totalBytes = await shownBytes().catch(() => undefined);
    if (totalBytes !== undefined) head.resolve({ totalBytes });
  };
  const late = setTimeout(giveUp, Math.max(0, deadlineMs - performance.now()));
  const silent = setTimeout(() => void askElse(), SILENCE_MS);
  exchange.signal.addEventListener("abort", giveUp, { once: true });
  fill.head.then(head.resolve, (error: unknown) =>
    head.reject(error instanceof UpstreamError ? errorOfFailure(error) : error),
  );
  try {
    return await head.promise;
  } finally {
    clearTimeout(late);
    clearTimeout(silent);
    exchange.signal.removeEventListener("abort", giveUp);
  }
}
