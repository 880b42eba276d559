/**
 * containerd, by its own tool and by the kubelet's calls, old (1.6) and new (2.x, with one blob fetched in parallel pieces:
 * protocol R176). Mirrors by hosts.toml in all its forms (protocol R171).
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { mirrorPath, type Client, type ClientPlace, type Credentials, type Mirror, type Setup } from "./client.ts";
import { criPull, criRepoDigests } from "./cri.ts";
import { startDaemon, type Daemon } from "./daemon.ts";
import { run } from "./shell.ts";

export interface ContainerdOptions extends ClientPlace {
  /** `"containerd"` or `"containerd2"`: the prefix of the clients' names. */
  name: string;
  /** Programs: the daemon and its `ctr`. */
  daemon: string;
  ctr: string;
  /** Bytes a piece of a blob has when fetched in parallel; 0 fetches it whole. containerd 2 only. */
  fetchPieceBytes?: number;
}

const ALL_FORMS = ["root", "after", "before", "default"] as const;

/** Two clients on one daemon: `<name>-ctr` and `<name>-cri`. */
export function createContainerdClients(options: ContainerdOptions): Client[] {
  const daemon = createContainerd(options);
  const common = {
    programs: [options.daemon, options.ctr],
    isInDebian: options.daemon.startsWith("/usr"),
    mirrorForms: ALL_FORMS,
    configure: daemon.configure,
    stop: daemon.stop,
  };
  return [
    { ...common, name: `${options.name}-ctr`, pull: daemon.pullByTool },
    { ...common, name: `${options.name}-cri`, pull: daemon.pullByCri },
  ];
}

function createContainerd(options: ContainerdOptions) {
  const dir = join(options.dir, options.name);
  const socket = join(dir, "containerd.sock");
  const hosts = join(dir, "hosts");
  const ctr = [options.ctr, "--address", socket];
  let running: Daemon | undefined;
  const empty = async (): Promise<void> => {
    for (const namespace of ["default", "k8s.io"]) {
      const list = (await run([...ctr, "-n", namespace, "images", "ls", "-q"]))
        .split("\n")
        .filter((name) => name !== "");
      if (list.length > 0) await run([...ctr, "-n", namespace, "images", "rm", "--sync", ...list]);
    }
  };
  return {
    async configure(setup: Setup): Promise<void> {
      rmSync(hosts, { recursive: true, force: true });
      mkdirSync(hosts, { recursive: true });
      for (const [name, text] of hostsFiles(setup)) await Bun.write(join(hosts, name, "hosts.toml"), text);
      if (running !== undefined) return; // hosts.toml is read for each pull
      await Bun.write(join(dir, "config.toml"), daemonConfig(options, { dir, socket, hosts }));
      running = await startDaemon(options.name, [options.daemon, "--config", join(dir, "config.toml")], {
        dir,
        env: { SSL_CERT_FILE: options.caFile },
        isReady: async () => (await run([...ctr, "version"])) !== "",
      });
    },
    async pullByTool(reference: string, credentials?: Credentials): Promise<string> {
      await empty();
      const login = credentials ? ["--user", `${credentials.username}:${credentials.password}`] : [];
      await run([...ctr, "images", "pull", "--hosts-dir", hosts, ...login, reference], {
        env: { SSL_CERT_FILE: options.caFile },
      });
      const row = (await run([...ctr, "images", "ls"])).split("\n").find((line) => line.startsWith(`${reference} `));
      return /sha256:[0-9a-f]{64}/.exec(row ?? "")?.[0] ?? `not listed: ${reference}`;
    },
    async pullByCri(reference: string, credentials?: Credentials): Promise<string> {
      await empty();
      const id = await criPull(socket, reference, credentials);
      const [name = `no digest of ${id}`] = await criRepoDigests(socket, id);
      return name.slice(name.indexOf("@") + 1);
    },
    async stop(): Promise<void> {
      await running?.stop();
      running = undefined;
    },
  };
}

/** Folder below hosts → hosts.toml. */
function hostsFiles({ plainHosts, mirror }: Setup): [string, string][] {
  const capabilities = 'capabilities = ["pull", "resolve"]';
  const files = plainHosts.map((host): [string, string] => [
    host,
    `server = "http://${host}"\n[host."http://${host}"]\n${capabilities}\n`,
  ]);
  if (mirror === undefined) return files;
  const override = mirror.form === "after" ? "override_path = true\n" : "";
  const text = `[host."${mirrorUrl(mirror)}"]\n${capabilities}\n${override}`;
  return [...files, [mirror.form === "default" ? "_default" : mirror.registry, text]];
}

function mirrorUrl(mirror: Mirror): string {
  return mirror.form === "after" ? `${mirror.url}/v2${mirrorPath(mirror)}` : `${mirror.url}${mirrorPath(mirror)}`;
}

function daemonConfig(options: ContainerdOptions, paths: { dir: string; socket: string; hosts: string }): string {
  const common = `root = "${paths.dir}/root"
state = "${paths.dir}/state"
[grpc]
  address = "${paths.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${paths.dir}/opt"
`;
  if (options.fetchPieceBytes === undefined) {
    return `version = 2\n${common}[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "${paths.hosts}"\n`;
  }
  return `version = 3
${common}[plugins."io.containerd.cri.v1.images"]
  concurrent_layer_fetch_buffer = ${options.fetchPieceBytes}
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "${paths.hosts}"
[plugins."io.containerd.transfer.v1.local"]
  config_path = "${paths.hosts}"
  concurrent_layer_fetch_buffer = ${options.fetchPieceBytes}
`;
}
