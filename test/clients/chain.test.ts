/**
 * Chains of caches: Layover before another pull-through cache and behind one, Debian's docker-registry in both places
 * (lesson T23). What comes through is what the registry has, and comes again when the registry is gone.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { digestOf } from "../support/images.ts";
import { startLayover, type RunningLayover } from "../support/layover.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";
import { answers, startDaemon, type Daemon } from "./daemon.ts";
import { ADDRESS, allClients, createLab, DOMAIN, type Lab, readStore } from "./lab.ts";
import { startMeteredRelay, type MeteredRelay } from "./metered-relay.ts";
import { hasProgram } from "./shell.ts";

const IMAGE = "lab/multi:latest";
const REPOSITORY = "lab/multi";
/** Fixed: the suite has a network of its own. */
const PORTS = { layover: 5001, cacheOfRegistry: 5105, cacheOfLayover: 5106 };
const WAYS: [name: string, port: number][] = [
  ["Layover before another cache", PORTS.layover],
  ["Layover behind another cache", PORTS.cacheOfLayover],
];

/** docker-registry gives an index only to who names its type. */
const ACCEPT = ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", "*/*"].join(
  ", ",
);

const store = await readStore();
let lab: Lab;
let dir: TempDir;
let relay: MeteredRelay;
let layover: RunningLayover;
const caches: Daemon[] = [];

beforeAll(async () => {
  lab = await createLab();
  dir = await createTempDir("layover-clients-chain-");
  relay = await startMeteredRelay({ to: Number(new URL(lab.upstreams.url.quay).port) });
  await startCache(PORTS.cacheOfRegistry, relay.url);
  layover = await startLayover({
    map: {
      default: "straight",
      straight: relay.url,
      cached: { upstreams: [`http://${ADDRESS}:${PORTS.cacheOfRegistry}`], hosts: [DOMAIN] },
    },
    args: [`--listen=${ADDRESS}:${PORTS.layover}`, "--cache-dir", dir.file("cache"), "--cache-min-free", "0"],
  });
  await startCache(PORTS.cacheOfLayover, `http://${ADDRESS}:${PORTS.layover}`);
});
afterAll(async () => {
  await Promise.all(caches.map((cache) => cache.stop()));
  await layover?.stop();
  await relay?.shut();
  await lab?.stop();
  await dir?.remove();
});

/** docker-registry as a pull-through cache of what is at this URL. */
async function startCache(port: number, remote: string): Promise<void> {
  const name = `cache-${port}`;
  mkdirSync(dir.file(name));
  const config = `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${dir.file(name)}}}
http: {addr: "${ADDRESS}:${port}", secret: test}
proxy: {remoteurl: "${remote}"}
`;
  await Bun.write(dir.file(`${name}.yml`), config);
  const isReady = (): Promise<boolean> => answers(`http://${ADDRESS}:${port}/v2/`);
  caches.push(
    await startDaemon(name, ["docker-registry", "serve", dir.file(`${name}.yml`)], { dir: dir.path, isReady }),
  );
}

/** Layover is asked for what the other cache has, docker-registry for what Layover has as its default registry. */
function nameAt(port: number): string {
  return port === PORTS.layover ? `cached/${REPOSITORY}` : REPOSITORY;
}

describe.each(WAYS)("%s", (_name, port) => {
  for (const { name, programs } of allClients("", "")) {
    test.skipIf(!programs.every(hasProgram) || name === "helm")(`[T23] ${name} pulls through both`, async () => {
      const client = lab.clients.find((each) => each.name === name);
      const host = `${ADDRESS}:${port}`;
      await client?.configure({ plainHosts: [host] });
      const digest = await client?.pull(`${host}/${nameAt(port)}:latest`);
      expect(store.references[IMAGE]?.manifests).toContain(digest ?? "");
    });
  }

  test("[T23] each manifest and blob is the registry's, and comes again when the registry is gone", async () => {
    const pullAll = async (): Promise<void> => {
      for (const digest of store.references[IMAGE]?.manifests ?? []) {
        const manifest = await bytesAt(port, `manifests/${digest}`);
        expect(digestOf(manifest)).toBe(digest);
        for (const blob of blobsOf(manifest)) expect(digestOf(await bytesAt(port, `blobs/${blob}`))).toBe(blob);
      }
    };
    await pullAll();
    await relay.shut();
    try {
      await pullAll();
    } finally {
      await relay.open();
    }
  });
});

async function bytesAt(port: number, what: string): Promise<Uint8Array> {
  const answer = await fetch(`http://${ADDRESS}:${port}/v2/${nameAt(port)}/${what}`, { headers: { accept: ACCEPT } });
  const bytes = await answer.bytes();
  expect([what, answer.status]).toEqual([what, 200]);
  return bytes;
}

/** Config and layers of an image's manifest; nothing of an index. */
function blobsOf(manifest: Uint8Array): string[] {
  const { config, layers = [] } = JSON.parse(Buffer.from(manifest).toString()) as {
    config?: { digest: string };
    layers?: { digest: string }[];
  };
  return [...(config === undefined ? [] : [config]), ...layers].map(({ digest }) => digest);
}
