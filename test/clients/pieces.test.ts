/**
 * containerd 2 fetches one blob in parallel: each piece asks from its start to the end of the blob and hangs up when it has
 * its share (protocol R176). What arrives must be the blob, and Layover must not mind the hanging up.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createLab, PLAIN_HOST, readStore, type Lab } from "./lab.ts";
import { hasProgram } from "./shell.ts";

const IMAGE = "lab/big:latest";
const store = await readStore();
let lab: Lab;

beforeAll(async () => {
  lab = await createLab();
});
afterAll(() => lab?.stop());

for (const [registry, kind] of [
  ["quay.io", "from the registry itself"],
  ["docker.io", "from a CDN"],
] as const) {
  test.skipIf(!hasProgram("containerd2"))(`containerd 2 pulls 300 MiB in pieces, ${kind}`, async () => {
    const client = lab.clients.find(({ name }) => name === "containerd2-cri");
    const mirror = { registry, form: "root", url: `http://${PLAIN_HOST}` } as const;
    await client?.configure({ plainHosts: [PLAIN_HOST], mirror });
    const requests = lab.watch();
    expect(await client?.pull(`${registry}/${IMAGE}`)).toBe(store.references[IMAGE]?.digest);
    const pieces = (await requests()).filter(({ status, uri }) => status === 206 && String(uri).includes("/blobs/"));
    expect(pieces.length).toBeGreaterThan(9);
  });
}
