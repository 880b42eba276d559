/** Platforms as people write them (`linux/arm64/v8`) and as an index names them (OCI image-spec image-index.md). */

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** What is to be pulled of an image that has several platforms. */
export type Platforms = "all" | readonly Platform[];

/** Architectures under the names that images use. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

/** @throws Error that says what was expected and what came */
export function parsePlatforms(texts: readonly string[]): Platforms {
  const words = texts.flatMap((text) => text.split(",")).map((word) => word.trim());
  if (words.includes("all")) return "all";
  return words.map((word) => {
    const match = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9.]+))?$/.exec(word);
    const [, os = "", architecture = "", variant] = match ?? [];
    if (match === null)
      throw new Error(`expected all or a platform such as linux/arm64 or linux/arm/v7, got ${JSON.stringify(word)}`);
    return { os, architecture, variant };
  });
}

/** Containers are Linux's, whatever runs this. @param arch as `process.arch` has it */
export function platformOfMachine(arch: string): Platform {
  return { os: "linux", architecture: ARCHITECTURES[arch] ?? arch, variant: undefined };
}

/** Where a variant is not asked for, each fits. */
export function fits(asked: Platform, offered: Platform): boolean {
  if (asked.os !== offered.os || asked.architecture !== offered.architecture) return false;
  if (asked.variant === undefined || asked.variant === offered.variant) return true;
  // arm64 has one variant, which most indexes leave out.
  return asked.architecture === "arm64" && asked.variant === "v8" && offered.variant === undefined;
}

export function platformText({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join("/");
}
