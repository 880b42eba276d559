/**
 * A process that fills a cache directory and is killed for it: `bun cache-child.ts <directory> <bytes> <seed> <more>`.
 * It writes `from <offset>` when the upstream is asked, and `at <position>` once that much more is in the spool; the
 * download goes on meanwhile.
 */
import { createFilesystemStore } from "../../src/cache/filesystem.ts";
import { createFills } from "../../src/cache/fill.ts";
import { createDownloads } from "../../src/download/downloads.ts";
import { createFakeSource, digestOfBytes, noise } from "./fill-source.ts";

const [directory = "", size = "", seed = "", more = ""] = process.argv.slice(2);
const silent = { info: () => undefined, warn: () => undefined };
const store = await createFilesystemStore({ directory, maxBytes: 1e12, minFreeBytes: 0 }, { log: silent });
const fills = createFills(
  { maxFills: 1 },
  { store, log: silent, downloads: createDownloads({ idleTimeoutMs: 60_000 }) },
);
const bytes = noise(Number(size), Number(seed));
const source = createFakeSource({
  bytes,
  pieceBytes: () => 20_000,
  beforePiece: () => new Promise((resolve) => setTimeout(resolve, 1)),
});
const fill = fills.join(digestOfBytes(bytes), (wanted, signal) => {
  process.stdout.write(`from ${wanted.first}\n`);
  return source.open(wanted, signal);
});
if (fill === undefined) throw new Error("refused");
await fill.head;
const target = Math.min(fill.position + Number(more), bytes.byteLength);
const timer = setInterval(() => {
  if (fill.position < target) return;
  clearInterval(timer);
  process.stdout.write(`at ${fill.position}\n`);
}, 1);
setInterval(() => undefined, 60_000);
