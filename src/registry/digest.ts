/**
 * A Digest names content by its hash: `sha256:` and 64 lower-case hex digits (protocol R10, OCI image-spec descriptor.md).
 * Only the grammar is checked here; hashing bytes and comparing is left to whoever reads them.
 */

export interface Digest {
  /** `"sha256"`, `"sha512"`, or another algorithm that fits the grammar. */
  readonly algorithm: string;
  /** What stands behind the colon. */
  readonly encoded: string;
  /** The whole digest as written: `"sha256:e3b0c4…"`. */
  readonly text: string;
}

/** The longest registered digest is sha512 with 135 characters; a longer name than this is no digest but an attack. */
const MAX_DIGEST_LENGTH = 255;

const GRAMMAR = /^([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)$/;

/** The algorithms whose bytes we can verify, with what must stand behind their colon: upper-case hex is refused. */
const VERIFIABLE: ReadonlyMap<string, RegExp> = new Map([
  ["sha256", /^[a-f0-9]{64}$/],
  ["sha512", /^[a-f0-9]{128}$/],
]);

/**
 * Reads a digest. Unregistered algorithms pass when they fit the grammar, so that they can be handed through
 * (protocol R11); whether their bytes can be checked, `isVerifiable` says.
 * @returns undefined when the text is no digest, also when sha256 or sha512 has the wrong length or case
 */
export function parseDigest(text: string): Digest | undefined {
  if (text.length > MAX_DIGEST_LENGTH) return undefined;
  const match = GRAMMAR.exec(text);
  const algorithm = match?.[1];
  const encoded = match?.[2];
  if (algorithm === undefined || encoded === undefined) return undefined;
  const exact = VERIFIABLE.get(algorithm);
  if (exact !== undefined && !exact.test(encoded)) return undefined;
  return { algorithm, encoded, text };
}

/** True when content can be checked against this digest: sha256 and sha512. Nothing else is ever kept (protocol R11). */
export function isVerifiable(digest: Digest): boolean {
  return VERIFIABLE.has(digest.algorithm);
}
