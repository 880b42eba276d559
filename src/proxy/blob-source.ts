/**
 * How a registry is asked for a blob, and what of its answer is the blob: whole, or the part that was asked for. Whether
 * the bytes are right is found out by who reads them.
 */
import type { SourceBody, WantedBytes } from "../download/download.ts";
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import type { Digest } from "../registry/digest.ts";
import { formatRange, parseContentRange, type SingleRange } from "../registry/range.ts";
import type { UpstreamResponse } from "../upstream/client.ts";
import type { Question, RegistryRequest } from "./access.ts";
import { errorOfAnswer, errorOfFailure } from "./refusal.ts";

/** Asks for a blob, or one range of it. */
export function question(method: "GET" | "HEAD", digest: Digest, range: SingleRange | undefined): Question {
  const headers: HeaderLine[] = [["Accept", "*/*"]];
  if (range !== undefined) headers.push(["Range", formatRange(range)]);
  return { method, path: `blobs/${digest.text}`, query: "", headers };
}

/** The range to ask for; undefined when the whole is wanted. */
function rangeOf({ first, last }: WantedBytes): SingleRange | undefined {
  return first === 0 && last === undefined ? undefined : { first, last };
}

/** It may break once or twice, as connections do; then it is stand-ins' turn, where there are any. */
const MAX_BREAKS = 1;

/** What one download asks, turn by turn. */
export interface Questions {
  /** Who broke off is asked last; of one more connection than is needed nobody expects patience. */
  about(wanted: WantedBytes): Question;
  /** To be told who answered what. */
  answered(wanted: Pick<WantedBytes, "isExtra">, response: Pick<UpstreamResponse, "upstream">): void;
}

export function createQuestions(digest: Digest): Questions {
  let answeredLast: string | undefined;
  return {
    about: (wanted) => ({
      ...question("GET", digest, rangeOf(wanted)),
      standIns: standInsFor(wanted),
      transfer: wanted.isExtra ? "if-free" : "wait",
      askLast: wanted.breaks > 0 ? answeredLast : undefined,
    }),
    answered({ isExtra }, { upstream }) {
      if (!isExtra) answeredLast = upstream.origin; // another connection's upstream did not break off here
    },
  };
}

/** Whether stand-ins are asked after its registry, or first, where that breaks again and again. */
export function standInsFor({ breaks, isExtra }: Pick<WantedBytes, "breaks" | "isExtra">): "after" | "first" | "never" {
  if (isExtra) return "never"; // its registry gives the content already
  return breaks > MAX_BREAKS ? "first" : "after";
}

/** The registry does not show the blob to this reader. */
export class RefusedToAll extends RegistryError {}

/** The upstream's body for a download at `offset`. @throws RegistryError for every answer that is not the blob */
export async function bodyOf(
  response: UpstreamResponse,
  request: RegistryRequest,
  offset: number,
): Promise<SourceBody> {
  const { status, headers, body, refuse } = response;
  if (status === 401 || status === 403) {
    await body?.cancel();
    throw new RefusedToAll("BLOB_UNKNOWN", "blob unknown or not readable without a login");
  }
  if ((status !== 200 && status !== 206) || body === null) throw await errorOfAnswer(response, request);
  if ((headers.get("content-type") ?? "").startsWith("text/html")) {
    refuse?.("page");
    await body.cancel();
    throw errorOfFailure(new UpstreamError("bad-answer", "expected a blob, got text/html"));
  }
  const host = hostForRanges(response);
  if (status === 200) {
    const length = headers.get("content-length");
    return { body, offset: 0, totalBytes: length === null ? undefined : Number(length), host, refuse };
  }
  const part = parseContentRange(headers.get("content-range"));
  if (part?.first !== offset) refuse?.("part");
  return { body, offset: part?.first ?? NO_OFFSET, totalBytes: part?.total, host, refuse };
}

/** Who may be asked for several parts at once: by the registry's name, since its storage has many; undefined when it says no. */
export function hostForRanges({ headers, upstream }: UpstreamResponse): string | undefined {
  return headers.get("accept-ranges") === "none" ? undefined : upstream.origin;
}

/** A part that does not say where it begins; the download refuses it. */
const NO_OFFSET = -1;
