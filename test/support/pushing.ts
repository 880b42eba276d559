/**
 * A client that pushes as the specification says: it follows each Location as it came, adds its own parameter behind it, and
 * expects that Location never leaves the host, prefix and `ns` it came by (protocol R67).
 */
import type { Image } from "./images.ts";

export interface PushPlace {
  /** Where connections go: `"http://127.0.0.1:41234"`. */
  readonly server: string;
  /** What the client types as host, when that is not the server. */
  readonly host?: string;
  /** `"/v2/quay.io/org/app"` */
  readonly path: string;
  /** `"ns=quay.io"` */
  readonly query?: string;
  readonly authorization?: string;
}

export interface PushRequest {
  readonly method: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer<ArrayBuffer>;
}

/** @param rest `"/blobs/uploads/"`, `"/manifests/v1?tag=a"`, or a whole URL that a Location gave */
export async function pushRequest(place: PushPlace, rest: string, request: PushRequest): Promise<Response> {
  const url = /^https?:/.test(rest) ? rest : originOf(place) + withNamespace(place, place.path + rest);
  const { pathname, search, origin } = new URL(url);
  if (origin !== originOf(place)) throw new Error(`expected a URL on ${originOf(place)}, got ${url}`);
  return fetch(`${place.server}${pathname}${search}`, {
    method: request.method,
    redirect: "manual",
    headers: {
      ...(place.host === undefined ? {} : { host: place.host }),
      ...(place.authorization === undefined ? {} : { authorization: place.authorization }),
      ...request.headers,
    },
    ...(request.body === undefined ? {} : { body: request.body }),
  });
}

/** Where an upload goes on. @throws Error when it does not lead back to where the client came from */
export function locationOf(place: PushPlace, response: Response): string {
  const location = response.headers.get("location") ?? "";
  const prefix = `${originOf(place)}${place.path}/blobs/uploads/`;
  if (!location.startsWith(prefix) || (place.query !== undefined && !location.endsWith(`?${place.query}`)))
    throw new Error(`expected a Location below ${prefix} with ${place.query ?? "nothing behind"}, got ${location}`);
  return location;
}

export async function beginUpload(place: PushPlace): Promise<string> {
  const begun = await pushRequest(place, "/blobs/uploads/", { method: "POST" });
  await expectStatus(begun, 202);
  return locationOf(place, begun);
}

/** The end of an upload, as clients ask for it. */
export function finishUpload(
  place: PushPlace,
  location: string,
  asked: { digest: string; body?: string | Buffer<ArrayBuffer> },
) {
  return pushRequest(place, `${location}${location.includes("?") ? "&" : "?"}digest=${asked.digest}`, {
    method: "PUT",
    headers: { "content-type": "application/octet-stream" },
    body: asked.body ?? "",
  });
}

/** In pieces of so many bytes. */
export async function pushInPieces(place: PushPlace, blob: readonly [string, Uint8Array], pieceBytes: number) {
  const [digest, bytes] = blob;
  let location = await beginUpload(place);
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes);
    const range = `${at}-${at + piece.length - 1}`;
    const response = await pushRequest(place, location, {
      method: "PATCH",
      headers: { "content-range": range, "content-type": "application/octet-stream" },
      body: Buffer.from(piece),
    });
    await expectStatus(response, 202);
    if (response.headers.get("range") !== `0-${at + piece.length - 1}`)
      throw new Error(`expected Range 0-${at + piece.length - 1}, got ${response.headers.get("range")}`);
    location = locationOf(place, response);
  }
  return finishUpload(place, location, { digest });
}

/** Every blob, then every manifest, then the tags. */
export async function pushImage(place: PushPlace, image: Pick<Image, "blobs" | "manifests" | "tags">): Promise<void> {
  for (const [digest, bytes] of image.blobs) {
    const location = await beginUpload(place);
    await expectStatus(await finishUpload(place, location, { digest, body: Buffer.from(bytes) }), 201);
  }
  for (const digest of [...image.manifests.keys()].reverse())
    await expectStatus(await pushManifest(place, image, digest), 201);
  for (const [tag, digest] of image.tags) await expectStatus(await pushManifest(place, image, digest, tag), 201);
}

/** @param reference the digest itself when it is not given */
export function pushManifest(
  place: PushPlace,
  { manifests }: Pick<Image, "manifests">,
  digest: string,
  reference = digest,
): Promise<Response> {
  const manifest = manifests.get(digest);
  if (manifest === undefined) throw new Error(`the image has no manifest ${digest}`);
  return pushRequest(place, `/manifests/${reference}`, {
    method: "PUT",
    headers: { "content-type": manifest.mediaType },
    body: Buffer.from(manifest.bytes),
  });
}

export async function expectStatus(response: Response, status: number): Promise<Response> {
  if (response.status !== status)
    throw new Error(`expected ${status}, got ${response.status}: ${await response.text()}`);
  return response;
}

function originOf({ server, host }: PushPlace): string {
  return host === undefined ? server : `http://${host}`;
}

function withNamespace({ query }: PushPlace, path: string): string {
  if (query === undefined) return path;
  return `${path}${path.includes("?") ? "&" : "?"}${query}`;
}
