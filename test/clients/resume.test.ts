/** Clients that resume a broken download do so at Layover: it answers 206 with the range they need (protocol R156, R177, R187). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { startCuttingRelay } from "./cutting-relay.ts";
import { ADDRESS, createLab, DOMAIN, readStore, type Lab } from "./lab.ts";
import { hasProgram } from "./shell.ts";

const IMAGE = "lab/big:latest";
const RELAY_PORT = 5001;
const store = await readStore();
let lab: Lab;

beforeAll(async () => {
  lab = await createLab();
});
afterAll(() => lab?.stop());

// The skopeo, podman and buildah of Debian 12 give up: their library resumes in later versions only.
for (const [name, program] of [
  ["containerd-cri", "/usr/bin/containerd"],
  ["docker", "/usr/sbin/dockerd"],
  ["docker29", "dockerd2"],
] as const) {
  test.skipIf(!hasProgram(program))(`${name} resumes where its connection broke`, async () => {
    const client = lab.clients.find((each) => each.name === name);
    const host = `${DOMAIN}:${RELAY_PORT}`;
    const relay = await startCuttingRelay({
      listen: { host: ADDRESS, port: RELAY_PORT },
      to: { host: ADDRESS, port: 5000 },
      cutAfterBytes: 30_000_000,
      times: 2,
    });
    try {
      await client?.configure({ plainHosts: [host] });
      const requests = lab.watch();
      expect(await client?.pull(`${host}/quay.io/${IMAGE}`)).toBe(store.references[IMAGE]?.digest);
      expect(relay.cuts()).toBe(2);
      const resumed = (await requests()).filter(({ status, uri }) => status === 206 && String(uri).includes("/blobs/"));
      expect(resumed.length).toBeGreaterThanOrEqual(2);
    } finally {
      await relay.stop();
    }
  });
}
