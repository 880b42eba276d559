/**
 * Sealed values: what we hand to a client and want back unread and unchanged (AES-256-GCM). A client token is a sealed
 * note of who logged in; nothing is kept on our side, so restarts and several processes with one key all accept it.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";

export interface Sealer {
  /** base64url, safe in an Authorization header. */
  seal(value: unknown): string;
  /** The value, or undefined for anything this key did not seal. */
  open(sealed: string): unknown;
  /** A keyed hash of the parts, for cache keys that must not reveal a secret. */
  fingerprint(...parts: string[]): string;
}

/** First byte of each sealed value: tells a later format apart. */
const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Longer than any value we make (a credential is refused above 4 KiB), so that garbage costs nothing. */
const MAX_SEALED_CHARACTERS = 16_384;

/** @param key 32 bytes */
export function createSealer(key: Uint8Array): Sealer {
  return {
    seal(value) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", key, nonce);
      const text = Buffer.concat([cipher.update(JSON.stringify(value), "utf8"), cipher.final()]);
      return Buffer.concat([Buffer.of(VERSION), nonce, text, cipher.getAuthTag()]).toString("base64url");
    },
    open(sealed) {
      if (sealed.length > MAX_SEALED_CHARACTERS) return undefined;
      const bytes = Buffer.from(sealed, "base64url");
      if (bytes.length <= 1 + NONCE_BYTES + TAG_BYTES || bytes[0] !== VERSION) return undefined;
      const text = decrypt(key, bytes);
      return text === undefined ? undefined : JSON.parse(text);
    },
    fingerprint(...parts) {
      const hash = createHmac("sha256", key);
      // The length goes first: ("a", "bc") and ("ab", "c") must differ.
      for (const part of parts) hash.update(`${part.length}:${part}`);
      return hash.digest("base64url");
    },
  };
}

function decrypt(key: Uint8Array, bytes: Buffer): string | undefined {
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(1, 1 + NONCE_BYTES));
  decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
  const text = decipher.update(bytes.subarray(1 + NONCE_BYTES, bytes.length - TAG_BYTES));
  try {
    return Buffer.concat([text, decipher.final()]).toString("utf8");
  } catch {
    return undefined; // the tag does not fit: forged, cut, or sealed by another key
  }
}
