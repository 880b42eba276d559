/**
 * The secrets of configured credentials, as they are now. Each belongs to one upstream origin; where it comes from, its
 * source says.
 */
import { createHash } from "node:crypto";
import type { ConfiguredCredential } from "../registry/registry.ts";
import type { Credential } from "./request.ts";

export interface Credentials {
  /** @throws UpstreamError `token` when the source gives none */
  current(configured: ConfiguredCredential): Promise<Credential>;
}

export function createCredentials(): Credentials {
  return {
    current: ({ origin, username, password }) =>
      // A new password under an old name must not use the old one's tokens.
      Promise.resolve({ origin, id: `configured:${origin}:${username}:${hashOf(password)}`, username, password }),
  };
}

function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}
