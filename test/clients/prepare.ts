/** Makes the store of images once, for every later run: `bun test/clients/prepare.ts FOLDER`. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { makeCatalogue } from "./catalogue.ts";
import { populate } from "./upstreams.ts";

const [dir] = process.argv.slice(2);
if (dir === undefined) throw new Error("expected a folder for the store");
mkdirSync(dir, { recursive: true });
const catalogue = makeCatalogue();
await populate(dir, dir, catalogue);
const references = Object.fromEntries(
  [...catalogue.images].map(([name, image]) => [
    name,
    { digest: image.digest, manifests: [...image.manifests.keys()] },
  ]),
);
await Bun.write(join(dir, "references.json"), JSON.stringify(references, null, 2));
