/**
 * Which headers pass, and in which form. Both directions are allow-lists: what is not named here goes nowhere, so that no
 * cookie, quota, storage vendor's header or protocol hint of an upstream reaches a client (protocol R219, R220).
 */
import type { HeaderLine } from "../errors.ts";
import { parseWarnings } from "./warning.ts";

/** On each answer below /v2/: old clients look for it (protocol R5). */
export const API_VERSION: HeaderLine = ["Docker-Distribution-API-Version", "registry/2.0"];

/** Answers about the client or the moment: no cache in between may give them to somebody else or later (protocol R115, R227, R232). */
export const NEVER_KEPT: HeaderLine = ["Cache-Control", "no-store, no-transform"];

/** Layers and manifests are never HTML, whatever somebody pushed (protocol R250), and nobody may re-encode them (R227, R228). */
export const CONTENT_LINES: readonly HeaderLine[] = [
  ["X-Content-Type-Options", "nosniff"],
  ["Content-Security-Policy", "sandbox"],
];

/** Of an upstream's answer, what a client may see besides what we compute ourselves. */
const PASSED_DOWN = ["oci-filters-applied", "oci-chunk-min-length"] as const;

const CANONICAL: Record<(typeof PASSED_DOWN)[number], string> = {
  "oci-filters-applied": "OCI-Filters-Applied",
  "oci-chunk-min-length": "OCI-Chunk-Min-Length",
};

/** The lines of an upstream's answer that go on to the client; warnings one per line (protocol R37, R38). */
export function passedDown(headers: Headers): HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (const name of PASSED_DOWN) {
    const value = headers.get(name);
    if (value !== null) lines.push([CANONICAL[name], value]);
  }
  for (const warning of parseWarnings(headers.get("warning") ?? "")) lines.push(["Warning", warning]);
  return lines;
}

/** A strong validator from the content itself (protocol R44). */
export function etagOf(digest: string): string {
  return `"${digest}"`;
}

/** Does `If-None-Match` name this content? `*` matches whatever there is. */
export function matchesEtag(ifNoneMatch: string | null, digest: string): boolean {
  if (ifNoneMatch === null) return false;
  return ifNoneMatch.split(",").some((entry) => {
    const tag = entry.trim();
    return tag === "*" || tag.replace(/^W\//, "") === etagOf(digest);
  });
}

/** Content named by digest never changes, a tag may at any moment. `private`: who may read it is decided per request. */
export function cacheControl(reference: "digest" | "tag"): HeaderLine {
  return [
    "Cache-Control",
    reference === "digest" ? "private, max-age=31536000, no-transform" : "private, no-cache, no-transform",
  ];
}

/** A Retry-After that clients can read, seconds or a date (RFC 9110 section 10.2.3); undefined for anything else an upstream sends. */
export function readableRetryAfter(value: string | null | undefined): string | undefined {
  if (value === null || value === undefined) return undefined;
  return /^\d{1,9}$/.test(value) || /^[A-Za-z]{3}, \d{2} [A-Za-z]{3} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(value)
    ? value
    : undefined;
}
