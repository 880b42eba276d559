/**
 * `npm run bench`: measures the compiled binary beside a bare pass-through and prints one table. `--long` takes more
 * rounds; names of parts (`blob memory start small cached grants upkeep`) leave the others out; `peers` measures it
 * beside nginx and docker-registry, `parallel` several connections for a blob beside one, each in a table of its own.
 * docs/benchmarks.md says what each line means.
 */
import { availableParallelism, loadavg } from "node:os";
import { measureBlobs } from "./blob.ts";
import { measureCached } from "./cached.ts";
import { measureGrants } from "./grants.ts";
import { type Lab, openLab } from "./lab.ts";
import { measureIdle, measureSlowClients } from "./memory.ts";
import { measureParallel } from "./parallel.ts";
import { measurePeers, PEER_PARTS } from "./peers.ts";
import { measureSmallRequests } from "./small.ts";
import { measureStart } from "./start.ts";
import { formatTable, type Row } from "./table.ts";
import { measureUpkeep } from "./upkeep.ts";

const PARTS = ["blob", "memory", "start", "small", "cached", "grants", "upkeep"] as const;
type Part = (typeof PARTS)[number];
/** All of the peers' parts. Not measured when nothing is named: it needs programs of others. */
const PEERS = "peers";
/** Not measured when nothing is named: it needs root. */
const PARALLEL = "parallel";
const NAMES = [...PARTS, PEERS, ...PEER_PARTS, PARALLEL];

const given = process.argv.slice(2);
const isLong = given.includes("--long");
const unknown = given.filter((word) => word !== "--long" && !NAMES.some((name) => name === word));
if (unknown.length > 0) throw new Error(`expected --long and names of parts (${NAMES.join(" ")}), got ${unknown}`);
const peerParts = given.includes(PEERS) ? PEER_PARTS : PEER_PARTS.filter((part) => given.includes(part));
const chosen = given.filter(isPart);
const isParallel = given.includes(PARALLEL);
const parts = chosen.length > 0 || peerParts.length > 0 || isParallel ? chosen : PARTS;

// Of the last minute before: figures of a busy machine are to be known as such.
const loadBefore = loadavg()[0]?.toFixed(1);
const tables: string[] = [];
if (parts.length > 0) tables.push(await measureParts(parts));
if (peerParts.length > 0) tables.push(await measurePeers({ parts: peerParts, isLong }));
if (isParallel) tables.push(await measureParallel({ isLong }));
console.log(
  `${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores, load before ${loadBefore}, Bun ${Bun.version}\n`,
);
console.log(tables.join("\n\n"));

function isPart(word: string): word is Part {
  return PARTS.some((part) => part === word);
}

async function measureParts(parts: readonly Part[]): Promise<string> {
  const lab = await openLab();
  const rows: Row[] = [];
  try {
    for (const part of parts) rows.push(...(await measure(part, lab)));
  } finally {
    await lab.close();
  }
  return formatTable(rows);
}

async function measure(part: Part, lab: Lab): Promise<Row[]> {
  console.error(`measuring: ${part}`);
  switch (part) {
    case "blob":
      return measureBlobs(lab, { rounds: isLong ? 25 : 7 });
    case "memory":
      return [...(await measureIdle(lab)), ...(await measureSlowClients(lab))];
    case "start":
      return measureStart(lab, { rounds: isLong ? 30 : 10 });
    case "small":
      return measureSmallRequests(lab, isLong ? { rounds: 5, seconds: 10 } : { rounds: 3, seconds: 3 });
    case "cached":
      return measureCached(lab, { rounds: isLong ? 15 : 5 });
    case "grants":
      return measureGrants(lab, { rounds: 10, seconds: isLong ? 5 : 2 });
    case "upkeep":
      return measureUpkeep(lab);
  }
}
