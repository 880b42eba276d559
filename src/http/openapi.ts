/**
 * The registry API in OpenAPI's words. Elysia cannot describe these paths, because it never parses them: a repository's
 * name may have any number of components, and `registry/endpoint` alone reads it.
 */

interface Operation {
  summary: string;
  path: string;
  /** Names of the path's parameters, with what they are. */
  parameters: Record<string, string>;
  query?: Record<string, string>;
  ok: string;
}

const NAME = "Repository, perhaps with a registry in front: library/nginx, ghcr.io/org/app, quay/org/app";
const NS = "Host of the registry that is meant: ghcr.io";

const OPERATIONS: readonly Operation[] = [
  {
    summary: "Manifest or index by tag or digest",
    path: "/v2/{name}/manifests/{reference}",
    parameters: { name: NAME, reference: "Tag or digest" },
    query: { ns: NS },
    ok: "The manifest, byte for byte, with Docker-Content-Digest",
  },
  {
    summary: "Blob by digest, whole or one range",
    path: "/v2/{name}/blobs/{digest}",
    parameters: { name: NAME, digest: "sha256:… or sha512:…" },
    query: { ns: NS },
    ok: "The blob; 206 for a range",
  },
  {
    summary: "Tags of a repository",
    path: "/v2/{name}/tags/list",
    parameters: { name: NAME },
    query: { n: "At most so many", last: "Only those after this one", ns: NS },
    ok: "The tags in the registry's order, with Link to the next page",
  },
  {
    summary: "What refers to a digest: signatures, attestations, SBOMs",
    path: "/v2/{name}/referrers/{digest}",
    parameters: { name: NAME, digest: "Digest of the subject" },
    query: { artifactType: "Only of this type", ns: NS },
    ok: "An OCI index",
  },
];

/** `paths` of the OpenAPI document. */
export function registryPaths() {
  return Object.fromEntries(OPERATIONS.map((operation) => [operation.path, pathItem(operation)]));
}

function pathItem({ summary, parameters, query = {}, ok }: Operation) {
  return {
    get: {
      tags: ["registry"],
      summary,
      parameters: [
        ...Object.entries(parameters).map(([name, description]) => parameter(name, "path", description)),
        ...Object.entries(query).map(([name, description]) => parameter(name, "query", description)),
      ],
      responses: {
        "200": { description: ok },
        "401": { description: "Log in: WWW-Authenticate says where" },
        "403": { description: "The login lacks the right, or the repository is not served here" },
        "404": { description: "Unknown, or not readable anonymously" },
        "429": { description: "The registry limits its requests: Retry-After says how long" },
        "502": { description: "The registry cannot be reached, or its answer cannot be used" },
        "503": { description: "The registry did not answer in time" },
      },
    },
  };
}

function parameter(name: string, place: "path" | "query", description: string) {
  return { name, in: place, required: place === "path", description, schema: { type: "string" as const } };
}
