/** Every way of naming a registry leads to the same content (product section 1). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({ args: ["--domain-suffix", "example.test"] });
});
afterAll(() => farm.stop());

interface Row {
  readonly title: string;
  /** With `NAME` for the repository and what follows. */
  readonly path: string;
  readonly host?: string;
  readonly registry: "hub" | "quay" | "ghcr";
}

const rows: Row[] = [
  { title: "[C7, R190] host", host: "quay.example.test", path: "/v2/org/app/REST", registry: "quay" },
  {
    title: "[C7] host with port and in capitals",
    host: "QUAY.Example.TEST:8443",
    path: "/v2/org/app/REST",
    registry: "quay",
  },
  { title: "the suffix itself", host: "example.test", path: "/v2/org/app/REST", registry: "hub" },
  { title: "a registry's own host", host: "ghcr.io", path: "/v2/org/app/REST", registry: "ghcr" },
  { title: "[R184, R190] path after, host", path: "/v2/quay.io/org/app/REST", registry: "quay" },
  { title: "[C8, R190] path after, key", path: "/v2/quay/org/app/REST", registry: "quay" },
  { title: "[R151, R190] path before, key", path: "/quay/v2/org/app/REST", registry: "quay" },
  { title: "[R171, R190] path before, host", path: "/ghcr.io/v2/org/app/REST", registry: "ghcr" },
  { title: "[R163, R170, R190] ns", path: "/v2/org/app/REST?ns=quay.io", registry: "quay" },
  { title: "[R126] ns of Docker Hub's other names", path: "/v2/org/app/REST?ns=registry-1.docker.io", registry: "hub" },
  { title: "[R191] ns with the same registry in front", path: "/v2/quay.io/org/app/REST?ns=quay.io", registry: "quay" },
  { title: "[R150] root mirror", path: "/v2/library/app/REST", registry: "hub" },
  { title: "[C5, R127] Docker Hub without library", path: "/v2/app/REST", registry: "hub" },
  { title: "[R127] Docker Hub without library behind its host", path: "/v2/docker.io/app/REST", registry: "hub" },
  { title: "[C8] raw", path: "/quay/org/app/REST", registry: "quay" },
];

describe("pulls", () => {
  test.each(rows.map((row) => [row.title, row] as const))("%s", async (_title, row) => {
    const image = farm.images[row.registry];
    const headers: Record<string, string> = row.host === undefined ? {} : { host: row.host };
    const manifest = await farm.ask(row.path.replace("REST", "manifests/latest"), { headers });
    expect(manifest.status).toBe(200);
    expect(manifest.headers.get("docker-content-digest")).toBe(image.digest);
    const blob = await farm.ask(row.path.replace("REST", `blobs/${layerOf(image)}`), { headers });
    expect(blob.status).toBe(200);
    expect(Buffer.from(await blob.bytes())).toEqual(Buffer.from(image.blobs.get(layerOf(image)) ?? []));
  });

  test("[R40] the answer names ns back, and ns does not go upstream", async () => {
    farm.quay.reset();
    const answer = await farm.ask("/v2/org/app/manifests/latest?ns=quay.io");
    expect(answer.headers.get("oci-namespace")).toBe("quay.io");
    expect(farm.quay.requests.map(({ query }) => query)).toEqual([""]);
    expect((await farm.ask("/v2/quay/org/app/manifests/latest")).headers.get("oci-namespace")).toBeNull();
  });

  test("[R255] unknown query parameters do not reach the upstream of content", async () => {
    farm.quay.reset();
    await farm.ask("/v2/quay/org/app/manifests/latest?x=1&_=2");
    expect(farm.quay.requests.map(({ query }) => query)).toEqual([""]);
  });
});

