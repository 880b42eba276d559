import { describe, expect, test } from "bun:test";
import { CLIENT_NAMES, setupText } from "../../../src/commands/setup.ts";
import { parseRegistryMap } from "../../../src/config/registrymap.ts";

const MAP = await parseRegistryMap(
  JSON.stringify({ docker: "https://registry-1.docker.io", ghcr: "https://ghcr.io", art: "https://art.example/base" }),
  { source: "file", readFile: () => Promise.reject(new Error("no files")) },
);
const plain = (client: string) => setupText(client, { origin: "http://reg.lan:5000", map: MAP });
const secure = (client: string) => setupText(client, { origin: "https://reg.example", map: MAP });

/** The text of one file in the output: what stands between its comment and the next one. */
function fileIn(text: string | undefined, path: string): string {
  const [, behind = ""] = (text ?? "").split(`${path}`);
  const lines = behind.split("\n").slice(1);
  const end = lines.findIndex((line) => line.startsWith("# "));
  return lines.slice(0, end < 0 ? undefined : end).join("\n");
}

describe("setupText()", () => {
  test("docker: a mirror, and plain http only where it is", () => {
    expect(JSON.parse(fileIn(plain("docker"), "daemon.json"))).toEqual({
      "registry-mirrors": ["http://reg.lan:5000"],
      "insecure-registries": ["reg.lan:5000"],
    });
    expect(JSON.parse(fileIn(secure("docker"), "daemon.json"))).toEqual({
      "registry-mirrors": ["https://reg.example"],
    });
    expect(plain("docker")).toContain("docker pull reg.lan:5000/ghcr.io/org/image:tag");
  });

  test.each([
    ["docker29", "/etc/docker/certs.d"],
    ["containerd", "/etc/containerd/certs.d"],
    ["kind", "./certs.d"],
  ])("[R165, R171] %s: one hosts.toml for each registry, without a path, as ns names it", (client, folder) => {
    expect(Bun.TOML.parse(fileIn(plain(client), `${folder}/ghcr.io/hosts.toml`))).toEqual({
      server: "https://ghcr.io",
      host: { "http://reg.lan:5000": { capabilities: ["pull", "resolve"] } },
    });
    expect(Bun.TOML.parse(fileIn(plain(client), `${folder}/docker.io/hosts.toml`))).toMatchObject({
      server: "https://registry-1.docker.io",
    });
    expect(plain(client)).not.toContain("art.example");
    expect(plain(client)).not.toContain("index.docker.io");
  });

  test("containerd: the folder is switched on", () => {
    expect(Bun.TOML.parse(fileIn(plain("containerd"), "config.toml"))).toEqual({
      plugins: { "io.containerd.cri.v1.images": { registry: { config_path: "/etc/containerd/certs.d" } } },
    });
  });

  test.each(["k3s", "k3d"])("[R197] %s: registries.yaml", (client) => {
    expect(Bun.YAML.parse(plain(client) ?? "")).toEqual({
      mirrors: { "docker.io": { endpoint: ["http://reg.lan:5000"] }, "ghcr.io": { endpoint: ["http://reg.lan:5000"] } },
    });
  });

  test("[R184] podman: the registry's host in front of the name", () => {
    expect(Bun.TOML.parse(plain("podman") ?? "")).toEqual({
      registry: ["docker.io", "ghcr.io"].map((host) => ({
        prefix: host,
        location: host,
        mirror: [{ location: `reg.lan:5000/${host}`, insecure: true }],
      })),
    });
    expect(secure("podman")).not.toContain("insecure");
  });

  test("[R192] buildkit: the registry's host in front of the name", () => {
    expect(Bun.TOML.parse(plain("buildkit") ?? "")).toEqual({
      registry: {
        "docker.io": { mirrors: ["reg.lan:5000/docker.io"] },
        "ghcr.io": { mirrors: ["reg.lan:5000/ghcr.io"] },
        "reg.lan:5000": { http: true },
      },
    });
    expect(secure("buildkit")).not.toContain("http = true");
  });

  test("kind: the folder is mounted into the node", () => {
    expect(Bun.YAML.parse((plain("kind") ?? "").split("# Before kind")[0] ?? "")).toEqual({
      kind: "Cluster",
      apiVersion: "kind.x-k8s.io/v1alpha4",
      nodes: [
        { role: "control-plane", extraMounts: [{ hostPath: "./certs.d", containerPath: "/etc/containerd/certs.d" }] },
      ],
    });
  });

  test.each(["kind", "k3d"])("%s: says that localhost is the node itself", (client) => {
    const text = setupText(client, { origin: "http://127.0.0.1:5000", map: MAP });
    expect(text).toContain("give this machine's name with --public-url");
    expect(plain(client)).not.toContain("give this machine's name");
  });

  test("knows the clients of the product page and nothing else", () => {
    expect([...CLIENT_NAMES].sort()).toEqual([
      "buildkit",
      "containerd",
      "docker",
      "docker29",
      "k3d",
      "k3s",
      "kind",
      "podman",
    ]);
    for (const name of ["constructor", "", "Docker"]) expect(plain(name)).toBeUndefined();
  });
});
