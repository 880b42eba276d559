/** The registries that a run may pull from: the fake one of all tests, and Debian's docker-registry as a process of its own. */
import { startDaemon } from "../clients/daemon.ts";
import { pushImage } from "../clients/push.ts";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { startFaultRelay } from "../support/fault-relay.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";
import type { ChaosImage } from "./catalogue.ts";

export interface ChaosRegistry extends AsyncDisposable {
  /** A port of 127.0.0.1, or the path of a unix socket. */
  readonly place: number | string;
}

export async function startFake(images: readonly ChaosImage[]): Promise<ChaosRegistry> {
  const registry = await createFakeRegistry();
  for (const { repository, image } of images) registry.add(repository, image);
  return { place: Number(new URL(registry.url).port), [Symbol.asyncDispose]: registry.close };
}

/** Whether a real registry is here. Where `CI=true` it must be: there the tests fail without it. */
export function hasDockerRegistry(): boolean {
  return process.env["CI"] === "true" || Bun.which("docker-registry") !== null;
}

export async function startDockerRegistry(images: readonly ChaosImage[]): Promise<ChaosRegistry> {
  const dir = await createTempDir("layover-registry-");
  const place = dir.file("registry.sock");
  const config = await writeConfig(dir, { net: "unix", addr: place });
  const daemon = await startDaemon("docker-registry", ["docker-registry", "serve", config], {
    dir: dir.path,
    isReady: async () => (await fetch("http://registry/v2/", { unix: place })).ok,
  });
  await pushAll(place, images);
  return {
    place,
    async [Symbol.asyncDispose]() {
      await daemon.stop();
      await dir.remove();
    },
  };
}

/** Fills a store, which another docker-registry then serves. @returns the file of its configuration */
export async function prepareStore(dir: TempDir, images: readonly ChaosImage[], addr: string): Promise<string> {
  const place = dir.file("prepare.sock");
  const config = await writeConfig(dir, { net: "unix", addr: place });
  const daemon = await startDaemon("prepare", ["docker-registry", "serve", config], {
    dir: dir.path,
    isReady: async () => (await fetch("http://registry/v2/", { unix: place })).ok,
  });
  await pushAll(place, images);
  await daemon.stop();
  return writeConfig(dir, { net: "tcp", addr });
}

async function pushAll(place: string, images: readonly ChaosImage[]): Promise<void> {
  // Uploads answer with URLs, so the socket gets a port for them.
  await using relay = await startFaultRelay({ to: place });
  for (const { repository, image } of images) await pushImage(relay.url, repository, image);
}

async function writeConfig(dir: TempDir, { net, addr }: { net: "unix" | "tcp"; addr: string }): Promise<string> {
  const file = dir.file(`${net}.yml`);
  const text = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: ${dir.file("store")}}
http: {net: ${net}, addr: "${addr}", secret: test}
`;
  await Bun.write(file, text);
  return file;
}
