/**
 * Is the owner of a spool folder alive? Each process listens on a unix socket in its folder. The kernel refuses connections
 * to it from the moment the process is gone, kill -9 included; process ids would not do, since containers that share a
 * directory do not share those. A busy event loop does not matter: the kernel accepts.
 *
 * The folder's name says where that holds: `<hostname>~<boot>-<pid>-<random>`. Processes of one kernel (same boot) reach
 * each other's sockets through any mount; the same hostname under another boot means that the machine was started anew.
 * Sockets do not reach across machines: there only the time since the last write tells.
 */
import { lstat, readdir, readFile } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { errorCode, unlessMissing } from "./disk.ts";

export interface Host {
  readonly name: string;
  /** Random id of the running kernel; empty where the system does not tell. */
  readonly boot: string;
}

/** Folders without an owner: what a process left when it ended in order. */
export const LEFT_PREFIX = "left-";
const SOCKET = "alive";

/** A running download without a byte for this long does not exist: idle timeouts are minutes at most. */
const UNTOUCHED_MS = 60 * 60 * 1000;
/** The kernel answers at once, or the file system hangs. */
const CONNECT_TIMEOUT_MS = 1000;

export async function thisHost(): Promise<Host> {
  return { name: safeName(hostname()), boot: await bootId() };
}

async function bootId(): Promise<string> {
  try {
    return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).slice(0, 8);
  } catch {
    // Only Linux tells; without it the hostname alone decides.
    return "";
  }
}

/** Letters, digits and dots of a hostname: the other characters separate the parts of a folder's name. */
function safeName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9.]/g, "_").slice(0, 63) || "unnamed";
}

export function ownerName(host: Host): string {
  return `${host.name}~${host.boot}-${process.pid}-${crypto.randomUUID().slice(0, 8)}`;
}

/**
 * Marks a folder as owned by this process until it ends or `close` is called.
 * @throws when the file system has no sockets; the folder then counts as dead an hour after its last write
 */
export function claim(folder: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(join(folder, SOCKET), () => {
      server.unref();
      resolve(server);
    });
  });
}

/** True when nobody writes in the folder any more, so that its files may be taken. */
export async function isAbandoned(folder: string, name: string, { host, now }: { host: Host; now: number }) {
  if (name.startsWith(LEFT_PREFIX)) return true;
  const owner = /^(.+)~([^~]*)-\d+-[0-9a-f]+$/.exec(name);
  if (owner === null) return false;
  const isSameMachine = owner[1] === host.name || (host.boot !== "" && owner[2] === host.boot);
  const answer = await tryConnect(join(folder, SOCKET));
  if (answer === "refused" && isSameMachine) return true;
  if (answer === "accepted" || answer === "unclear") return false;
  return now - (await lastTouchedMs(folder)) > UNTOUCHED_MS;
}

/** `missing`: no socket was made yet, or could not be. */
function tryConnect(path: string): Promise<"accepted" | "refused" | "missing" | "unclear"> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answer: "accepted" | "refused" | "missing" | "unclear"): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => settle("unclear"), CONNECT_TIMEOUT_MS);
    socket.once("connect", () => settle("accepted"));
    socket.on("error", (cause) => {
      const code = errorCode(cause);
      settle(code === "ECONNREFUSED" ? "refused" : code === "ENOENT" ? "missing" : "unclear");
    });
  });
}

async function lastTouchedMs(folder: string): Promise<number> {
  let last = 0;
  for (const name of [".", ...((await unlessMissing(readdir(folder))) ?? [])]) {
    const stats = await unlessMissing(lstat(join(folder, name)));
    last = Math.max(last, stats?.mtimeMs ?? 0);
  }
  return last;
}
