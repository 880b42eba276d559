/** Kinds of fields that several parts of an entry of registrymap.json have: texts that parsers of ours read. */
import { z } from "zod";
import { isPattern } from "../registry/pattern.ts";
import { quoted } from "./units.ts";
import { parseUpstream } from "./upstream-url.ts";

export const UPSTREAM = textBy(parseUpstream);
export const PATTERNS = z.array(textBy(parsePattern)).default([]);
export const FILE = z.string().min(1);

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
