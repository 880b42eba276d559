/** skopeo, podman and buildah: one library, one configuration (registries.conf), mirrors by prefix after `/v2` (protocol R184). */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../support/images.ts";
import { hostOf, mirrorPath, type Client, type ClientPlace, type Credentials, type Setup } from "./client.ts";
import { run } from "./shell.ts";

export function createContainersClients(place: ClientPlace): Client[] {
  return [createSkopeo(place), createStore("podman", place), createStore("buildah", place)];
}

function createSkopeo(place: ClientPlace): Client {
  const { conf, configure, env } = createConfiguration("skopeo", place);
  const target = join(place.dir, "skopeo", "image");
  return {
    name: "skopeo",
    programs: ["skopeo"],
    isInDebian: true,
    mirrorForms: ["root", "after"],
    configure,
    async pull(reference, credentials) {
      rmSync(target, { recursive: true, force: true });
      const login = credentials
        ? ["--src-creds", `${credentials.username}:${credentials.password}`]
        : ["--src-no-creds"];
      await run(
        [
          "skopeo",
          "--registries-conf",
          conf,
          "copy",
          "--quiet",
          "--all",
          ...login,
          `docker://${reference}`,
          `dir:${target}`,
        ],
        { env },
      );
      return digestOf(await Bun.file(join(target, "manifest.json")).bytes());
    },
    async push(reference, pushed, credentials) {
      const digestFile = join(place.dir, "skopeo", "digest");
      const login = credentials
        ? ["--dest-creds", `${credentials.username}:${credentials.password}`]
        : ["--dest-no-creds"];
      const command = ["skopeo", "--registries-conf", conf, "copy", "--quiet", "--all", "--src-no-creds", ...login];
      const names = [`docker://${reference}`, `docker://${pushed}`];
      await run([...command, "--digestfile", digestFile, ...names], { env });
      return (await Bun.file(digestFile).text()).trim();
    },
    stop: async () => {},
  };
}

/** podman and buildah differ in how they are asked what they have. */
function createStore(name: "podman" | "buildah", place: ClientPlace): Client {
  const { configure, env } = createConfiguration(name, place);
  let plainHosts: readonly string[] = [];
  // For lists buildah does not look into registries.conf.
  const verify = (reference: string): string => `--tls-verify=${!plainHosts.includes(hostOf(reference))}`;
  const store = [name, "--root", join(place.dir, name, "root"), "--runroot", join(place.dir, name, "run")];
  const inspect = {
    podman: ["image", "inspect", "--format", "{{.Digest}}"],
    buildah: ["inspect", "--type", "image", "--format", "{{.FromImageDigest}}"],
  };
  return {
    name,
    programs: [name],
    isInDebian: true,
    mirrorForms: ["root", "after"],
    async configure(setup) {
      ({ plainHosts } = setup);
      await configure(setup);
    },
    async pull(reference, credentials) {
      await run([...store, "rmi", "--all", "--force"], { env });
      await run([...store, "pull", "--quiet", ...loginFlag(credentials), reference], { env });
      return run([...store, ...inspect[name], reference], { env });
    },
    async push(reference, target, credentials) {
      await run([...store, "rmi", "--all", "--force"], { env });
      await run([...store, "manifest", "rm", "pushed"], { env }).catch(() => ""); // there is none the first time
      await run([...store, "manifest", "create", "pushed"], { env });
      const source = ["--all", verify(reference), "pushed", `docker://${reference}`];
      await run([...store, "manifest", "add", ...source], { env });
      const digestFile = join(place.dir, name, "digest");
      const flags = ["--all", verify(target), "--digestfile", digestFile, ...loginFlag(credentials)];
      await run([...store, "manifest", "push", ...flags, "pushed", `docker://${target}`], { env });
      return (await Bun.file(digestFile).text()).trim();
    },
    stop: async () => {},
  };
}

function loginFlag(credentials: Credentials | undefined): string[] {
  return credentials ? ["--creds", `${credentials.username}:${credentials.password}`] : [];
}

function createConfiguration(name: string, place: ClientPlace) {
  const dir = join(place.dir, name);
  const conf = join(dir, "registries.conf");
  const env = {
    HOME: dir,
    CONTAINERS_CONF: join(dir, "containers.conf"),
    CONTAINERS_REGISTRIES_CONF: conf,
    CONTAINERS_STORAGE_CONF: join(dir, "storage.conf"),
    REGISTRY_AUTH_FILE: join(dir, "auth.json"),
    SSL_CERT_FILE: place.caFile,
    XDG_RUNTIME_DIR: dir,
  };
  return {
    conf,
    env,
    async configure(setup: Setup): Promise<void> {
      mkdirSync(dir, { recursive: true });
      await Bun.write(env.REGISTRY_AUTH_FILE, "{}");
      const storage = `[storage]\ndriver = "overlay"\ngraphroot = "${dir}/root"\nrunroot = "${dir}/run"\n`;
      await Bun.write(env.CONTAINERS_STORAGE_CONF, storage);
      await Bun.write(
        env.CONTAINERS_CONF,
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
      );
      await Bun.write(join(dir, ".config/containers/policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
      await Bun.write(conf, registriesConf(setup));
    },
  };
}

function registriesConf({ plainHosts, mirror }: Setup): string {
  const plain = plainHosts.map((host) => `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
  if (mirror === undefined) return plain.join("");
  const { host, protocol } = new URL(mirror.url);
  const location = `${host}${mirrorPath(mirror)}`;
  const rule = `[[registry]]\nprefix = "${mirror.registry}"\nlocation = "${mirror.registry}"\n`;
  return `${plain.join("")}${rule}[[registry.mirror]]\nlocation = "${location}"\ninsecure = ${protocol === "http:"}\n`;
}
