/**
 * dockerd: names with a host, and `registry-mirrors` for docker.io at the root or below a path (protocol R150, R151).
 * Old (20.10, its own store) and new (29, containerd's store: no ping, `ns`, HEAD must have a length; protocol R163–R167).
 * Spoken to as its command line does, by the API on its socket: an old `docker` refuses a new daemon.
 */
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { delimiter, join } from "node:path";
import {
  hostOf,
  mirrorPath,
  type Client,
  type ClientPlace,
  type Credentials,
  type MirrorForm,
  type Setup,
} from "./client.ts";
import { startDaemon, type Daemon } from "./daemon.ts";

export interface DockerOptions extends ClientPlace {
  name: string;
  /** Program of the daemon, and of the containerd that it starts. */
  daemon: string;
  containerd: string;
  mirrorForms: readonly MirrorForm[];
  /** More flags for the daemon. */
  flags?: readonly string[];
}

const RELOAD_TIMEOUT_MS = 10_000;

export function createDockerClient(options: DockerOptions): Client {
  const dir = join(options.dir, options.name);
  const socket = join(dir, "docker.sock");
  const configFile = join(dir, "daemon.json");
  const call = (method: string, path: string, init: BunFetchRequestInit = {}): Promise<Response> =>
    fetch(`http://docker${path}`, { method, unix: socket, timeout: false, ...init });
  let running: Daemon | undefined;
  return {
    name: options.name,
    programs: [options.daemon, options.containerd],
    isInDebian: options.daemon.startsWith("/usr"),
    mirrorForms: options.mirrorForms,
    mirrorsOnly: "docker.io",
    async configure(setup) {
      mkdirSync(dir, { recursive: true });
      await Bun.write(configFile, JSON.stringify(daemonConfig(setup)));
      if (running === undefined) running = await start();
      else await reload(running);
    },
    async pull(reference, credentials) {
      await removeAll();
      const headers = credentials ? { "X-Registry-Auth": await login(reference, credentials) } : {};
      const stream = await call("POST", `/images/create?fromImage=${encodeURIComponent(reference)}`, { headers });
      failOnError(await stream.text());
      const image = (await (await call("GET", `/images/${reference}/json`)).json()) as { RepoDigests: string[] };
      return image.RepoDigests[0]?.replace(/^.*@/, "") ?? "no digest";
    },
    async push(reference, target, credentials) {
      await this.pull(reference);
      const [repo = "", tag = ""] = target.split(/:(?=[^:/]*$)/);
      const query = `repo=${encodeURIComponent(repo)}&tag=${tag}`;
      const tagged = await call("POST", `/images/${reference}/tag?${query}`);
      if (!tagged.ok) throw new Error(await tagged.text());
      const headers = { "X-Registry-Auth": credentials ? await login(target, credentials) : "e30=" };
      const lines = await (await call("POST", `/images/${repo}/push?tag=${tag}`, { headers })).text();
      failOnError(lines);
      return /digest: (sha256:[0-9a-f]{64}) size/.exec(lines)?.[1] ?? `no digest in ${lines.slice(-300)}`;
    },
    async stop() {
      await running?.stop();
      running = undefined;
    },
  };

  async function start(): Promise<Daemon> {
    // The daemon starts the containerd of its path, whatever version that is.
    const bin = join(dir, "bin");
    rmSync(bin, { recursive: true, force: true });
    mkdirSync(bin);
    symlinkSync(Bun.which(options.containerd) ?? "", join(bin, "containerd"));
    return startDaemon(options.name, [...dockerdCommand(options.daemon, dir), ...(options.flags ?? [])], {
      dir,
      env: { SSL_CERT_FILE: options.caFile, PATH: `${bin}${delimiter}${process.env["PATH"]}` },
      isReady: async () => (await call("GET", "/_ping")).ok,
    });
  }

  async function removeAll(): Promise<void> {
    const images = (await (await call("GET", "/images/json?all=true")).json()) as { Id: string }[];
    for (const { Id } of images) await (await call("DELETE", `/images/${Id}?force=true`)).text();
    await (await call("POST", `/images/prune?filters=${encodeURIComponent('{"dangling":["false"]}')}`)).text();
  }

  /** `docker login` and the header that the command line then sends with a pull. */
  async function login(reference: string, credentials: Credentials): Promise<string> {
    const account = { ...credentials, serveraddress: hostOf(reference) };
    const encoded = (value: object): string =>
      // URL-safe and padded: the daemon takes anything else for no credentials, without a word.
      Buffer.from(JSON.stringify(value)).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
    // The login at Docker Hub happened before there was a mirror; the mirror sees the credentials all the same.
    if (account.serveraddress === "docker.io") return encoded(account);
    const headers = { "content-type": "application/json" };
    const answer = await call("POST", "/auth", { headers, body: JSON.stringify(account) });
    const { IdentityToken, message } = (await answer.json()) as { IdentityToken?: string; message?: string };
    if (!answer.ok) throw new Error(message);
    const kept = IdentityToken ? { identitytoken: IdentityToken, serveraddress: account.serveraddress } : account;
    return encoded(kept);
  }

  /** SIGHUP makes dockerd read mirrors and insecure registries again; it says so when it has. */
  async function reload(daemon: Daemon): Promise<void> {
    const reloads = async (): Promise<number> =>
      (await Bun.file(`${daemon.logPath}.err`).text()).split("Reloaded configuration").length;
    const before = await reloads();
    const deadline = Date.now() + RELOAD_TIMEOUT_MS;
    daemon.signal("SIGHUP");
    while ((await reloads()) === before) {
      if (Date.now() > deadline)
        throw new Error(`${options.name} did not take its new configuration: ${await Bun.file(configFile).text()}`);
      await Bun.sleep(10);
    }
  }
}

/** A pull is answered with 200 and lines of JSON, the last of which may be the error. */
function failOnError(lines: string): void {
  for (const line of lines.split("\n").filter((text) => text !== "")) {
    const { error, message }: { error?: string; message?: string } = JSON.parse(line);
    if (error !== undefined || message !== undefined) throw new Error(error ?? message);
  }
}

/** Nothing is run, so no bridge is needed. */
function dockerdCommand(program: string, dir: string): string[] {
  const paths = [
    "--config-file",
    join(dir, "daemon.json"),
    "--data-root",
    join(dir, "data"),
    "--exec-root",
    join(dir, "exec"),
    "-p",
    join(dir, "pid"),
  ];
  const network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];
  return [program, ...paths, "--host", `unix://${join(dir, "docker.sock")}`, ...network];
}

/** Without CAP_SYS_RESOURCE limits can only go down. */
function daemonConfig({ plainHosts, mirror }: Setup): object {
  const limit = { Soft: 20_000, Hard: 20_000 };
  return {
    "insecure-registries": plainHosts,
    "registry-mirrors": mirror === undefined ? [] : [`${mirror.url}${mirrorPath(mirror)}`],
    "default-ulimits": { nofile: { Name: "nofile", ...limit }, nproc: { Name: "nproc", ...limit } },
  };
}
