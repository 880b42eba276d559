/**
 * The images the real clients pull: everything registries hold that differs on the wire. Names are repositories with a tag;
 * what a client cannot digest straight from the upstream it need not digest through Layover, but must fail in the same way.
 */
import { existsSync, readFileSync } from "node:fs";
import {
  describe,
  digestOf,
  encode,
  makeArtifact,
  makeIndex,
  MEDIA_TYPES,
  randomBytes,
  single,
  type Image,
  type Platform,
} from "../support/images.ts";
import { makeLayer, packLayer, type Layer, type TarEntry } from "./layers.ts";

export interface Catalogue {
  /** `"lab/multi:latest"` → content. */
  readonly images: ReadonlyMap<string, Image>;
}

export interface CatalogueOptions {
  /** Layers of `lab/big:latest` and their size; default 3 of 100 MiB. */
  bigLayers?: number;
  bigBytes?: number;
}

const AMD64: Platform = { os: "linux", architecture: "amd64" };

export function makeCatalogue(options: CatalogueOptions = {}): Catalogue {
  const shell = makeLayer(shellEntries());
  const text = (name: string, content: string): Layer => makeLayer([{ name, data: content }]);
  const busybox = imageOf([shell], { tags: ["latest", "1.35"] });
  const platforms: Platform[] = [
    AMD64,
    { os: "linux", architecture: "arm64", variant: "v8" },
    { os: "linux", architecture: "arm", variant: "v7" },
  ];
  const perPlatform = platforms.map((platform) => imageOf([shell, text("arch", platform.architecture)], { platform }));
  const multi = makeIndex([...perPlatform, ...perPlatform.map(attestationOf)]);
  const many = Array.from({ length: 60 }, (_, index) => text(`many/${index}`, `layer ${index}`));
  const emptyArchive = packLayer(new Uint8Array(1024));
  const big = Array.from({ length: options.bigLayers ?? 3 }, (_, index) =>
    makeLayer(
      [{ name: `big/${index}.bin`, data: randomBytes(`big/${index}`, options.bigBytes ?? 100 * 1024 * 1024) }],
      "stored",
    ),
  );
  const dockerArm = imageOf([text("docker", "arm64")], {
    platform: { os: "linux", architecture: "arm64" },
    isDocker: true,
  });
  const dockerAmd = imageOf([shell, text("docker", "amd64")], { isDocker: true });
  const images = new Map<string, Image>([
    ["library/busybox:latest", busybox],
    ["pause:3.9", imageOf([shell], { tags: ["3.9"] })],
    ["private/app:latest", imageOf([shell, text("private", "yes")])],
    ["lab/hello:v1", imageOf([shell, text("hello", "v1")], { tags: ["v1"] })],
    ["lab/schema2:latest", imageOf([shell, text("docker", "one")], { isDocker: true })],
    ["lab/schema2-list:latest", makeIndex([dockerAmd, dockerArm], { mediaTypes: "docker" })],
    ["lab/multi:latest", multi],
    ["lab/nested:latest", makeIndex([multi])],
    ["lab/many:latest", imageOf([shell, ...many])],
    ["lab/tiny:latest", imageOf([shell, emptyArchive, emptyArchive, makeLayer([{ name: "one", data: "1" }], "none")])],
    ["lab/zstd:latest", imageOf([shell, makeLayer([{ name: "zeros", data: new Uint8Array(1 << 20) }], "zstd")])],
    ["lab/zero:latest", makeArtifact({ blobs: [new Uint8Array()], tags: ["latest"] })],
    ["lab/chart:0.1.0", chart()],
    ["lab/big:latest", imageOf([shell, ...big])],
    ...referrersOf(busybox),
  ]);
  return { images };
}

interface RealImageOptions {
  platform?: Platform;
  isDocker?: boolean;
  tags?: string[];
}

function imageOf(layers: Layer[], options: RealImageOptions = {}): Image {
  const { platform = AMD64, isDocker = false } = options;
  const config = encode({
    created: "2024-01-01T00:00:00Z",
    ...platform,
    config: { Env: ["PATH=/bin"], Cmd: ["/bin/sh"] },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map((_, index) => ({ created: "2024-01-01T00:00:00Z", created_by: `layer ${index}` })),
  });
  const mediaType = isDocker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: describe(config, isDocker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.ociConfig),
    layers: layers.map((layer) => describe(layer.bytes, isDocker ? MEDIA_TYPES.dockerLayer : layer.mediaType)),
  };
  const blobs = new Map([config, ...layers.map(({ bytes }) => bytes)].map((bytes) => [digestOf(bytes), bytes]));
  return { ...single(encode(manifest), mediaType, blobs, options.tags ? { tags: options.tags } : {}), platform };
}

/** What BuildKit puts beside each platform: a manifest of platform unknown/unknown with an in-toto statement. */
function attestationOf(image: Image): Image {
  const statement = encode({
    _type: "https://in-toto.io/Statement/v0.1",
    subject: [{ name: "lab", digest: { sha256: image.digest.slice("sha256:".length) } }],
  });
  const layer = { bytes: statement, mediaType: "application/vnd.in-toto+json", diffId: digestOf(statement) };
  return imageOf([layer], { platform: { os: "unknown", architecture: "unknown" } });
}

/** A Helm chart as `helm push` stores it. */
function chart(): Image {
  const metadata = { apiVersion: "v2", name: "chart", version: "0.1.0", description: "a chart of nothing" };
  const files = {
    "Chart.yaml": "apiVersion: v2\nname: chart\nversion: 0.1.0\ndescription: a chart of nothing\n",
    "values.yaml": "{}\n",
  };
  const archive = makeLayer(Object.entries(files).map(([name, data]) => ({ name: `chart/${name}`, data })));
  const config = encode(metadata);
  const manifest = {
    schemaVersion: 2,
    config: describe(config, "application/vnd.cncf.helm.config.v1+json"),
    layers: [describe(archive.bytes, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
  };
  const blobs = new Map([config, archive.bytes].map((bytes) => [digestOf(bytes), bytes]));
  return single(encode(manifest), MEDIA_TYPES.ociManifest, blobs, { tags: ["0.1.0"] });
}

/** What refers to an image in both ways of finding it: a subject, and the fallback tag of the specification. */
function referrersOf(image: Image): [string, Image][] {
  const referrers = ["application/spdx+json", "application/vnd.example.signature"].map((artifactType) =>
    makeArtifact({ artifactType, subject: image, blobs: [encode({ artifactType })] }),
  );
  const fallbackTag = image.digest.replace(":", "-");
  return [[`library/busybox:${fallbackTag}`, makeIndex(referrers, { tags: [fallbackTag] })]];
}

/** A root file system that runs: busybox and links to it. */
function shellEntries(): TarEntry[] {
  const path = ["/usr/bin/busybox", "/bin/busybox"].find((each) => existsSync(each));
  if (path === undefined) throw new Error("expected busybox (Debian package busybox-static), found none");
  const applets = ["sh", "ls", "cat", "echo", "true", "id", "uname", "env", "sleep"];
  return [
    ...["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"].map((name) => ({ name })),
    { name: "bin/busybox", data: readFileSync(path), mode: 0o755 },
    ...applets.map((applet) => ({ name: `bin/${applet}`, link: "busybox", mode: 0o777 })),
    { name: "etc/passwd", data: "root:x:0:0:root:/root:/bin/sh\n" },
  ];
}
