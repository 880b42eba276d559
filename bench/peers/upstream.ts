/**
 * The upstream of the peers: a registry on loopback, behind a link whose speed is set at run time. All connections share the
 * link, as they would share a line: who asks twice waits twice. Blobs are one random block, repeated, with a mark of
 * their own in front; they need no file.
 *
 *   bun bench/peers/upstream.ts CONTENT.json
 *
 * `/pace?bytesPerSecond=N` sets the speed (0: as fast as it goes) and answers how many blob bytes left since the last time;
 * `/sending` how many blobs are on their way.
 */
import http, { type ServerResponse } from "node:http";
import { drained } from "../drained.ts";
import { type Blob, blockOf, CHUNK_BYTES, type Content } from "./content.ts";

/** A timer that comes late makes the next chunks come early, up to this. */
const MAX_LATE_MS = 20;
const JSON_TYPE = "application/json";

const { manifests, blobs }: Content = await Bun.file(process.argv[2] ?? "").json();
const block = blockOf();
let bytesPerSecond = 0;
let linkFreeAtMs = 0;
let sent = 0;
let sending = 0;

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://upstream.test");
  if (pathname === "/pace") return setPace(Number(searchParams.get("bytesPerSecond")), response);
  if (pathname === "/sending") return answer(response, JSON_TYPE, JSON.stringify({ sending }));
  if (pathname === "/v2/") return answer(response, JSON_TYPE, "{}");
  const name = pathname.split("/").at(-1) ?? "";
  const manifest = manifests.find(({ tag, digest }) => name === tag || name === digest);
  if (manifest !== undefined) {
    response.setHeader("docker-content-digest", manifest.digest);
    return answer(response, manifest.mediaType, manifest.body);
  }
  const blob = blobs.find(({ digest }) => digest === name);
  if (blob === undefined) return response.writeHead(404).end();
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-length": blob.bytes,
    "docker-content-digest": blob.digest,
  });
  if (request.method === "HEAD") return response.end();
  sending += 1;
  return void send(blob, response).finally(() => (sending -= 1));
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP address");
  console.log(JSON.stringify({ msg: "listening", address: `http://127.0.0.1:${address.port}` }));
});

function answer(response: ServerResponse, type: string, body: string): void {
  response.setHeader("docker-distribution-api-version", "registry/2.0");
  response.setHeader("content-type", type);
  // docker-registry wants the length of what it asks for by HEAD.
  response.setHeader("content-length", Buffer.byteLength(body));
  response.end(response.req.method === "HEAD" ? undefined : body);
}

function setPace(pace: number, response: ServerResponse): void {
  answer(response, JSON_TYPE, JSON.stringify({ sent }));
  bytesPerSecond = pace;
  linkFreeAtMs = performance.now();
  sent = 0;
}

async function send(blob: Blob, response: ServerResponse): Promise<void> {
  for (let position = 0; position < blob.bytes; position += CHUNK_BYTES) {
    if (bytesPerSecond > 0) await turnOnLink();
    if (response.destroyed) return;
    const chunk = position === 0 ? Buffer.concat([Buffer.from(blob.mark), block.subarray(blob.mark.length)]) : block;
    sent += CHUNK_BYTES;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
}

/** Reserves the link for one chunk and waits until it has passed. */
async function turnOnLink(): Promise<void> {
  const now = performance.now();
  linkFreeAtMs = Math.max(linkFreeAtMs, now - MAX_LATE_MS) + (CHUNK_BYTES / bytesPerSecond) * 1000;
  if (linkFreeAtMs > now) await Bun.sleep(linkFreeAtMs - now);
}
