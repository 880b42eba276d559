/**
 * What names mean to those who look after the cache, in both directions: what an operator typed, and what he is shown so
 * that he can type it again.
 */
import type { Place } from "../cache/records.ts";
import { RegistryError } from "../errors.ts";
import { isVerifiable, parseDigest } from "../registry/digest.ts";
import { fullName, parseImageName } from "../registry/image.ts";
import type { Reference } from "../registry/reference.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { routeFor } from "../registry/route.ts";
import { placesOf, registryTexts } from "./cache.ts";

/** What a name means here. */
export interface Target {
  /** Undefined for a bare digest: every repository. */
  readonly place: Place | undefined;
  readonly reference: Reference;
}

/** It cannot be done, for a reason the operator can mend; the message says which. */
export class UpkeepError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UpkeepError";
  }
}

/**
 * @param isAt whether something of that name is kept at a place: what everybody was shown goes before what somebody's login was
 * @throws UpkeepError
 */
export function targetOf(
  name: string,
  map: RegistryMap,
  isAt: (place: Place, reference: Reference) => boolean,
): Target {
  const digest = parseDigest(name);
  if (digest !== undefined && isVerifiable(digest)) return { place: undefined, reference: { kind: "digest", digest } };
  const image = parseImageName(name);
  if (image === undefined)
    throw new UpkeepError(`expected an image such as nginx:1.27 or quay.io/org/app@sha256:…, or a digest, got ${name}`);
  try {
    const request = { host: undefined, before: undefined, name: image.name, namespaces: [] };
    const route = routeFor(request, map, { domainSuffix: undefined, strictHosts: false });
    const places = placesOf(route);
    return { place: places.find((place) => isAt(place, image.reference)) ?? places[0], reference: image.reference };
  } catch (error) {
    // What a client would be told, told to the operator.
    if (error instanceof RegistryError) throw new UpkeepError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

export function notHere(name: string): UpkeepError {
  return new UpkeepError(`${name} is not in the cache`);
}

/** From where records keep an image to the name a person would type; a registry that left the map keeps its URL. */
export function createNaming({ registries }: RegistryMap): (place: Place) => string {
  const known = new Map(registries.flatMap((registry) => registryTexts(registry).map((text) => [text, registry])));
  return ({ registry, repository }) => {
    const found = known.get(registry);
    return found === undefined ? `${registry}${repository}` : fullName(found, repository);
  };
}

/** Each `*` stands for any text; without one the pattern may stand anywhere. */
export function matchesText(pattern: string, text: string): boolean {
  const [first = "", ...others] = pattern.split("*");
  const last = others.pop();
  if (last === undefined) return text.includes(first);
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const part of others) {
    const found = text.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return text.length - last.length >= at && text.endsWith(last);
}
