/** dockerd: names with a host, and `registry-mirrors` for docker.io at the root or below a path (protocol R150, R151). */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { hostOf, mirrorPath, type Client, type ClientPlace, type Credentials, type Setup } from "./client.ts";
import { startDaemon, type Daemon } from "./daemon.ts";
import { run } from "./shell.ts";

export function createDockerClient(place: ClientPlace): Client {
  const dir = join(place.dir, "docker");
  const socket = `unix://${join(dir, "docker.sock")}`;
  const configFile = join(dir, "daemon.json");
  const env = { DOCKER_HOST: socket, DOCKER_CONFIG: join(dir, "cli"), HOME: dir };
  const docker = (...args: string[]): Promise<string> => run(["docker", ...args], { env });
  let running: Daemon | undefined;
  return {
    name: "docker",
    programs: ["docker", "dockerd"],
    mirrorForms: ["root", "before"],
    mirrorsOnly: "docker.io",
    async configure(setup) {
      mkdirSync(dir, { recursive: true });
      await Bun.write(configFile, JSON.stringify(daemonConfig(setup)));
      if (running === undefined)
        running = await startDaemon("dockerd", dockerdCommand(dir, configFile, socket), daemonOptions());
      else await reload(running);
    },
    async pull(reference, credentials) {
      const ids = await docker("images", "--all", "--quiet", "--no-trunc");
      if (ids !== "") await docker("rmi", "--force", ...new Set(ids.split("\n")));
      if (credentials) await login(hostOf(reference), credentials);
      try {
        await docker("pull", "--quiet", reference);
      } finally {
        if (credentials) await docker("logout", hostOf(reference));
      }
      const digests = await docker("image", "inspect", "--format", "{{index .RepoDigests 0}}", reference);
      return digests.slice(digests.indexOf("@") + 1);
    },
    async stop() {
      await running?.stop();
      running = undefined;
    },
  };

  function daemonOptions() {
    const isReady = async (): Promise<boolean> => (await docker("version", "--format", "{{.Server.Version}}")) !== "";
    return { dir, env: { SSL_CERT_FILE: place.caFile }, isReady };
  }

  async function login(host: string, credentials: Credentials): Promise<void> {
    const command = ["docker", "login", "--username", credentials.username, "--password-stdin", host];
    await run(command, { env, stdin: credentials.password });
  }

  /** SIGHUP makes dockerd read mirrors and insecure registries again; it says so when it has. */
  async function reload(daemon: Daemon): Promise<void> {
    const done = (await Bun.file(`${daemon.logPath}.err`).text()).split("Reloaded configuration").length;
    daemon.signal("SIGHUP");
    while ((await Bun.file(`${daemon.logPath}.err`).text()).split("Reloaded configuration").length === done)
      await Bun.sleep(10);
  }
}

/** Without CAP_SYS_RESOURCE limits can only go down and the OOM score cannot; without a network of its own no bridge is needed. */
function dockerdCommand(dir: string, configFile: string, socket: string): string[] {
  const paths = [
    "--config-file",
    configFile,
    "--data-root",
    join(dir, "data"),
    "--exec-root",
    join(dir, "exec"),
    "-p",
    join(dir, "pid"),
  ];
  const network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];
  return ["dockerd", ...paths, "--host", socket, ...network, "--oom-score-adjust=0"];
}

function daemonConfig({ plainHosts, mirror }: Setup): object {
  const limit = { Soft: 20_000, Hard: 20_000 };
  return {
    "insecure-registries": plainHosts,
    "registry-mirrors": mirror === undefined ? [] : [`${mirror.url}${mirrorPath(mirror)}`],
    "default-ulimits": { nofile: { Name: "nofile", ...limit }, nproc: { Name: "nproc", ...limit } },
  };
}
