/** Clients that Debian does not have; `test/clients/tools.sh` builds them from Go modules. They take names, never mirrors. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { hostOf, type Client, type ClientPlace, type Setup } from "./client.ts";
import { run } from "./shell.ts";

/** crane: the library of kaniko, ko and cosign; strict about lengths and digests (protocol R198). */
export function createCrane(place: ClientPlace): Client {
  const dir = join(place.dir, "crane");
  const env = { HOME: dir, DOCKER_CONFIG: join(dir, "config"), SSL_CERT_FILE: place.caFile };
  let plainHosts: readonly string[] = [];
  return {
    name: "crane",
    programs: ["crane"],
    isInDebian: false,
    mirrorForms: [],
    async configure(setup: Setup) {
      mkdirSync(env.DOCKER_CONFIG, { recursive: true });
      plainHosts = setup.plainHosts;
    },
    async pull(reference, credentials) {
      const host = hostOf(reference);
      const target = join(dir, "image");
      rmSync(target, { recursive: true, force: true });
      rmSync(join(env.DOCKER_CONFIG, "config.json"), { force: true });
      if (credentials) {
        const login = ["crane", "auth", "login", host, "--username", credentials.username, "--password-stdin"];
        await run(login, { env, stdin: credentials.password });
      }
      const plain = plainHosts.includes(host) ? ["--insecure"] : [];
      await run(["crane", "pull", "--format=oci", ...plain, reference, target], { env });
      const index: { manifests: { digest: string }[] } = await Bun.file(join(target, "index.json")).json();
      return index.manifests[0]?.digest ?? "no manifest";
    },
    async push(reference, target, credentials) {
      const host = hostOf(target);
      rmSync(join(env.DOCKER_CONFIG, "config.json"), { force: true });
      if (credentials) {
        const login = ["crane", "auth", "login", host, "--username", credentials.username, "--password-stdin"];
        await run(login, { env, stdin: credentials.password });
      }
      const isPlain = plainHosts.includes(host) || plainHosts.includes(hostOf(reference));
      const plain = isPlain ? ["--insecure"] : [];
      await run(["crane", "copy", ...plain, reference, target], { env });
      return run(["crane", "digest", ...plain, target], { env });
    },
    stop: async () => {},
  };
}

/** helm: charts only, by `oci://`. */
export function createHelm(place: ClientPlace): Client {
  const dir = join(place.dir, "helm");
  const env = { HOME: dir, SSL_CERT_FILE: place.caFile, HELM_REGISTRY_CONFIG: join(dir, "registry.json") };
  let plainHosts: readonly string[] = [];
  return {
    name: "helm",
    programs: ["helm"],
    isInDebian: false,
    mirrorForms: [],
    async configure(setup: Setup) {
      mkdirSync(dir, { recursive: true });
      plainHosts = setup.plainHosts;
    },
    async pull(reference, credentials) {
      const host = hostOf(reference);
      const plain = plainHosts.includes(host) ? ["--plain-http"] : [];
      rmSync(env.HELM_REGISTRY_CONFIG, { force: true });
      if (credentials) {
        const login = [
          "helm",
          "registry",
          "login",
          ...plain,
          "--username",
          credentials.username,
          "--password-stdin",
          host,
        ];
        await run(login, { env, stdin: credentials.password });
      }
      const [name = "", version = ""] = reference.split(/:(?=[^:/]*$)/);
      const output = await run(
        [
          "sh",
          "-c",
          'exec "$0" "$@" 2>&1',
          "helm",
          "pull",
          `oci://${name}`,
          "--version",
          version,
          ...plain,
          "--destination",
          dir,
        ],
        { env },
      );
      return /Digest: (sha256:[0-9a-f]{64})/.exec(output)?.[1] ?? output;
    },
    stop: async () => {},
  };
}
