/** What is counted, who may see it, and the address of its own. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { startLayover } from "../support/layover.ts";
import { metricsOf, total, untilTotal } from "../support/metrics.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let farm: Farm;
beforeAll(async () => {
  dir = await createTempDir("layover-metrics-");
  farm = await startFarm({ args: ["--cache-dir", dir.file("cache"), "--cache-min-free", "0"] });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});
beforeEach(() => farm.reset());

const read = async (what: string, headers: Record<string, string> = {}) => {
  const answer = await farm.ask(what, { headers });
  return { status: answer.status, bytes: (await answer.bytes()).byteLength };
};

describe("a pull", () => {
  test("is counted on both sides, by registry, endpoint and what the cache did", async () => {
    const image = makeImage({ seed: "counted", layers: [123_000] });
    farm.quay.add("org/counted", image);
    await read("/v2/quay/org/counted/manifests/latest");
    await read(`/v2/quay/org/counted/blobs/${layerOf(image)}`);
    const labels = { registry: "quay", endpoint: "blob", status: "2xx", cache: "MISS" };
    expect(await untilTotal(farm.layover.url, ["layover_requests_total", labels], 1)).toBe(1);
    expect(await untilTotal(farm.layover.url, ["layover_fills_total", { result: "committed" }], 1)).toBe(1);
    const samples = await metricsOf(farm.layover.url);
    expect(total(samples, "layover_response_bytes_total", { registry: "quay", endpoint: "blob" })).toBe(123_000);
    expect(total(samples, "layover_upstream_bytes_total", { registry: "quay" })).toBeGreaterThan(123_000);
    expect(total(samples, "layover_upstream_requests_total", { registry: "quay", outcome: "ok" })).toBeGreaterThan(1);
    expect(total(samples, "layover_request_header_seconds_count", { endpoint: "blob", cache: "MISS" })).toBe(1);
    expect(total(samples, "layover_cache_bytes")).toBeGreaterThan(123_000);
    expect(total(samples, "layover_running_fills")).toBe(0);
    expect(total(samples, "layover_open_connections")).toBeGreaterThan(0);
    expect(total(samples, "process_resident_memory_bytes")).toBeGreaterThan(1_000_000);
  });

  test("of what is not there is an error by its code, and a token request is one", async () => {
    await read("/v2/quay/org/nothing/manifests/latest");
    await farm.token("/token/ghcr", "alice:secret");
    const { url } = farm.layover;
    const unknown = { registry: "quay", code: "MANIFEST_UNKNOWN" };
    expect(await untilTotal(url, ["layover_request_errors_total", unknown], 1)).toBe(1);
    expect(await untilTotal(url, ["layover_requests_total", { registry: "ghcr", endpoint: "token" }], 1)).toBe(1);
    expect(total(await metricsOf(url), "layover_upstream_token_requests_total", { registry: "ghcr" })).toBe(1);
  });

  test("of a registry in trouble is an outcome, and /readyz tells it to this machine", async () => {
    farm.hub.faults.manifest.status = 503;
    await read("/v2/org/app/manifests/latest");
    const labels = { registry: "hub", outcome: "server-error" };
    expect(await untilTotal(farm.layover.url, ["layover_upstream_requests_total", labels], 1)).toBeGreaterThan(0);
    const near = (await (await farm.ask("/readyz")).json()) as Record<string, unknown>;
    expect(near["upstreams"]).toMatchObject({ hub: { last: "server-error" } });
    const far = await farm.ask("/readyz", { headers: { "x-forwarded-for": "203.0.113.9" } });
    expect((await far.json()) as unknown).toEqual({ status: "ready", registries: 4 });
  });
});

describe("wrong content", () => {
  test.each([
    ["digest", { corrupt: true }],
    ["page", { html: true }],
  ] as const)("[T13] is counted: %s", async (reason, fault) => {
    const image = makeImage({ seed: `wrong${reason}`, layers: [300_000] });
    farm.quay.add(`org/wrong-${reason}`, image);
    await read(`/v2/quay/org/wrong-${reason}/manifests/latest`);
    Object.assign(farm.quay.faults.blob, fault);
    await read(`/v2/quay/org/wrong-${reason}/blobs/${layerOf(image)}`).catch(() => undefined);
    const counted = await untilTotal(
      farm.layover.url,
      ["layover_refused_content_total", { registry: "quay", reason }],
      1,
    );
    expect(counted).toBeGreaterThanOrEqual(1);
  });

  test("[T13] is counted without a cache too", async () => {
    const bare = await startFarm();
    bare.quay.faults.blob.corrupt = true;
    bare.quay.faults.manifest.html = true;
    const blob = bare.ask(`/v2/quay/org/app/blobs/${layerOf(bare.images.quay)}`);
    await blob.then((answer) => answer.bytes()).catch(() => undefined);
    await (await bare.ask(`/v2/quay/org/app/manifests/${bare.images.quay.digest}`)).bytes();
    const { url } = bare.layover;
    expect(await untilTotal(url, ["layover_refused_content_total", { registry: "quay", reason: "digest" }], 1)).toBe(1);
    expect(await untilTotal(url, ["layover_refused_content_total", { registry: "quay", reason: "type" }], 1)).toBe(1);
    await bare.stop();
  });
});

describe("labels", () => {
  test("hold nothing of a client", async () => {
    for (const what of ["/v2/quay/org/invented/manifests/invented", "/v2/invented.test/x/manifests/y", "/invented"])
      await read(what, { "user-agent": "invented", "x-cache": "invented" });
    await read("/v2/quay/org/app/manifests/sha256:invented");
    await untilTotal(farm.layover.url, ["layover_requests_total", { status: "4xx" }], 4);
    expect([...(await metricsOf(farm.layover.url)).keys()].join("\n")).not.toContain("invented");
  });
});

describe("who may see them", () => {
  test.each(["forwarded", "x-forwarded-for", "x-real-ip", "via"])(
    "not who comes through a proxy on this machine: %s",
    async (header) => {
      const there = await farm.ask("/metrics", { headers: { [header]: "1.1 203.0.113.9" } });
      const nowhere = await farm.ask("/nothing", { headers: { [header]: "1.1 203.0.113.9" } });
      expect([there.status, await there.text()]).toEqual([404, await nowhere.text()]);
    },
  );

  test("only GET and HEAD", async () => {
    expect((await read("/metrics")).status).toBe(200);
    const head = await farm.ask("/metrics", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const post = await farm.ask("/metrics", { method: "POST" });
    expect(post.status).toBe(404);
    await post.text();
  });

  test("with --metrics-listen who reaches that address, which has nothing else, and nobody elsewhere", async () => {
    const layover = await startLayover({ args: ["--metrics-listen", "127.0.0.1:0"] });
    const { address } = await layover.logLine(({ msg }) => msg === "metrics");
    const own = `http://${String(address)}`;
    const metrics = await fetch(`${own}/metrics`, { headers: { "x-forwarded-for": "203.0.113.9" } });
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await metrics.text()).toContain("layover_build_info{");
    expect(await (await fetch(`${own}/readyz`)).json()).toMatchObject({ status: "ready", upstreams: {} });
    expect((await fetch(`${own}/healthz`)).status).toBe(200);
    for (const [url, method] of [
      [`${own}/v2/`, "GET"],
      [`${own}/help`, "GET"],
      [`${layover.url}/metrics`, "GET"],
    ] as const) {
      const answer = await fetch(url, { method });
      expect([url, answer.status]).toEqual([url, 404]);
      await answer.text();
    }
    const post = await fetch(`${own}/metrics`, { method: "POST", body: "x" });
    expect(post.status).toBe(405);
    await post.text();
    const short = await fetch(`${layover.url}/readyz`);
    expect(Object.keys((await short.json()) as object)).toEqual(["status", "registries"]);
    await layover.stop();
  });

  test("an address that cannot be had stops the start, and says which setting named it", async () => {
    const start = startLayover({ args: ["--metrics-listen", farm.layover.host] });
    await expect(start).rejects.toThrow("--metrics-listen");
  });
});

test("docs/operations.md has every metric, with its labels, and no other", async () => {
  const page = readFileSync(path.join(import.meta.dir, "../../docs/operations.md"), "utf8");
  const told = [...page.matchAll(/^\| `((?:layover|process)_\w+)`\s+\| (.*?)\s+\|/gm)].map(([, name, labels]) => [
    name,
    (labels ?? "").replaceAll("`", ""),
  ]);
  const answer = await farm.ask("/metrics");
  const text = await answer.text();
  const names = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name = ""]) => name);
  expect(told.map(([name]) => name).toSorted()).toEqual(names.toSorted());
  const mentioned = [...page.matchAll(/\blayover_[a-z_]+/g)].map(([name]) => name);
  expect(mentioned.filter((name) => !names.includes(name))).toEqual([]); // alerts too
  for (const [name = "", labels = ""] of told) {
    const series = [...text.matchAll(new RegExp(`^${name}(?:_bucket)?\\{(.*?)\\} `, "gm"))].map(([, found = ""]) =>
      [...found.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== "le"),
    );
    for (const found of series) expect([name, found.join(", ")]).toEqual([name, labels]);
  }
});
