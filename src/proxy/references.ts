/** Which digests a manifest or index names: for eviction, which must not take the layers of an image that is kept. */

import { isVerifiable, parseDigest } from "../registry/digest.ts";

/** Manifests have tens of layers, indexes hundreds of members; beyond this nobody's image is meant. */
const MAX_REFERENCES = 10_000;

/** Digests of members, config and layers, each once; empty for what cannot be read. */
export function childrenOf(manifest: Uint8Array): string[] {
  const document = parsed(manifest);
  if (document === undefined) return [];
  const descriptors = [document["config"], ...listOf(document["layers"]), ...listOf(document["manifests"])];
  const digests = descriptors.map(digestOf).filter((digest) => digest !== undefined);
  return [...new Set(digests)].slice(0, MAX_REFERENCES);
}

function parsed(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined; // schema 1 and the like: nothing is known of what it names
  }
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function digestOf(descriptor: unknown): string | undefined {
  if (!isRecord(descriptor) || typeof descriptor["digest"] !== "string") return undefined;
  const digest = parseDigest(descriptor["digest"]);
  // What cannot be kept needs no keeping; and any text that a manifest has there would be written into the records.
  return digest !== undefined && isVerifiable(digest) ? digest.text : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
