/**
 * `layover cache ls | rm | pin | unpin | verify | prune | stats`: tables for people, a JSON object a line for programs.
 * Exit code 1 when something could not be done or content was damaged.
 */
import { UpkeepError, type KeptImage, type Upkeep, type VerifyStep } from "../proxy/upkeep.ts";
import { ageText, createTable, shortDigest, sizeText } from "./table.ts";

export interface CacheCommand {
  readonly name: string;
  /** What stands behind the name. */
  readonly operands: readonly string[];
  readonly output: "table" | "json";
}

export interface CacheCommandDependencies {
  readonly upkeep: Upkeep;
  print(text: string): void;
  complain(text: string): void;
  /** Shows how far it is, over what it showed before; nothing where nobody looks. */
  progress(text: string): void;
  /** Milliseconds since the epoch. */
  now(): number;
}

interface Usage {
  readonly operands: string;
  readonly least: number;
  readonly most: number;
  readonly help: string;
}

export const CACHE_COMMANDS: Readonly<Record<string, Usage>> = {
  ls: { operands: "[PATTERN]", least: 0, most: 1, help: "List images; PATTERN is a part of a name, or a name with *." },
  rm: {
    operands: "IMAGE|DIGEST…",
    least: 1,
    most: Infinity,
    help: "Take images out, and the bytes nobody else needs.",
  },
  pin: { operands: "IMAGE|DIGEST…", least: 1, most: Infinity, help: "Never evict these." },
  unpin: { operands: "IMAGE|DIGEST…", least: 1, most: Infinity, help: "Evict them again when their time comes." },
  verify: { operands: "", least: 0, most: 0, help: "Hash everything again; damaged content is moved aside." },
  prune: { operands: "", least: 0, most: 0, help: "Evict what is idle or too much now." },
  stats: { operands: "", least: 0, most: 0, help: "Bytes, count, budget and free space." },
};

/** Lines printed at once. */
const ROWS = 100;
const NEVER = new AbortController().signal;

/** Runs one; the exit code. */
export async function cacheCommand(command: CacheCommand, dependencies: CacheCommandDependencies): Promise<0 | 1> {
  switch (command.name) {
    case "ls":
      return list(command, dependencies);
    case "rm":
      return remove(command, dependencies);
    case "pin":
    case "unpin":
      return pin(command, dependencies, command.name);
    case "verify":
      return verify(command, dependencies);
    case "prune":
      return prune(command, dependencies);
    default:
      return stats(command, dependencies);
  }
}

async function list({ operands, output }: CacheCommand, { upkeep, print, now }: CacheCommandDependencies): Promise<0> {
  const table = createTable([
    { title: "IMAGE" },
    { title: "DIGEST" },
    { title: "SIZE", isNumber: true },
    { title: "LAST USED" },
    { title: "PINNED" },
  ]);
  const rowOf = ({ image, digest, bytes, lastUsedMs, pinned }: KeptImage) => {
    // The whole digest stands behind the name already, where it is what names the image.
    const shown = image.replace(`@${digest}`, `@${shortDigest(digest)}`);
    return [shown, shortDigest(digest), sizeText(bytes), ageText(lastUsedMs, now()), pinned ? "pinned" : ""];
  };
  let rows: string[][] = [];
  for await (const kept of upkeep.images(operands[0])) {
    if (output === "json") print(json({ ...kept, lastUsedMs: undefined, lastUsed: new Date(kept.lastUsedMs) }));
    else rows.push(rowOf(kept));
    if (rows.length < ROWS) continue;
    print(table(rows));
    rows = [];
  }
  if (output === "table") print(table(rows));
  return 0;
}

async function remove(command: CacheCommand, dependencies: CacheCommandDependencies): Promise<0 | 1> {
  return forEach(command, dependencies, async (name) => {
    const { contents, bytes } = await dependencies.upkeep.remove(name);
    const freed = contents === 0 ? "all its content is needed by other images" : `freed ${sizeText(bytes)}`;
    return { value: { removed: name, contents, bytes }, text: `removed ${name}: ${freed}` };
  });
}

async function pin(
  command: CacheCommand,
  dependencies: CacheCommandDependencies,
  what: "pin" | "unpin",
): Promise<0 | 1> {
  const done = what === "pin" ? "pinned" : "unpinned";
  return forEach(command, dependencies, async (name) => {
    const digests = await dependencies.upkeep[what](name);
    return { value: { [done]: name, digests }, text: `${done} ${name} (${digests.map(shortDigest).join(", ")})` };
  });
}

/** One after the other; what cannot be done is told, and the others follow. */
async function forEach(
  { operands, output }: CacheCommand,
  { print, complain }: CacheCommandDependencies,
  act: (name: string) => Promise<{ value: object; text: string }>,
): Promise<0 | 1> {
  let code: 0 | 1 = 0;
  for (const name of operands) {
    try {
      const { value, text } = await act(name);
      print(output === "json" ? json(value) : `${text}\n`);
    } catch (error) {
      if (!(error instanceof UpkeepError)) throw error;
      complain(`layover: ${error.message}\n`);
      code = 1;
    }
  }
  return code;
}

async function verify({ output }: CacheCommand, { upkeep, print, progress }: CacheCommandDependencies): Promise<0 | 1> {
  for await (const step of upkeep.verify(NEVER)) {
    if (step.kind === "progress") {
      progress(`${step.good + step.damaged + step.unreadable} checked, ${sizeText(step.bytes)}`);
      continue;
    }
    progress("");
    print(output === "json" ? json({ ...step, kind: undefined }) : verifyText(step));
    if (step.kind === "end") return step.damaged + step.unreadable === 0 ? 0 : 1;
  }
  throw new UpkeepError("the server stopped before everything was checked");
}

function verifyText(step: Exclude<VerifyStep, { kind: "progress" }>): string {
  if (step.kind === "bad") return `${step.what}  ${step.digest}\n`;
  const { good, damaged, unreadable, bytes } = step;
  const counts = `${good} good, ${damaged} damaged, ${unreadable} unreadable (${sizeText(bytes)})`;
  return `${counts}${damaged === 0 ? "" : "; damaged content is moved to the folder damaged and fetched again when it is asked for"}\n`;
}

async function prune({ output }: CacheCommand, { upkeep, print }: CacheCommandDependencies): Promise<0> {
  const { contents, bytes } = await upkeep.prune(NEVER);
  print(output === "json" ? json({ contents, bytes }) : `evicted ${contents} contents, ${sizeText(bytes)}\n`);
  return 0;
}

async function stats({ output }: CacheCommand, { upkeep, print }: CacheCommandDependencies): Promise<0> {
  const found = await upkeep.stats();
  if (output === "json") {
    print(json(found));
    return 0;
  }
  const share = `${((100 * (found.bytes + found.spooledBytes)) / Math.max(1, found.maxBytes)).toFixed(1)} %`;
  const rows = [
    ["content", `${sizeText(found.bytes)} in ${found.contents} files`],
    ["half downloads", sizeText(found.spooledBytes)],
    ["budget", `${sizeText(found.maxBytes)}, ${share} used`],
    ["free on the disk", `${sizeText(found.freeBytes)}, ${sizeText(found.minFreeBytes)} are never used up`],
    ["repositories known", String(found.places)],
    ["tags", String(found.tags)],
    ["pinned", String(found.pinned)],
  ];
  print(rows.map(([name = "", value]) => `${name.padEnd(20)}${value}\n`).join(""));
  return 0;
}

function json(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
