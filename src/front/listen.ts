/**
 * Binds a server to an address and says in words why that failed. Unix sockets: a file left behind by a dead process is
 * removed, and the group may connect; the runtime removes the file when the server closes.
 */
import { chmodSync, lstatSync, rmSync } from "node:fs";
import net from "node:net";

/** Where to listen. */
export type ListenSpec =
  | {
      readonly kind: "tcp";
      /** An address without brackets, or a name; undefined for every address of both families. */
      readonly host: string | undefined;
      /** 0 lets the system choose. */
      readonly port: number;
    }
  | {
      readonly kind: "unix";
      readonly path: string;
      /** Who may connect; owner and group by default. */
      readonly mode?: number;
    };

export interface BoundAddress {
  /** `"127.0.0.1:5000"`, `"[::]:5000"`, `"unix:/run/layover.sock"`. */
  readonly text: string;
  /** The port in use; undefined on a unix socket. */
  readonly port: number | undefined;
}

/** An address that cannot be listened on; the message says what to do about it. */
export class ListenError extends Error {
  constructor(message: string, options: { cause: unknown }) {
    super(message, options);
    this.name = "ListenError";
  }
}

/** Owner and group: what stands in front of us (nginx, say) shares a group. */
const SOCKET_MODE = 0o660;

/**
 * @param flag the setting that named the address, for the message: `"--listen"`
 * @throws ListenError
 */
export async function listenOn(server: net.Server, spec: ListenSpec, flag: string): Promise<BoundAddress> {
  try {
    return spec.kind === "unix" ? await listenOnPath(server, spec) : await listenOnPort(server, spec);
  } catch (cause) {
    throw new ListenError(explain(spec, flag, cause), { cause });
  }
}

/** As people write it: `":5000"`, `"[::1]:5000"`, `"unix:/run/layover.sock"`. */
export function specText(spec: ListenSpec): string {
  if (spec.kind === "unix") return `unix:${spec.path}`;
  return hostPort(spec.host ?? "", spec.port);
}

async function listenOnPort(server: net.Server, spec: ListenSpec & { kind: "tcp" }): Promise<BoundAddress> {
  try {
    await listening(server, { host: spec.host ?? "::", port: spec.port, ipv6Only: false });
  } catch (error) {
    // A machine without IPv6 has no dual-stack address: everything it has is IPv4.
    const lacksIpv6 = spec.host === undefined && ["EAFNOSUPPORT", "EADDRNOTAVAIL", "EINVAL"].includes(codeOf(error));
    if (!lacksIpv6) throw error;
    await listening(server, { host: "0.0.0.0", port: spec.port });
  }
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a tcp address");
  return { text: hostPort(address.address, address.port), port: address.port };
}

async function listenOnPath(
  server: net.Server,
  { path, mode = SOCKET_MODE }: ListenSpec & { kind: "unix" },
): Promise<BoundAddress> {
  if (await isStale(path)) rmSync(path);
  await listening(server, { path });
  chmodSync(path, mode);
  return { text: `unix:${path}`, port: undefined };
}

/** A socket file that nobody listens on. @throws when something listens there, or it is no socket */
async function isStale(path: string): Promise<boolean> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  if (!stat.isSocket()) throw Object.assign(new Error("the path is taken by a file"), { code: "EEXIST" });
  const answered = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path });
    probe.once("connect", () => (probe.destroy(), resolve(true)));
    probe.once("error", () => resolve(false));
  });
  if (answered) throw Object.assign(new Error("a program listens there"), { code: "EADDRINUSE" });
  return true;
}

function listening(server: net.Server, options: net.ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      server.off("listening", onListening);
      reject(error);
    };
    const onListening = (): void => {
      server.off("error", onError);
      resolve();
    };
    server.once("error", onError).once("listening", onListening);
    server.listen(options);
  });
}

function explain(spec: ListenSpec, flag: string, cause: unknown): string {
  const where = specText(spec);
  const what = spec.kind === "tcp" ? `port ${spec.port}` : where;
  switch (codeOf(cause)) {
    case "EADDRINUSE":
      return `${what} is in use: another program listens on ${where}; stop it or choose another ${flag}`;
    case "EEXIST":
      return `${what} is not a socket: remove the file or choose another ${flag}`;
    case "EACCES":
    case "EPERM":
      return `no permission to listen on ${where}: ${permissionMend(spec)}, or choose another ${flag}`;
    case "EADDRNOTAVAIL":
      return `${where} is not an address of this machine: choose another ${flag}`;
    case "ENOTFOUND":
      return `the host of ${where} is not known: give an address in ${flag}`;
    case "ENOENT":
      return `the folder of ${where} does not exist: make it or choose another ${flag}`;
    default:
      return `cannot listen on ${where}: ${cause instanceof Error ? cause.message : String(cause)}`;
  }
}

function permissionMend(spec: ListenSpec): string {
  if (spec.kind === "unix") return "the folder must be writable for this user";
  return "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE";
}

function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
