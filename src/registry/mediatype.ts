/**
 * The media types of manifests, and what we ask upstream for. Types are compared without parameters and without regard to
 * case; what is sent to clients is the exact type the registry sent (protocol R22, R23).
 */

export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
/** Withdrawn from the image-spec before 1.1, still stored in registries. */
export const OCI_ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
export const DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
/** Its digest is over the payload without the signatures, so the bytes never hash to it (protocol R217). */
export const DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/**
 * What is asked upstream when the client did not say: without an Accept some registries answer schema1 or one platform
 * of many (protocol R29).
 */
export const DEFAULT_ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"].join(", ");

const MANIFEST_TYPES: ReadonlySet<string> = new Set([
  OCI_INDEX,
  OCI_MANIFEST,
  OCI_ARTIFACT_MANIFEST,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
]);

/** The type without parameters, lower case: `"Text/HTML; charset=utf-8"` → `"text/html"`; `""` when there is none. */
export function bareType(contentType: string | null | undefined): string {
  const [type = ""] = (contentType ?? "").split(";", 1);
  return type.trim().toLowerCase();
}

/** True for every manifest and index type, schema1 included. */
export function isManifestType(contentType: string | null | undefined): boolean {
  return MANIFEST_TYPES.has(bareType(contentType));
}

/** True for the two schema1 types, which are handed through and never kept (protocol R217). */
export function isSchema1Type(contentType: string | null | undefined): boolean {
  const type = bareType(contentType);
  return type === DOCKER_SCHEMA1 || type === DOCKER_SCHEMA1_SIGNED;
}
