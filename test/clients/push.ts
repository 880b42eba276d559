/** Pushes images byte by byte: the tools refuse empty layers, nested indexes and artifacts that registries accept. */
import type { Image } from "../support/images.ts";

/** @param baseUrl of an open registry, `"http://127.0.0.1:5001"` */
export async function pushImage(baseUrl: string, repository: string, image: Image): Promise<void> {
  for (const [digest, bytes] of image.blobs) await pushBlob(`${baseUrl}/v2/${repository}/blobs`, digest, bytes);
  // An index comes before its members in the map, and registries want the members first.
  for (const [digest, { bytes, mediaType }] of [...image.manifests].reverse()) {
    await pushManifest(`${baseUrl}/v2/${repository}/manifests/${digest}`, mediaType, bytes);
  }
  for (const [tag, digest] of image.tags) {
    const manifest = image.manifests.get(digest);
    if (manifest === undefined) throw new Error(`tag ${tag} points to ${digest}, which the image does not hold`);
    await pushManifest(`${baseUrl}/v2/${repository}/manifests/${tag}`, manifest.mediaType, manifest.bytes);
  }
}

async function pushBlob(blobs: string, digest: string, bytes: Uint8Array): Promise<void> {
  if ((await fetch(`${blobs}/${digest}`, { method: "HEAD" })).status === 200) return;
  const started = await expectStatus(await fetch(`${blobs}/uploads/`, { method: "POST" }), 202, `upload of ${digest}`);
  const location = new URL(started.headers.get("location") ?? "", blobs);
  location.searchParams.set("digest", digest);
  const upload = { method: "PUT", headers: { "content-type": "application/octet-stream" }, body: Buffer.from(bytes) };
  await expectStatus(await fetch(location, upload), 201, `blob ${digest}`);
}

async function pushManifest(url: string, mediaType: string, bytes: Uint8Array): Promise<void> {
  const upload = { method: "PUT", headers: { "content-type": mediaType }, body: Buffer.from(bytes) };
  await expectStatus(await fetch(url, upload), 201, `manifest ${url}`);
}

async function expectStatus(response: Response, status: number, what: string): Promise<Response> {
  const body = await response.text();
  if (response.status !== status)
    throw new Error(`${what}: expected ${status}, got ${response.status} ${body.slice(0, 300)}`);
  return response;
}
