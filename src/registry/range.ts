/**
 * Range and Content-Range in bytes (RFC 9110 section 14; protocol R265–R273). A range counts only on a GET of a blob: for
 * HEAD and manifests nobody asks here (protocol R273). Positions are offsets into the content, both ends included.
 */

export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

export type RequestedRange =
  | { readonly kind: "whole" }
  | { readonly kind: "ranges"; readonly ranges: readonly ByteRange[] }
  | { readonly kind: "unsatisfiable" };

/** One range as the client wrote it, before the total is known. */
export type SingleRange = { readonly first: number; readonly last: number | undefined } | { readonly suffix: number };

/** Lazy pullers ask for some hundred pieces in one request (protocol R188, R269); more is an attack, and gets the whole. */
const MAX_RANGES = 1000;
/** A thousand ranges of two twelve-digit numbers fit. */
const MAX_HEADER_LENGTH = 32 * 1024;

/**
 * What of `totalBytes` the client asks for. Without a header, in another unit or malformed: `whole`, as RFC 9110 section
 * 14.2 has it, except that a last before its first is `unsatisfiable` (protocol R268). Ranges keep the client's order and
 * lie within the total; those beyond it are dropped. Ranges that together are longer than the content overlap beyond
 * reason and get the whole.
 */
export function parseRange(header: string | null | undefined, totalBytes: number): RequestedRange {
  const specs = parseSpecs(header);
  if (specs === undefined) return { kind: "whole" };
  if (specs.some(isInverted)) return { kind: "unsatisfiable" };
  // Nothing in Content-Range can say "the last n bytes of nothing" (protocol R266).
  if (totalBytes === 0 && specs.some((spec) => "suffix" in spec && spec.suffix > 0)) return { kind: "whole" };
  const ranges = specs.map((spec) => resolve(spec, totalBytes)).filter((range) => range !== undefined);
  if (ranges.length === 0) return { kind: "unsatisfiable" };
  const askedBytes = ranges.reduce((sum, range) => sum + range.last - range.first + 1, 0);
  return askedBytes > totalBytes ? { kind: "whole" } : { kind: "ranges", ranges };
}

/**
 * The one range of a header, to be sent upstream without knowing the total: storage behind registries answers several
 * with errors or with everything (protocol R141, R270).
 * @returns undefined for no range, several, a last before its first, or anything malformed: then ask for the whole
 */
export function singleRange(header: string | null | undefined): SingleRange | undefined {
  const [spec, ...more] = parseSpecs(header) ?? [];
  if (spec === undefined || more.length > 0 || isInverted(spec)) return undefined;
  const numbers = "suffix" in spec ? [spec.suffix] : [spec.first, spec.last ?? 0];
  return numbers.every(Number.isSafeInteger) ? spec : undefined;
}

/** The value of a Range header: `bytes=5-9`, `bytes=5-`, `bytes=-5`. */
export function formatRange(range: SingleRange): string {
  return "suffix" in range ? `bytes=-${range.suffix}` : `bytes=${range.first}-${range.last ?? ""}`;
}

/**
 * Reads the Content-Range of a 206.
 * @returns undefined when it is malformed, in another unit, contradicts itself, or is that of a 416 (no range at all);
 *   `total` is undefined where upstream wrote `*`
 */
export function parseContentRange(
  value: string | null | undefined,
): { first: number; last: number; total: number | undefined } | undefined {
  const match = /^bytes[ \t]+([0-9]+)-([0-9]+)\/(?:([0-9]+)|\*)$/i.exec((value ?? "").trim());
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2]);
  const total = match[3] === undefined ? undefined : Number(match[3]);
  const isSound = first <= last && Number.isSafeInteger(last) && (total === undefined || last < total);
  return isSound && Number.isSafeInteger(total ?? 0) ? { first, last, total } : undefined;
}

/**
 * The value of Content-Range: `bytes 0-9/100` for a range; for a 416, which has none, a star in its place. The total is
 * always digits, since some clients read nothing else (protocol R265).
 */
export function formatContentRange(range: ByteRange | undefined, totalBytes: number): string {
  return range === undefined ? `bytes */${totalBytes}` : `bytes ${range.first}-${range.last}/${totalBytes}`;
}

/** The ranges of a header as written, or undefined when the header is to be ignored. */
function parseSpecs(header: string | null | undefined): SingleRange[] | undefined {
  if (header === null || header === undefined || header.length > MAX_HEADER_LENGTH) return undefined;
  const set = /^[ \t]*bytes=(.*)$/i.exec(header)?.[1];
  if (set === undefined) return undefined;
  // Empty list elements are legal (RFC 9110 section 5.6.1).
  const elements = set.split(",").map((element) => element.trim());
  const written = elements.filter((element) => element !== "");
  const specs = written.map(parseSpec).filter((spec) => spec !== undefined);
  const isSound = specs.length > 0 && specs.length === written.length && specs.length <= MAX_RANGES;
  return isSound ? specs : undefined;
}

function parseSpec(text: string): SingleRange | undefined {
  const match = /^([0-9]*)-([0-9]*)$/.exec(text);
  const [first = "", last = ""] = match?.slice(1) ?? [];
  if (first !== "") return { first: Number(first), last: last === "" ? undefined : Number(last) };
  return last === "" ? undefined : { suffix: Number(last) };
}

function isInverted(spec: SingleRange): boolean {
  return !("suffix" in spec) && spec.last !== undefined && spec.last < spec.first;
}

/** The piece of the content that is meant, or undefined when it lies beyond the end. */
function resolve(spec: SingleRange, totalBytes: number): ByteRange | undefined {
  if ("suffix" in spec) {
    return spec.suffix === 0 || totalBytes === 0
      ? undefined
      : { first: Math.max(0, totalBytes - spec.suffix), last: totalBytes - 1 };
  }
  if (spec.first >= totalBytes) return undefined;
  return { first: spec.first, last: Math.min(spec.last ?? Infinity, totalBytes - 1) };
}
