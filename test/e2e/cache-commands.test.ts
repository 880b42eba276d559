/** The commands that look after the cache, driven as an operator does: beside a running server and without one. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { type Ended, runCommand } from "../support/command.ts";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { makeArtifact, makeImage, makeIndex } from "../support/images.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let farm: Farm;
/** Flags that stand for the running server's settings. */
let settings: string[];
beforeAll(async () => {
  dir = await createTempDir("layover-commands-");
  farm = await startFarm({ args: ["--cache-dir", dir.file("cache"), "--cache-min-free", "0"] });
  await Bun.write(dir.file("map.json"), JSON.stringify(mapOf(farm)));
  settings = flagsFor(dir.file("cache"));
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

function mapOf({ hub, quay, ghcr }: Farm): object {
  return {
    default: "hub",
    hub: { upstreams: [hub.url], hosts: ["docker.io"] },
    quay: { upstreams: [quay.url], hosts: ["quay.io"] },
    ghcr: { upstreams: [ghcr.url], hosts: ["ghcr.io"] },
  };
}

function flagsFor(cacheDir: string): string[] {
  const map = dir.file("map.json");
  return ["--cache-dir", cacheDir, "--cache-min-free", "0", "--registry-map", map, "--state-dir", dir.file("state")];
}

function run(argv: string[], input = ""): Promise<Ended> {
  return runCommand(argv, { cwd: dir.path, input });
}

/** `layover cache …` on the running server's directory, or another. */
function cache(words: string[], flags = settings): Promise<Ended> {
  return run(["cache", ...words, ...flags]);
}

async function listed(pattern: string, flags = settings): Promise<Record<string, unknown>[]> {
  const { out } = await cache(["ls", "--json", pattern], flags);
  return out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

async function pull(name: string, digests: Iterable<string>): Promise<void> {
  for (const path of ["manifests/latest", ...[...digests].map((digest) => `blobs/${digest}`)])
    await (await farm.ask(`/v2/${name}/${path}`)).bytes();
}

function blobFile(digest: string, directory = dir.file("cache")): string {
  return join(directory, "blobs", ...digest.split(":"));
}

/** The last bytes reach clients before the disk has them for sure. */
async function untilKept(digest: string): Promise<void> {
  while (!(await Bun.file(blobFile(digest)).exists())) await Bun.sleep(2);
}

describe("beside a running server", () => {
  test("the admin socket is the owner's alone, and replaces a stale one", async () => {
    expect(statSync(dir.file("cache", "admin.sock")).mode & 0o777).toBe(0o600);
    await using own = await createTempDir("layover-commands-");
    const args = ["--cache-dir", own.file("cache"), "--cache-min-free", "0"];
    const first = await startFarm({ args });
    first.layover.signal("SIGKILL");
    await first.layover.exited;
    const stale = await new Promise((resolve) => {
      net.connect({ path: own.file("cache", "admin.sock") }).once("error", resolve);
    });
    expect(stale).toMatchObject({ code: "ECONNREFUSED" });
    const second = await startFarm({ args });
    expect((await cache(["stats"], ["--cache-dir", own.file("cache")])).code).toBe(0);
    expect(second.layover.log.filter(({ level }) => level === "warn")).toEqual([]);
    await second.stop();
    await Promise.all([first.hub, first.quay, first.ghcr, first.basic].map((registry) => registry.close()));
  });

  test("the admin socket may lie deeper than a socket's address holds", async () => {
    await using own = await createTempDir("layover-commands-");
    const long = own.file("x".repeat(120));
    const other = await startFarm({ args: ["--cache-dir", long, "--cache-min-free", "0"] });
    expect(other.layover.log.filter(({ level }) => level === "warn")).toEqual([]);
    await Bun.write(join(long, "records.sqlite-journal"), ""); // a second process would report it as a stranger
    expect(await cache(["stats"], flagsFor(long))).toMatchObject({ code: 0, err: "" });
    await other.stop();
  });

  test("what a login was shown has its plain name, and can be removed and pinned by it", async () => {
    const { digest } = farm.images.secret;
    const headers = { authorization: `Bearer ${await farm.token("/token/ghcr", "alice:secret")}` };
    for (const path of ["manifests/latest", `blobs/${layerOf(farm.images.secret)}`])
      await (await farm.ask(`/v2/ghcr/org/private/${path}`, { headers })).bytes();
    await untilKept(layerOf(farm.images.secret));
    expect(await listed("*org/private*")).toMatchObject([{ image: "ghcr.io/org/private:latest", digest }]);
    expect((await cache(["pin", "ghcr.io/org/private:latest"])).code).toBe(0);
    expect((await cache(["rm", "ghcr.io/org/private:latest"])).code).not.toBe(0);
    expect((await cache(["unpin", "ghcr.io/org/private:latest"])).code).toBe(0);
    expect((await cache(["rm", "ghcr.io/org/private:latest"])).code).toBe(0);
    expect(await listed("*org/private*")).toEqual([]);
  });

  test("ls shows images under names that can be typed again, as a table and as JSON", async () => {
    const image = makeImage({ seed: "ls", layers: [100_000] });
    farm.quay.add("org/ls", image);
    await pull("quay/org/ls", image.blobs.keys());
    await pull("app", farm.images.hub.blobs.keys());
    const table = await cache(["ls"]);
    expect({ code: table.code, err: table.err }).toEqual({ code: 0, err: "" });
    expect(table.out).toMatch(/^IMAGE +DIGEST +SIZE {2}LAST USED {2}PINNED\n/);
    expect(table.out).toMatch(/\nquay\.io\/org\/ls:latest +sha256:[0-9a-f]{12} +98 KiB {2}now\n/);
    const [found, ...others] = await listed("*org/ls:*");
    expect(others).toEqual([]);
    expect(found).toMatchObject({ image: "quay.io/org/ls:latest", digest: image.digest, pinned: false });
    expect(Object.keys(found ?? {})).toEqual(["image", "digest", "bytes", "pinned", "lastUsed"]);
    expect(await listed("docker.io/library/app")).toHaveLength(1);
    expect(await listed("org/nothing")).toEqual([]);
  });

  test("[T10] rm takes an image out and leaves what another one needs", async () => {
    const one = makeImage({ seed: "one", layers: [5000] });
    const other = makeImage({ seed: "one", layers: [5000, 300] }); // the first layer is the same
    farm.quay.add("org/one", one);
    farm.ghcr.add("org/other", other);
    await pull("quay/org/one", one.blobs.keys());
    await pull("ghcr/org/other", other.blobs.keys());
    const shared = layerOf(one);
    expect(layerOf(other)).toBe(shared);
    const needed = await cache(["rm", shared]);
    expect(needed).toMatchObject({ code: 1, out: "" });
    expect(needed.err).toContain(`${shared} is a part of sha256:`);
    expect(await cache(["rm", "quay/org/one"])).toMatchObject({ code: 0, err: "" });
    expect(await listed("org/one")).toEqual([]);
    expect(await Bun.file(blobFile(one.digest)).exists()).toBe(false);
    expect(await Bun.file(blobFile(shared)).exists()).toBe(true);
    farm.reset();
    await pull("ghcr/org/other", [shared]);
    expect(farm.ghcr.count({ path: /blobs/ })).toBe(0);
    expect(await cache(["rm", `ghcr.io/org/other@${other.digest}`])).toMatchObject({ code: 0, err: "" });
    expect(await Bun.file(blobFile(shared)).exists()).toBe(false);
  });

  test("what cannot be done is told for each name, and the others are done", async () => {
    const image = makeImage({ seed: "some" });
    farm.quay.add("org/some", image);
    await pull("quay/org/some", image.blobs.keys());
    const { code, out, err } = await cache(["rm", "nope:1", "quay.io/org/some", "foo.test/a/b", "A//b"]);
    expect(code).toBe(1);
    expect(out).toStartWith("removed quay.io/org/some: freed ");
    expect(err.trimEnd().split("\n")).toEqual([
      "layover: nope:1 is not in the cache",
      "layover: foo.test/a/b: registry not found: foo.test, please visit /help for available registries",
      "layover: expected an image such as nginx:1.27 or quay.io/org/app@sha256:…, or a digest, got A//b",
    ]);
  });

  test("a pinned image is shown so and cannot be taken out until it is unpinned", async () => {
    const image = makeImage({ seed: "pin" });
    farm.quay.add("org/pin", image);
    await pull("quay/org/pin", image.blobs.keys());
    expect((await cache(["pin", "quay/org/pin"])).out).toStartWith("pinned quay/org/pin (sha256:");
    expect((await cache(["ls", "org/pin"])).out).toContain("  pinned\n");
    expect(await cache(["rm", "quay/org/pin"])).toMatchObject({
      code: 1,
      err: "layover: quay/org/pin is pinned: unpin it first\n",
    });
    expect((await cache(["unpin", "quay/org/pin", "quay/org/pin"])).code).toBe(1); // the second is not pinned any more
    expect((await cache(["rm", "quay/org/pin"])).code).toBe(0);
  });

  test("verify finds damage, moves it aside, and the next pull fetches it again", async () => {
    const image = makeImage({ seed: "damage", layers: [9000] });
    farm.quay.add("org/damage", image);
    await pull("quay/org/damage", image.blobs.keys());
    const layer = layerOf(image);
    expect((await cache(["verify"])).out).toMatch(/^\d+ good, 0 damaged, 0 unreadable \(/);
    await Bun.write(blobFile(layer), "x".repeat(9000));
    const damaged = await cache(["verify"]);
    expect(damaged.code).toBe(1);
    expect(damaged.out).toMatch(new RegExp(`^damaged  ${layer}\n\\d+ good, 1 damaged, 0 unreadable`));
    expect(readdirSync(dir.file("cache", "damaged"))).toHaveLength(1);
    await pull("quay/org/damage", [layer]);
    expect((await cache(["verify"])).code).toBe(0);
  });

  test("stats and prune tell what there is and what went", async () => {
    const stats = JSON.parse((await cache(["stats", "--json"])).out);
    expect(stats).toMatchObject({ maxBytes: 32 * 1024 ** 3, minFreeBytes: 0, spooledBytes: 0, pinned: 0 });
    expect(stats.contents).toBeGreaterThan(0);
    expect((await cache(["stats"])).out).toMatch(/^content +\S+ \S+ in \d+ files\n/);
    expect((await cache(["prune", "--json"])).out).toBe('{"contents":0,"bytes":0}\n');
  });
});

describe("warm", () => {
  const amd64 = makeImage({ seed: "amd64", layers: [40_000] });
  const arm64 = makeImage({
    seed: "arm64",
    layers: [30_000],
    platform: { os: "linux", architecture: "arm64", variant: "v8" },
  });
  const index = makeIndex([amd64, arm64, makeArtifact()]);

  test("pulls the platforms that are named through the running server, once", async () => {
    farm.quay.add("org/warm", index);
    farm.reset();
    const warm = ["warm", "quay/org/warm", "--platform", "linux/amd64", ...settings];
    const first = await run(warm);
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(first.out).toMatch(/^ok {4}quay\/org\/warm:latest {2}39 KiB fetched\n\n1 of 1 images are in the cache: /);
    await untilKept(layerOf(amd64));
    expect(await Bun.file(blobFile(layerOf(arm64))).exists()).toBe(false);
    const asked = farm.quay.count({ method: "GET" });
    expect((await run(warm)).out).toContain("39 KiB were there");
    expect(farm.quay.count({ method: "GET" })).toBe(asked);
    expect((await run(["warm", "quay/org/warm", "--platform=all", ...settings])).code).toBe(0);
    await untilKept(layerOf(arm64));
  });

  test("tells each failure with its reason, and warms the others", async () => {
    farm.quay.add("org/warm", index);
    const names = "# ours\nquay/org/warm # twice\n\nquay/org/warm\nquay/org/none\n";
    const wrong = ["ghcr/org/private", "-f", "-", "--platform", "linux/amd64,linux/s390x", ...settings];
    const { code, out } = await run(["warm", "app", ...wrong], names);
    expect(code).toBe(1);
    expect(out).toContain("ok    app:latest ");
    expect(out).toMatch(
      /FAIL {2}quay\/org\/warm:latest +it has no linux\/s390x; it has linux\/amd64, linux\/arm64\/v8\n/,
    );
    expect(out).toMatch(/FAIL {2}quay\/org\/none:latest +404 /);
    expect(out).toMatch(/FAIL {2}ghcr\/org\/private:latest +it needs a login, and none is used here\n/);
    expect(out).toContain("\n1 of 4 images are in the cache: ");
  });

  test("pulls through a Layover by --url, and says so when that one keeps nothing", async () => {
    const plain = await startFarm();
    const { code, out } = await run(["warm", "quay/org/app", "--url", plain.layover.url]);
    expect(code).toBe(1);
    expect(out).toContain("this Layover keeps nothing: it runs without --cache-dir");
    await plain.stop();
    expect((await run(["warm", "app", "--url", plain.layover.url])).out).toContain("FAIL  app:latest  no answer: ");
  });

  test("without a server it runs one of its own, and so do the cache commands", async () => {
    await using own = await createTempDir("layover-commands-");
    const flags = flagsFor(own.file("cache"));
    const missing = await cache(["ls"], flags);
    expect(missing).toMatchObject({ code: 1, out: "" });
    expect(missing.err).toMatch(/^layover: expected a cache in \S+, found none; check --cache-dir\n$/);
    farm.quay.add("org/warm", index);
    expect(await run(["warm", "quay/org/warm", "app", "--platform=all", ...flags])).toMatchObject({ code: 0, err: "" });
    expect(await listed("", flags)).toHaveLength(2);
    expect(await cache(["verify"], flags)).toMatchObject({ code: 0, err: "" });
    expect((await cache(["pin", "quay/org/warm"], flags)).code).toBe(0);
    expect((await listed("org/warm", flags))[0]).toMatchObject({ pinned: true });
    // Idle for longer than a minute is nothing here; a budget of a few bytes is passed by everything that is not pinned.
    expect((await cache(["prune"], [...flags, "--cache-max-size", "80k"])).out).toMatch(/^evicted [1-9]\d* contents, /);
    expect((await listed("", flags)).map(({ image }) => image)).toEqual(["quay.io/org/warm:latest"]);
    expect(await Bun.file(blobFile(layerOf(arm64), own.file("cache"))).exists()).toBe(true);
    expect((await cache(["unpin", "quay/org/warm"], flags)).code).toBe(0);
    expect((await cache(["rm", "quay/org/warm"], flags)).code).toBe(0);
    expect(await listed("", flags)).toEqual([]);
    expect(await Bun.file(blobFile(layerOf(arm64), own.file("cache"))).exists()).toBe(false);
  });
});
