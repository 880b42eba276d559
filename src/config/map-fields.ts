/** Kinds of fields that several parts of an entry of registrymap.json have: texts that parsers of ours read. */
import { z } from "zod";
import { isPattern } from "../registry/pattern.ts";
import { isRepositoryName } from "../registry/reference.ts";
import { quoted } from "./units.ts";
import { parseUpstream } from "./upstream-url.ts";

export const UPSTREAM = textBy(parseUpstream);
export const PATTERNS = z.array(textBy(parsePattern)).default([]);
export const FILE = z.string().min(1);
/** An entry of `alsoAt`; a text is one for every repository. Whether its key is in the map is for `map-stand-ins` to say. */
export const STAND_IN = z.preprocess(
  (value) => (typeof value === "string" ? { at: value } : value),
  z.strictObject({ at: textBy(parsePlace), repositories: PATTERNS }),
);

/** A text that one of our parsers reads; its error becomes the issue. */
export function textBy<T>(parse: (text: string) => T) {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      // Becomes one of the problems that are told together.
      context.issues.push({
        code: "custom",
        input: text,
        message: error instanceof Error ? error.message : String(error),
      });
      return z.NEVER;
    }
  });
}

function parsePattern(text: string): string {
  if (!isPattern(text)) throw new Error(`expected a repository or a pattern such as myorg/**, got ${quoted(text)}`);
  return text;
}

/** `"ecr"`, `"ecr/docker"` → key and what stands before each repository name there. */
function parsePlace(text: string): { readonly key: string; readonly prefix: string } {
  const [key = "", ...behind] = text.split("/");
  const name = behind.join("/");
  if (key === "" || (behind.length > 0 && !isRepositoryName(name)))
    throw new Error(`expected a key of the map and maybe a path there, such as ecr/docker, got ${quoted(text)}`);
  return { key: key.toLowerCase(), prefix: name === "" ? "" : `${name}/` };
}
