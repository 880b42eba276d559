/**
 * A cache directory as a server leaves it after a month: small blobs with right digests, and Records with the links, tags,
 * references, sizes and last uses of some thousand images. The images of a repository share their base layers, and one
 * layer is under all of them.
 */
import { createHash, randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { prepareLayout, layoutIn } from "../src/cache/layout.ts";
import type { Place } from "../src/cache/records.ts";
import { openDatabase } from "../src/cache/records-file.ts";
import { createTables, type Tables } from "../src/cache/records-tables.ts";
import { createLog } from "../src/log.ts";

export interface FilledCache {
  readonly blobs: number;
  readonly bytes: number;
  /** The image that was used last, so that it is evicted last: name and digest of its manifest. */
  readonly lastUsed: { readonly repository: string; readonly digest: string };
}

export interface FillOptions {
  readonly directory: string;
  /** The registry as Records name it: `"http://127.0.0.1:4000/"`. It must be Docker Hub's, whose `library/…` are public. */
  readonly registry: string;
  /** About; whole repositories of 500 are made. */
  readonly blobs: number;
}

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const IMAGES_PER_REPOSITORY = 25;
const BASE_LAYERS = 25;
const OWN_LAYERS = 17;
const BLOBS_PER_REPOSITORY = BASE_LAYERS + IMAGES_PER_REPOSITORY * (2 + OWN_LAYERS);
const DAY_MS = 24 * 60 * 60_000;
/** Uses lie this far back at most, less than the default of what is idle. */
const OLDEST_MS = 30 * DAY_MS;
const MAX_LAYER_BYTES = 4096;

interface Blob {
  readonly digest: string;
  readonly size: number;
}

export async function fillCache({ directory, registry, blobs }: FillOptions): Promise<FilledCache> {
  const layout = layoutIn(directory);
  await prepareLayout(layout);
  const repositories = Math.round(blobs / BLOBS_PER_REPOSITORY);
  const clock = { ms: Date.now() - OLDEST_MS };
  const log = createLog({ level: "error", format: "json" });
  const database = openDatabase(join(directory, "records.sqlite"), log);
  // Nothing is lost when the machine stops meanwhile; waiting for the disk would take a minute.
  database.run("PRAGMA synchronous = OFF");
  const tables = createTables({ database, now: () => clock.ms, maxRows: 1_000_000 });
  const kept = { blobs: 0, bytes: 0 };

  function keep(bytes: Uint8Array): Blob {
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(layout.folderOf("sha256"), digest), bytes);
    kept.blobs += 1;
    kept.bytes += bytes.byteLength;
    return { digest: `sha256:${digest}`, size: bytes.byteLength };
  }

  function keepLayer(): Blob {
    return keep(randomFillSync(new Uint8Array(512 + Math.floor(Math.random() * (MAX_LAYER_BYTES - 512)))));
  }

  function keepImage(place: Place, tag: string, base: readonly Blob[]): string {
    const config = keepLayer();
    const layers = [...base, ...Array.from({ length: OWN_LAYERS }, keepLayer)];
    const manifest = keep(Buffer.from(manifestText(config, layers)));
    record(tables, { place, tag, manifest, below: [config, ...layers], atMs: clock.ms });
    return manifest.digest;
  }

  const underAll = keepLayer();
  let lastUsed = { repository: "", digest: "" };
  for (let repository = 0; repository < repositories; repository += 1) {
    const place = { registry, repository: `library/app${repository}` };
    tables.atomically(() => {
      const base = [underAll, ...Array.from({ length: BASE_LAYERS - 1 }, keepLayer)];
      for (let image = 0; image < IMAGES_PER_REPOSITORY; image += 1) {
        clock.ms += OLDEST_MS / (repositories * IMAGES_PER_REPOSITORY);
        lastUsed = { repository: place.repository, digest: keepImage(place, `1.${image}`, base) };
      }
    });
  }
  tables.close();
  return { ...kept, lastUsed };
}

interface KeptImage {
  readonly place: Place;
  readonly tag: string;
  readonly manifest: Blob;
  readonly below: readonly Blob[];
  readonly atMs: number;
}

function record({ links, tags, needs }: Tables, { place, tag, manifest, below, atMs }: KeptImage): void {
  const facts = { digest: manifest.digest, mediaType: MANIFEST, bytes: manifest.size, checkedMs: atMs };
  for (const accept of ["*/*", MANIFEST]) tags.setTag(place, tag, accept, facts);
  links.link(place, manifest.digest, { bytes: manifest.size, mediaType: MANIFEST });
  needs.setReferences(
    manifest.digest,
    below.map(({ digest }) => digest),
  );
  for (const { digest, size } of below) links.link(place, digest, { bytes: size, mediaType: undefined });
}

function manifestText(config: Blob, layers: readonly Blob[]): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
    layers: layers.map((layer) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", ...layer })),
  });
}
