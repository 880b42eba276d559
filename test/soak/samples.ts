/** What a running program holds at a moment, from outside: memory, files and sockets as the kernel tells them, and its own metrics. */
import { readdir, readlink, stat } from "node:fs/promises";
import path from "node:path";
import { type Samples, samplesIn } from "../support/metrics.ts";

export interface Watched {
  readonly pid: number;
  /** Of the cache. */
  readonly directory: string;
  /** `"http://127.0.0.1:41234"` */
  readonly url: string;
  /** Socket of probe.ts, if the program has it. */
  readonly probe: string | undefined;
}

/** By name, with the unit in it. Names that are not there now are 0. */
export type Values = Readonly<Record<string, number>>;

const MIB = 2 ** 20;
/** As /proc/net/tcp numbers them. */
const STATES: Readonly<Record<string, string>> = {
  "01": "established",
  "02": "syn-sent",
  "03": "syn-received",
  "04": "fin-wait-1",
  "05": "fin-wait-2",
  "07": "closed",
  "08": "close-wait",
  "09": "last-ack",
  "0A": "listening",
  "0B": "closing",
};

export async function takeValues(watched: Watched): Promise<Values> {
  const [memory, files, disk, metrics, probed] = await Promise.all([
    memoryOf(watched.pid),
    filesOf(watched),
    diskOf(watched.directory),
    metricsOf(watched.url),
    probe(watched.probe),
  ]);
  return { ...memory, ...files, ...disk, ...metrics, ...probed };
}

async function memoryOf(pid: number): Promise<Values> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
  return {
    "resident MiB": number("VmRSS") / 1024,
    "anonymous MiB": number("RssAnon") / 1024,
    threads: number("Threads"),
  };
}

async function filesOf({ pid, directory }: Watched): Promise<Values> {
  const counts: Record<string, number> = {};
  const count = (name: string): void => void (counts[name] = (counts[name] ?? 0) + 1);
  const states = await socketStates(pid);
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => undefined);
    if (target === undefined) continue; // closed meanwhile
    count("open files");
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) {
      count("sockets");
      count(`sockets ${states.get(inode) ?? "unix or unbound"}`);
    } else if (target.endsWith(" (deleted)")) count("open files, removed");
    else if (target.startsWith(`${directory}/`)) count("open files of the cache");
  }
  return counts;
}

async function socketStates(pid: number): Promise<Map<string, string>> {
  const states = new Map<string, string>();
  for (const name of ["tcp", "tcp6"]) {
    const text = await Bun.file(`/proc/${pid}/net/${name}`).text();
    for (const line of text.split("\n").slice(1)) {
      const fields = line.trim().split(/\s+/);
      const [, , , state = "", , , , , , inode = "0"] = fields;
      if (inode !== "0") states.set(inode, STATES[state] ?? state);
    }
  }
  return states;
}

async function diskOf(directory: string): Promise<Values> {
  const spools = await filesBelow(path.join(directory, "spool"));
  const kept = await filesBelow(path.join(directory, "blobs"));
  const own = await filesBelow(directory, { isRecursive: false });
  return {
    "temp files": spools.length,
    "temp MiB": sum(spools) / MIB,
    "kept files": kept.length,
    "kept MiB": sum(kept) / MIB,
    "records MiB": sum(own) / MIB,
  };
}

/** Sizes of the files. */
async function filesBelow(folder: string, { isRecursive = true } = {}): Promise<number[]> {
  const entries = await readdir(folder, { recursive: isRecursive, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  const sizes = files.map(({ parentPath, name }) => stat(path.join(parentPath, name)).then(({ size }) => size));
  // What is removed while it is looked at is not there.
  return (await Promise.allSettled(sizes)).flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
}

async function metricsOf(url: string): Promise<Values> {
  const answer = await fetch(`${url}/metrics`, { keepalive: false });
  const samples: Samples = samplesIn(await answer.text());
  const value = (name: string): number => samples.get(`layover_${name}`) ?? 0;
  return {
    "open requests": value("open_requests"),
    "client connections": value("open_connections"),
    fills: value("running_fills"),
    followers: value("fill_followers"),
    "cache MiB": value("cache_bytes") / MIB,
    "evicted contents": value("evicted_contents_total"),
  };
}

/** Undefined properties of a program without it are left out. */
async function probe(unix: string | undefined): Promise<Values> {
  if (unix === undefined) return {};
  const answer = await fetch("http://probe/", { unix, keepalive: false });
  return (await answer.json()) as Values;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
