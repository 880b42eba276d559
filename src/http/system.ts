/**
 * The small routes beside the registry API: health, the map, the API's documentation, and what `/` says.
 * They are Elysia's, so that each is documented at `/docs` by being there.
 */
import { Elysia } from "elysia";
import type { RegistryMap } from "../registry/registry.ts";
import { RegistryError } from "../errors.ts";

export interface SystemOptions {
  readonly version: string;
  /** `GET /` leads others than browsers to `/v2/` (compat C2). */
  readonly rootLeadsToApi: boolean;
}

export interface SystemDependencies {
  readonly map: () => RegistryMap;
}

export function createSystemRoutes(options: SystemOptions, { map }: SystemDependencies) {
  return new Elysia({ name: "system" })
    .get("/healthz", health, { detail: { summary: "Is the process alive", tags: ["system"] } })
    .get("/health", health, { detail: { summary: "The same, under the name older tools use", tags: ["system"] } })
    .get("/help", () => json(200, helpMap(map())), {
      detail: { summary: "The registries in force: key and URL", tags: ["system"] },
    })
    .get("/", ({ request }) => root(request, options), {
      detail: { summary: "What this is", tags: ["system"] },
    })
    .all("/v1", gone, { detail: { hide: true } })
    .all("/v1/*", gone, { detail: { hide: true } });
}

function health(): Response {
  return json(200, { status: "ok" });
}

/** Key → URL, flat, as the Go proxy answered it (compat C32). Upstream URLs hold neither userinfo nor query. */
function helpMap(map: RegistryMap): Record<string, string> {
  const flat: Record<string, string> = { default: urlOf(map.default) };
  for (const registry of map.registries) for (const key of registry.keys) flat[key] = urlOf(registry);
  return flat;
}

function urlOf({ upstreams: [first] }: RegistryMap["default"]): string {
  const after = first.namePrefix === "" ? "" : `/v2/${first.namePrefix.slice(0, -1)}`;
  return `${first.origin}${first.basePath}${after}`;
}

function root(request: Request, options: SystemOptions): Response {
  const isBrowser = (request.headers.get("accept") ?? "").includes("text/html");
  if (options.rootLeadsToApi && !isBrowser) return new Response(null, { status: 301, headers: { location: "/v2/" } });
  const text = [
    `Layover ${options.version}: one address in front of every container registry.`,
    "",
    "This is a registry. Pull through it with docker, containerd, podman or BuildKit.",
    "  /help     the registries served here",
    "  /docs     the HTTP interface",
    "  /healthz  whether it is alive",
    "",
  ].join("\n");
  return new Response(text, { headers: { "content-type": "text/plain; charset=utf-8" } });
}

/** `docker search` and clients from before 2015 end here, clearly (protocol R6). */
function gone(): never {
  throw new RegistryError("UNSUPPORTED", "version 1 of the registry API is not served: use /v2/", { status: 404 });
}

function json(status: number, value: unknown): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
}