describe("refusals", () => {
  const refused: [title: string, path: string, headers: Record<string, string>, status: number, code: string][] = [
    [
      "[C33, C12] unknown key under the suffix",
      "/v2/org/app/manifests/latest",
      { host: "nope.example.test" },
      404,
      "NAME_UNKNOWN",
    ],
    [
      "[R109, C12] unknown dotted registry in the path",
      "/v2/unknown.test/org/app/manifests/latest",
      {},
      404,
      "NAME_UNKNOWN",
    ],
    ["[R109] unknown registry before /v2", "/nope/v2/org/app/manifests/latest", {}, 404, "NAME_UNKNOWN"],
    ["[R109, T18] metadata address as ns", "/v2/org/app/manifests/latest?ns=169.254.169.254", {}, 404, "NAME_UNKNOWN"],
    ["[T18] metadata address in the path", "/v2/169.254.169.254/org/app/manifests/latest", {}, 404, "NAME_UNKNOWN"],
    ["[T18] decimal address as ns", "/v2/org/app/manifests/latest?ns=2852039166", {}, 404, "NAME_UNKNOWN"],
    [
      "[T18] mapped address as ns",
      "/v2/org/app/manifests/latest?ns=%5B%3A%3Affff%3A169.254.169.254%5D",
      {},
      400,
      "NAME_INVALID",
    ],
    ["[R170] ns twice", "/v2/org/app/manifests/latest?ns=quay.io&ns=ghcr.io", {}, 400, "NAME_INVALID"],
    ["[R191] prefix and ns disagree", "/v2/quay.io/org/app/manifests/latest?ns=ghcr.io", {}, 400, "NAME_INVALID"],
    [
      "host and ns disagree",
      "/v2/org/app/manifests/latest?ns=ghcr.io",
      { host: "quay.example.test" },
      400,
      "NAME_INVALID",
    ],
    ["[R7] bad name", "/v2/Org/app/manifests/latest", {}, 400, "NAME_INVALID"],
    ["[R9] bad tag", `/v2/org/app/manifests/${"t".repeat(129)}`, {}, 400, "TAG_INVALID"],
    ["[R14] bad digest", "/v2/org/app/blobs/sha256:baddigeststring", {}, 400, "DIGEST_INVALID"],
    ["[R14] bad digest of a manifest", "/v2/org/app/manifests/sha256:baddigeststring", {}, 400, "DIGEST_INVALID"],
    ["[R10] capitals in a digest", `/v2/org/app/blobs/sha256:${"A".repeat(64)}`, {}, 400, "DIGEST_INVALID"],
    ["[R36] catalog", "/v2/_catalog", {}, 404, "UNSUPPORTED"],
    ["[R6] version 1", "/v1/search?q=nginx", {}, 404, "UNSUPPORTED"],
    ["[R253] another case", "/V2/org/app/manifests/latest", {}, 404, "UNSUPPORTED"],
    ["[R253] trailing slash", "/v2/org/app/tags/list/", {}, 404, "NAME_UNKNOWN"],
  ];
  test.each(refused)("%s", async (_title, path, headers, status, code) => {
    for (const registry of [farm.hub, farm.quay, farm.ghcr]) registry.reset();
    const answer = await farm.ask(path, { headers });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-type")).toBe("application/json");
    const body = (await answer.json()) as { errors: { code: string; message: string }[] };
    expect(body.errors[0]?.code).toBe(code);
    expect([farm.hub, farm.quay, farm.ghcr].map((registry) => registry.count())).toEqual([0, 0, 0]);
  });

  test("[C33] the message of an unknown host points at /help", async () => {
    const answer = await farm.ask("/v2/org/app/manifests/latest", { headers: { host: "nope.example.test" } });
    expect(await answer.text()).toContain(
      "registry not found: nope.example.test, please visit /help for available registries",
    );
  });

  test("[R65, R66, R253] writes are 405 and say why", async () => {
    for (const [method, path] of [
      ["POST", "/v2/org/app/blobs/uploads/"],
      ["PUT", "/v2/org/app/manifests/latest"],
      ["DELETE", `/v2/org/app/manifests/${farm.images.hub.digest}`],
      ["PATCH", "/v2/org/app/blobs/uploads/abc"],
    ] as const) {
      const answer = await farm.ask(path, { method, ...(method === "DELETE" ? {} : { body: "x" }) });
      expect(answer.status).toBe(405);
      expect(answer.headers.get("allow")).toBe("GET, HEAD");
      expect(await answer.text()).toContain("read-only proxy");
    }
  });
});

describe("strict hosts", () => {
  test("[C1] unknown hosts get 404 with the routes, known ones are served", async () => {
    const strict = await startFarm({ args: ["--domain-suffix", "example.test", "--strict-hosts"] });
    const refused = await strict.ask("/v2/org/app/manifests/latest");
    expect(refused.status).toBe(404);
    const body = (await refused.json()) as { routes: string[] };
    expect(body.routes).toContain("quay.example.test");
    const served = await strict.ask("/v2/org/app/manifests/latest", { headers: { host: "quay.example.test" } });
    expect(served.status).toBe(200);
    await served.bytes();
    await strict.stop();
  });
});
