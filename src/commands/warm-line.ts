/** What the command line of `warm` asks for: names from it and from a file, platforms, and through which Layover. */
import { readFile } from "node:fs/promises";
import type { CommandLine } from "../config/arguments.ts";
import { ORIGIN } from "../config/kinds.ts";
import { ConfigError, type Problem } from "../config/problem.ts";
import { type ImageName, imageText, parseImageName } from "../registry/image.ts";
import { parsePlatforms, platformOfMachine, type Platforms } from "./platform.ts";

export interface WarmLine {
  /** At least one. */
  readonly images: readonly ImageName[];
  readonly platforms: Platforms;
  readonly url: string | undefined;
}

/** @throws ConfigError with every problem at once */
export async function readWarmLine({ operands, commandFlags }: CommandLine): Promise<WarmLine> {
  const problems: Problem[] = [];
  function read<T>(from: string, reading: () => T): T | undefined {
    try {
      return reading();
    } catch (error) {
      problems.push({ from, what: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  }
  const urlText = commandFlags.get("url")?.at(-1);
  const url = urlText === undefined ? undefined : read("flag --url", () => ORIGIN.parse(urlText));
  const asked = commandFlags.get("platform");
  const platforms =
    asked === undefined ? [platformOfMachine(process.arch)] : read("flag --platform", () => parsePlatforms(asked));
  const names = readNames(operands, await readNamesFile(commandFlags.get("file")?.at(-1), problems));
  problems.push(...names.problems);
  if (names.images.length === 0 && problems.length === 0)
    problems.push({ from: "command line", what: "warm: expected IMAGE… or --file=FILE with names of images" });
  if (problems.length > 0 || platforms === undefined) throw new ConfigError(problems);
  return { images: names.images, platforms, url };
}

interface NamesFile {
  readonly name: string;
  readonly text: string;
}

async function readNamesFile(file: string | undefined, problems: Problem[]): Promise<NamesFile | undefined> {
  if (file === undefined) return undefined;
  if (file === "-") return { name: "standard input", text: await Bun.stdin.text() };
  try {
    return { name: file, text: await readFile(file, "utf8") };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    problems.push({ from: "flag --file", what: `cannot read the names of images: ${reason}` });
    return undefined;
  }
}

/** Names as given and as they stand in a file, each once; what is no image becomes a problem. */
export function readNames(
  operands: readonly string[],
  file: NamesFile | undefined,
): { images: ImageName[]; problems: Problem[] } {
  const lines = (file?.text ?? "").split("\n").map((line, i) => ({
    from: `${file?.name}: line ${i + 1}`,
    text: line.replace(/#.*/, "").trim(),
  }));
  const given = [
    ...operands.map((text) => ({ from: "command line", text })),
    ...lines.filter(({ text }) => text !== ""),
  ];
  const images = new Map<string, ImageName>();
  const problems: Problem[] = [];
  for (const { from, text } of given) {
    const image = parseImageName(text);
    if (image === undefined)
      problems.push({
        from,
        what: `expected an image such as nginx:1.27 or quay.io/org/app, got ${JSON.stringify(text)}`,
      });
    else images.set(imageText(image), image);
  }
  return { images: [...images.values()], problems };
}
