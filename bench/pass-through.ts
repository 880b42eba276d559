/**
 * The peer that Layover is measured against: the least a correct proxy on this runtime can do. It fetches, keeps status,
 * type and length, and waits when its client does. It checks nothing, logs nothing, knows no tokens, and times nothing out.
 *
 *   bun bench/pass-through.ts http://127.0.0.1:PORT
 */
import http from "node:http";
import { drained } from "./drained.ts";

const [origin = ""] = process.argv.slice(2);
const KEPT = ["content-type", "content-length", "content-range", "docker-content-digest"];

const server = http.createServer(async (request, response) => {
  const { range } = request.headers;
  const answer = await fetch(`${origin}${request.url}`, {
    decompress: false,
    redirect: "manual",
    headers: range === undefined ? {} : { range },
  });
  const headers = KEPT.flatMap((name) => {
    const value = answer.headers.get(name);
    return value === null ? [] : [name, value];
  });
  response.writeHead(answer.status, headers);
  for await (const chunk of answer.body ?? []) {
    if (response.destroyed) return;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP address");
  console.log(JSON.stringify({ msg: "listening", address: `http://127.0.0.1:${address.port}` }));
});
