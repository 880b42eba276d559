/**
 * `npm run bench -- peers`: Layover beside what people put before a registry otherwise, nginx with proxy_cache and
 * docker-registry as a pull-through cache, on one machine in one run. Peers that are not installed are left out with a line.
 */
import { measureCold } from "./peers/cold.ts";
import { measureFanOut } from "./peers/fan-out.ts";
import { openPeersLab, type PeersLab } from "./peers/lab.ts";
import { ACCEPT, measureManifests } from "./peers/manifests.ts";
import { blobPath } from "./peers/clients.ts";
import { watchMemory } from "./peers/peak.ts";
import { formatPeerTable, type PeerRow } from "./peers/table.ts";
import { measureWarm } from "./peers/warm.ts";

export const PEER_PARTS = ["peers-warm", "peers-manifests", "peers-cold", "peers-fan-out"] as const;
export type PeerPart = (typeof PEER_PARTS)[number];

export interface PeersOptions {
  readonly parts: readonly PeerPart[];
  readonly isLong: boolean;
}

/** Gives the table. */
export async function measurePeers({ parts, isLong }: PeersOptions): Promise<string> {
  const rounds = { warm: isLong ? 9 : 3, manifests: isLong ? 7 : 3, cold: isLong ? 7 : 3, fanOut: isLong ? 3 : 1 };
  // A cold blob is cold once; one a round is fetched directly.
  const lab = await openPeersLab({ coldBlobs: rounds.cold * 3, fanOutBlobs: rounds.fanOut * 4 });
  const rows: PeerRow[] = lab.missing.map((what) => ({ what, figures: {} }));
  try {
    const memory = watchMemory(lab.peers);
    try {
      await fillCaches(lab);
      for (const part of parts) {
        const measured = await measure(part);
        // A run takes minutes: what it has shown by now is not lost with it.
        console.error(formatPeerTable(measured));
        rows.push(...measured);
      }
      rows.push(...memory.rows());
    } finally {
      memory.close();
    }
  } finally {
    await lab.close();
  }
  return formatPeerTable(rows);

  async function measure(part: PeerPart): Promise<PeerRow[]> {
    console.error(`measuring: ${part}`);
    switch (part) {
      case "peers-warm":
        return measureWarm(lab, { rounds: rounds.warm });
      case "peers-manifests":
        return measureManifests(lab, { rounds: rounds.manifests, seconds: isLong ? 10 : 3 });
      case "peers-cold":
        return measureCold(lab, { rounds: rounds.cold });
      case "peers-fan-out":
        return measureFanOut(lab, { rounds: rounds.fanOut });
    }
  }
}

/**
 * Each peer has the manifest by both names and both blobs, and serves them from its cache from here on: those that say
 * where an answer came from must say so, and no peer may ask the upstream for a blob again.
 */
async function fillCaches(lab: PeersLab): Promise<void> {
  const manifests = [lab.manifest.tag, lab.manifest.digest].map((reference) => `/v2/bench/app/manifests/${reference}`);
  const paths = [...manifests, blobPath(lab.largeBlob), blobPath(lab.blob)];
  const urls = lab.peers
    .flatMap(({ plain, tls }) => [plain.url, tls.url])
    .flatMap((url) => paths.map((path) => url + path));
  for (const url of urls) await take(url, lab.certFile);
  await lab.upstreamRests();
  await lab.pace(0);
  for (const url of urls) {
    const cache = /^x-cache: (.*)$/im.exec(await take(url, lab.certFile))?.[1]?.trim();
    if (cache !== undefined && cache !== "HIT") throw new Error(`expected a hit on ${url}, got ${cache}`);
  }
  const again = await lab.pace(0);
  if (again > 0) throw new Error(`expected caches that are full, but the upstream was asked for ${again} bytes more`);
}

/** Gives the head of the answer. */
async function take(url: string, certFile: string): Promise<string> {
  const command = ["curl", "-sS", "--fail", "-o", "/dev/null", "-D", "-", "--cacert", certFile, "-H", ACCEPT, url];
  const curl = Bun.spawn(command, { stdout: "pipe" });
  const head = await new Response(curl.stdout).text();
  if ((await curl.exited) !== 0) throw new Error(`expected 200 from ${url}, got exit code ${curl.exitCode} of curl`);
  return head;
}
