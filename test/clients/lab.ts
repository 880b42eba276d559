/**
 * The place where the suite happens, inside the network of its own that run.sh makes: upstream registries, one Layover
 * with plain http and one with TLS, and every client that this machine has.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { testAuthority } from "../support/certs.ts";
import { startLayover, type LogLine, type RunningLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";
import type { Client } from "./client.ts";
import { createContainerdClients } from "./containerd-client.ts";
import { createContainersClients } from "./containers-clients.ts";
import { createDockerClient } from "./docker-client.ts";
import { createCrane, createHelm } from "./go-clients.ts";
import { hasProgram, run } from "./shell.ts";
import { startUpstreams, type Upstreams } from "./upstreams.ts";

export interface Lab {
  readonly dir: string;
  readonly upstreams: Upstreams;
  /** Plain http on `layover.test:5000` and `<key>.layover.test:5000`. */
  readonly layover: RunningLayover;
  /** TLS on port 443 of the same names. */
  readonly secureLayover: RunningLayover;
  readonly clients: readonly Client[];
  /** Authority of Layover's certificate; every client trusts it, and it alone. */
  readonly caFile: string;
  /** Remembers the place in both logs; the function it gives answers what was asked of Layover since, once that is written. */
  watch(): () => Promise<LogLine[]>;
  /** @throws Error when a Layover did not end well */
  stop(): Promise<void>;
}

/** As run.sh writes it to /etc/hosts: an address that dockerd does not take for insecure, as it does all of 127.0.0.0/8. */
export const ADDRESS = "10.99.0.1";
export const DOMAIN = "layover.test";
export const PLAIN_HOST = `${DOMAIN}:5000`;

/** What `prepare.ts` left: where the store is, and the digests of what it holds. */
export interface Store {
  readonly dir: string;
  /** `"lab/multi:latest"` → digest of the tag, and of every manifest below it. */
  readonly references: Readonly<Record<string, { digest: string; manifests: string[] }>>;
}

export async function readStore(): Promise<Store> {
  const dir = process.env["LAYOVER_CLIENTS_STORE"];
  if (dir === undefined) throw new Error("expected LAYOVER_CLIENTS_STORE: start the suite with npm run test:clients");
  return { dir, references: await Bun.file(join(dir, "references.json")).json() };
}

/** @param more flags of both Layovers */
export async function createLab(more: readonly string[] = []): Promise<Lab> {
  const temp = await createTempDir("layover-clients-");
  const store = await readStore();
  const folder = (name: string): string => {
    mkdirSync(temp.file(name), { recursive: true });
    return temp.file(name);
  };
  const upstreams = await startUpstreams(folder("upstreams"), store.dir);
  const authority = testAuthority("Layover CA");
  const names = [DOMAIN, `*.${DOMAIN}`];
  const leaf = authority.issue({ names });
  for (const [name, text] of [
    ["ca.pem", authority.certPem],
    ["tls.pem", leaf.certPem],
    ["key.pem", leaf.keyPem],
  ] as const) {
    await Bun.write(temp.file(name), text);
  }
  const map = registryMap(upstreams);
  // One keeps what passes, so that every client pulls through the cache; the other passes everything on.
  const cache = ["--cache-dir", folder("cache"), "--cache-min-free", "0"];
  const layover = await startLayover({
    map,
    args: ["--listen", `${ADDRESS}:5000`, "--domain-suffix", DOMAIN, ...cache, ...more],
  });
  const tls = ["--tls-cert", temp.file("tls.pem"), "--tls-key", temp.file("key.pem")];
  const secureLayover = await startLayover({
    map,
    args: ["--listen", `${ADDRESS}:443`, "--domain-suffix", DOMAIN, ...tls, ...more],
  });
  const caFile = temp.file("ca.pem");
  const clients = allClients(folder("clients"), caFile);
  return {
    dir: temp.path,
    upstreams,
    layover,
    secureLayover,
    clients: clients.filter((client) => client.programs.every(hasProgram)),
    caFile,
    watch() {
      const places = [layover, secureLayover].map(({ log }) => ({ log, last: log.at(-1) }));
      return async () => {
        await Promise.all([layover, secureLayover].map(untilWritten));
        return places.flatMap(({ log, last }) => log.slice(last === undefined ? 0 : log.lastIndexOf(last) + 1));
      };
    },
    async stop() {
      for (const client of clients) await client.stop();
      await layover.stop();
      await secureLayover.stop();
      await upstreams.stop();
      await unmountBelow(temp.path);
      await temp.remove();
    },
  };
}

let marks = 0;

/** Lines are written in batches, in their order: when a line of ours is there, all before it are. */
async function untilWritten({ url, logLine }: RunningLayover): Promise<void> {
  marks += 1;
  const uri = `/mark-${marks}`;
  await fetch(`${url}${uri}`, { tls: { rejectUnauthorized: false } });
  await logLine((line) => line.uri === uri);
}

/** A pull that failed may leave the layer it was unpacking mounted. */
async function unmountBelow(path: string): Promise<void> {
  const mounted = (await Bun.file("/proc/mounts").text()).split("\n").map((line) => line.split(" ")[1] ?? "");
  for (const place of mounted.filter((each) => each.startsWith(`${path}/`)).reverse())
    await run(["umount", "--lazy", place]);
}

/** Every client the suite knows, there or not. */
export function allClients(dir: string, caFile: string): Client[] {
  const place = { dir, caFile };
  return [
    ...createContainersClients(place),
    ...createContainerdClients({ ...place, name: "containerd", daemon: "/usr/bin/containerd", ctr: "/usr/bin/ctr" }),
    ...createContainerdClients({
      ...place,
      name: "containerd2",
      daemon: "containerd2",
      ctr: "ctr2",
      fetchPieceBytes: 1 << 20,
    }),
    createDockerClient({
      ...place,
      name: "docker",
      daemon: "/usr/sbin/dockerd",
      containerd: "/usr/bin/containerd",
      mirrorForms: ["root"], // a path is refused by 20.10: "invalid mirror: path, query, or fragment"
      flags: ["--oom-score-adjust=0"], // without CAP_SYS_RESOURCE it cannot lower the score
    }),
    createDockerClient({
      ...place,
      name: "docker29",
      daemon: "dockerd2",
      containerd: "containerd2",
      mirrorForms: ["root", "before"],
    }),
    createCrane(place),
    createHelm(place),
  ];
}

/** The well-known registries, as far as clients can tell. */
function registryMap({ url, caFile }: Upstreams): Record<string, unknown> {
  return {
    default: "docker",
    docker: { upstreams: [url.hub], hosts: ["docker.io", "index.docker.io", "registry-1.docker.io"] },
    quay: { upstreams: [url.quay], hosts: ["quay.io"] },
    ghcr: { upstreams: [url.ghcr], hosts: ["ghcr.io"], tls: { caFile } },
    ecr: { upstreams: [url.ecr], hosts: ["public.ecr.aws"] },
    // The same registry by another name: keys with equal upstreams would be one.
    k8s: { upstreams: [url.quay.replace("127.0.0.1", "localhost")], hosts: ["registry.k8s.io"] },
  };
}
