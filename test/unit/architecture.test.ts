/**
 * The shape of the code as a test: levels, cycles, and who may import what (docs/ARCHITECTURE.md has the picture).
 * Imports are read by Bun's own scanner, type imports by pattern, since they shape the code as much.
 */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const SRC = path.resolve(import.meta.dir, "../../src");

const FOLDER_LEVEL: Record<string, number> = {
  registry: 0,
  upstream: 1,
  download: 1,
  cache: 1,
  proxy: 2,
  http: 3,
  front: 3,
  config: 4,
  commands: 4,
};
const FILE_LEVEL: Record<string, number> = {
  "errors.ts": 0,
  "log.ts": 1,
  "log-batches.ts": 1,
  "metrics.ts": 1,
  "sleep.ts": 1,
  "server.ts": 4,
  "server-access.ts": 4,
  "server-aside.ts": 4,
  "server-cache.ts": 4,
  "server-metrics.ts": 4,
  "server-process.ts": 4,
  "server-readings.ts": 4,
  "main.ts": 4,
  "assets.d.ts": 0,
};
/** Folders of one level that must not know each other. */
const APART: [string, string][] = [
  ["upstream", "cache"],
  ["cache", "upstream"],
  ["download", "upstream"],
  ["download", "cache"],
  ["front", "http"],
  ["http", "front"],
];

interface Source {
  /** Relative to src: `"registry/digest.ts"`. */
  readonly name: string;
  readonly text: string;
  /** Files of src it imports. */
  readonly imports: readonly string[];
  /** Packages and built-ins it imports. */
  readonly packages: readonly string[];
}

const sources = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map(readSource);

function readSource(name: string): Source {
  const text = readFileSync(path.join(SRC, name), "utf8");
  const targets = [
    ...text.matchAll(/^(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
  const own = targets.filter((target) => target.startsWith("."));
  return {
    name,
    text,
    imports: own.map((target) => path.relative(SRC, path.resolve(SRC, path.dirname(name), target))),
    packages: targets.filter((target) => !target.startsWith(".")),
  };
}

function levelOf(name: string): number {
  const level = name.includes("/") ? FOLDER_LEVEL[folderOf(name)] : FILE_LEVEL[name];
  if (level === undefined)
    throw new Error(`${name} has no level: add its folder to docs/ARCHITECTURE.md and to this test`);
  return level;
}

function folderOf(name: string): string {
  return name.split("/")[0] ?? "";
}

describe("levels", () => {
  test.each(sources.map((source) => [source.name, source] as const))(
    "%s imports only its own level and below",
    (_, source) => {
      const above = source.imports.filter(
        (target) => target.startsWith("..") === false && levelOf(target) > levelOf(source.name),
      );
      expect(above).toEqual([]);
    },
  );

  test("level 3 is composed by the server alone", () => {
    const strangers = sources
      .filter(({ name }) => levelOf(name) === 4 && !/^server(?:-access|-aside)?\.ts$/.test(name))
      .filter(({ imports }) => imports.some((target) => /^(?:http|front)\//.test(target)));
    // `check` reads our own certificate the way the front does.
    expect(strangers.map(({ name }) => name).filter((name) => name !== "commands/check.ts")).toEqual([]);
  });

  test.each(APART)("%s never imports %s", (from, to) => {
    const offenders = sources
      .filter(({ name }) => folderOf(name) === from)
      .filter(({ imports }) => imports.some((target) => folderOf(target) === to));
    expect(offenders.map(({ name }) => name)).toEqual([]);
  });

  test("level 0 knows neither Bun, clock, random nor I/O", () => {
    const offenders = sources
      .filter(({ name }) => levelOf(name) === 0 && !name.endsWith(".d.ts"))
      .filter(
        ({ text, packages }) =>
          packages.some((name) => name.startsWith("node:") || name.startsWith("bun")) ||
          /\bBun\.|\bDate\.now|\bperformance\.|\bMath\.random|\bprocess\./.test(text),
      );
    expect(offenders.map(({ name }) => name)).toEqual([]);
  });
});

test("there are no import cycles", () => {
  const graph = new Map(sources.map(({ name, imports }) => [name, imports]));
  const done = new Set<string>();
  const cycles: string[] = [];
  function visit(name: string, trail: readonly string[]): void {
    if (trail.includes(name)) return void cycles.push([...trail.slice(trail.indexOf(name)), name].join(" → "));
    if (done.has(name)) return;
    for (const target of graph.get(name) ?? []) visit(target, [...trail, name]);
    done.add(name);
  }
  for (const name of graph.keys()) visit(name, []);
  expect(cycles).toEqual([]);
});

describe("who may use what", () => {
  const outside = (allowed: (name: string) => boolean, uses: (source: Source) => boolean) =>
    sources.filter((source) => !allowed(source.name) && uses(source)).map(({ name }) => name);
  const usesPackage = (pattern: RegExp) => (source: Source) => source.packages.some((name) => pattern.test(name));

  test("only http/ imports elysia", () => {
    expect(outside((name) => name.startsWith("http/"), usesPackage(/^(?:elysia|@elysiajs\/)/))).toEqual([]);
  });

  test("[R175, R221, R277, R278] nobody serves with Bun.serve: it holds heads back, drops lengths and has limits of its own", () => {
    expect(
      outside(
        () => false,
        ({ text }) => /\bBun\.(?:serve|listen)\(/.test(text),
      ),
    ).toEqual([]);
  });

  test("only main.ts ends the process", () => {
    expect(
      outside(
        (name) => name === "main.ts",
        ({ text }) => /\bprocess\.exit\(/.test(text),
      ),
    ).toEqual([]);
  });

  test("only upstream/ and the map's source call fetch", () => {
    const allowed = (name: string) =>
      name.startsWith("upstream/") || name.startsWith("config/map-") || name.startsWith("commands/");
    expect(outside(allowed, ({ text }) => /(?<![\w.])fetch\(/.test(text))).toEqual([]);
  });
});

describe("form", () => {
  test.each(sources.map((source) => [source.name, source] as const))(
    "%s is a file one can read",
    (_, { name, text }) => {
      expect(text.split("\n").length).toBeLessThanOrEqual(300);
      expect(text.startsWith("/**")).toBe(true);
      expect(text).not.toMatch(/\bcatch \{\s*\}/);
      if (!name.endsWith(".d.ts")) expect(text).not.toMatch(/: any\b|as any\b|<any>/);
    },
  );
});
