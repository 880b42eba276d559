/**
 * What this program was built from. The build gives the values by `--define BUILD_VERSION='"1.2.3"'` and so on; from
 * source they are those of the checkout.
 */
import { version } from "../../package.json";
import type { BuildInfo } from "../config/settings.ts";

declare const BUILD_VERSION: string;
declare const BUILD_COMMIT: string;
declare const BUILD_TIME: string;

export const BUILD: BuildInfo = {
  version: typeof BUILD_VERSION === "undefined" ? version : BUILD_VERSION,
  commit: typeof BUILD_COMMIT === "undefined" ? "unknown" : BUILD_COMMIT,
  builtAt: typeof BUILD_TIME === "undefined" ? "unknown" : BUILD_TIME,
  bun: Bun.version,
};

/** `layover 1.2.3 (commit abc1234, built 2026-11-20T10:00:00Z, Bun 1.4.5)`. */
export function versionText({ version: number, commit, builtAt, bun }: BuildInfo): string {
  return `layover ${number} (commit ${commit}, built ${builtAt}, Bun ${bun})\n`;
}
