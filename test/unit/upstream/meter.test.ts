/** What is counted about upstreams: one word for each end, bytes as they come, nothing of a client. */
import { expect, test } from "bun:test";
import type { UpstreamMeter } from "../../../src/upstream/client.ts";
import { outcomeOfStatus } from "../../../src/upstream/meter.ts";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";

/** Writes down what it is told. */
function recorder() {
  const told: string[] = [];
  let bytes = 0;
  const meter: UpstreamMeter = {
    answered: (registry, outcome) => void told.push(`${registry} ${outcome}`),
    notAsked: (registry) => void told.push(`${registry} not asked`),
    tokenAnswered: (registry, outcome) => void told.push(`${registry} token ${outcome}`),
    received: (_registry, count) => void (bytes += count),
    refused: (registry, fault) => void told.push(`${registry} refused ${fault}`),
  };
  return { told, meter, bytes: () => bytes };
}

test.each([
  [200, "ok"],
  [307, "ok"],
  [401, "refused"],
  [403, "refused"],
  [404, "not-found"],
  [416, "client-error"],
  [429, "limited"],
  [503, "server-error"],
] as const)("outcomeOfStatus(%p) is %p", (status, outcome) => {
  expect(outcomeOfStatus(status)).toBe(outcome);
});

test("send() tells of the token, the answer, its bytes, and of content that was refused", async () => {
  const upstream = await fakeRegistry({ auth: "bearer" });
  const image = makeImage();
  upstream.add("library/busybox", image);
  const { told, meter, bytes } = recorder();
  const response = await testClient({}, { meter }).send(ask(registryAt(upstream.url)));
  const { byteLength } = await bytesOf(response);
  response.refuse?.("digest");
  expect(told).toEqual(["fake token ok", "fake ok", "fake refused digest"]);
  // The token's answer is counted too.
  expect(bytes()).toBeGreaterThan(byteLength);
});

test("send() tells of each try and each upstream", async () => {
  const upstream = await fakeRegistry();
  upstream.faults.manifest.status = 503;
  const { told, meter } = recorder();
  const gone = registryAt([upstream.url, "http://127.0.0.1:1"]);
  const response = await testClient({}, { meter }).send(ask(gone));
  await bytesOf(response);
  expect(told.slice(0, 2)).toEqual(["fake server-error", "fake connect"]);
});

test("send() tells of a client that left", async () => {
  const upstream = await fakeRegistry();
  const { told, meter } = recorder();
  const signal = AbortSignal.abort(new Error("left"));
  await expect(testClient({}, { meter }).send(ask(registryAt(upstream.url), { signal }))).rejects.toThrow("left");
  expect(told).toEqual(["fake aborted"]);
});
