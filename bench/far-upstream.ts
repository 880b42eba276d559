/**
 * An upstream that gives each connection only so much, as throttled registries and CDNs do: one blob, whole or a range of it. It
 * tells at `/sent` how many body bytes it has written and how many blobs it was asked for since the last such question.
 *
 *   bun bench/far-upstream.ts BLOB_FILE HOST BYTES_PER_SECOND     0: as fast as it goes
 */
import { createReadStream, statSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const [blobFile = "", host = "127.0.0.1", rateText = "0"] = process.argv.slice(2);
const bytesPerSecond = Number(rateText);
const totalBytes = statSync(blobFile).size;
const PIECE_BYTES = 64 * 1024;
let sentBytes = 0;
let asked = 0;

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  if (request.url === "/sent") {
    response.end(JSON.stringify({ sentBytes, asked }));
    sentBytes = asked = 0;
    return;
  }
  if (request.url?.includes("/blobs/") !== true) return void response.writeHead(404).end();
  asked += 1;
  void send(request, response).catch(() => response.destroy()); // the client has gone
});

async function send(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const first = Number(range?.[1] ?? 0);
  const last = range?.[2] ? Number(range[2]) : totalBytes - 1;
  response.writeHead(range === null ? 200 : 206, {
    "Content-Type": "application/octet-stream",
    "Content-Length": last - first + 1,
    "Accept-Ranges": "bytes",
    ...(range !== null && { "Content-Range": `bytes ${first}-${last}/${totalBytes}` }),
  });
  const startedAtMs = performance.now();
  let written = 0;
  for await (const piece of createReadStream(blobFile, { start: first, end: last, highWaterMark: PIECE_BYTES })) {
    if (response.destroyed) return;
    const isTaken = response.write(piece);
    written += piece.length;
    sentBytes += piece.length;
    if (!isTaken) await taken(response);
    if (bytesPerSecond === 0) continue;
    const aheadMs = (written / bytesPerSecond) * 1000 - (performance.now() - startedAtMs);
    if (aheadMs > 0) await Bun.sleep(aheadMs);
  }
  response.end();
}

function taken(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

server.listen(0, host, () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ msg: "listening", address: `http://${host}:${port}` }));
});
