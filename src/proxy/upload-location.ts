/**
 * Where an upload goes on. A registry answers each step with a `Location` of its own making, which may lead to another
 * host and must come back byte for byte (protocol R67). Clients get it sealed, as the name of a session here: they can
 * neither read nor change where it leads, and one made for a repository is good for no other.
 */
import type { Registry, Upstream } from "../registry/registry.ts";
import type { Location } from "../upstream/client.ts";
import type { RegistryRequest } from "./access.ts";
import type { Sealer } from "./seal.ts";

export interface UploadLocations {
  /** The URL for the client, which stays on the host, prefix and `ns` it came by. */
  emit(request: RegistryRequest, upstream: Upstream, location: Location): string;
  /** Undefined for what was not sealed here, or for another repository, or whose upstream the map has no more. */
  read(request: RegistryRequest, session: string): { upstream: Upstream; location: Location } | undefined;
}

/** What a session's name says. Short names: it travels in URLs. */
interface Note {
  /** Origin and repository it was made for. */
  readonly o: string;
  readonly n: string;
  readonly h: string;
  readonly a: Location["named"];
}

export function createUploadLocations(sealer: Sealer): UploadLocations {
  return {
    emit({ origin, route }, upstream, location) {
      const note: Note = {
        o: upstream.origin,
        n: nameAt(upstream, route.repository),
        h: location.href,
        a: location.named,
      };
      const session = sealer.seal(note);
      return `${origin.base}${route.pathPrefix}/v2/${route.requested}/blobs/uploads/${session}${namespaceQuery(route)}`;
    },
    read({ route }, session) {
      const note = sealer.open(session);
      if (!isNote(note)) return undefined;
      const upstream = upstreamOf(route.registry, note.o);
      if (upstream === undefined || note.n !== nameAt(upstream, route.repository)) return undefined;
      return { upstream, location: { href: note.h, named: note.a } };
    },
  };
}

/** The repository as this upstream calls it. */
export function nameAt({ namePrefix }: Upstream, repository: string): string {
  return `${namePrefix}${repository}`;
}

/** `?ns=…` where that led here: without it the next step would lead to another registry. */
export function namespaceQuery({ namespace }: RegistryRequest["route"]): string {
  return namespace === undefined ? "" : `?ns=${encodeURIComponent(namespace)}`;
}

function upstreamOf({ upstreams }: Registry, origin: string): Upstream | undefined {
  return upstreams.find((upstream) => upstream.origin === origin);
}

function isNote(value: unknown): value is Note {
  if (typeof value !== "object" || value === null) return false;
  return "h" in value && typeof value.h === "string" && "o" in value && "n" in value && "a" in value;
}
