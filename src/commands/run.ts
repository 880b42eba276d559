/**
 * From arguments to a command and from its end to an exit code: 0 well, 1 something outside is wrong, 2 the command line
 * or configuration is wrong. What goes wrong is told on standard error, one line each.
 */
import { readFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { readCommandLine, type CommandLine } from "../config/arguments.ts";
import type { Environment } from "../config/inherited.ts";
import { loadSettings, type LoadedSettings } from "../config/load.ts";
import { createMapSource } from "../config/map-source.ts";
import { ConfigError, problemLine, suggestion } from "../config/problem.ts";
import { StartError, type MapSource, type Settings, type StartServer } from "../config/settings.ts";
import { createLog, type Log } from "../log.ts";
import { UpkeepError } from "../proxy/upkeep.ts";
import type { RegistryMap } from "../registry/registry.ts";
import { createAsker, mapServer } from "./ask.ts";
import { BUILD, versionText } from "./build.ts";
import { CACHE_COMMANDS, cacheCommand } from "./cache.ts";
import { check, checkText } from "./check.ts";
import { COMMANDS, helpText } from "./help.ts";
import { serve } from "./serve.ts";
import { CLIENT_NAMES, setupText } from "./setup.ts";
import { openUpkeep } from "./upkeep-client.ts";
import { readWarmLine } from "./warm-line.ts";
import { createBars, createLines } from "./warm-progress.ts";
import { openWarmSource } from "./warm-source.ts";
import { warm } from "./warm.ts";

export interface Surroundings {
  readonly env: Environment;
  readonly process: Pick<NodeJS.Process, "on">;
  readonly isTerminal: boolean;
  readonly startServer: StartServer;
  /** Text for standard output. */
  print(text: string): void;
  /** Text for standard error. */
  complain(text: string): void;
}

/** Runs one command; resolves with the exit code. */
export async function run(argv: readonly string[], surroundings: Surroundings): Promise<0 | 1 | 2> {
  const line = readCommandLine(argv);
  if (line.wants !== undefined || line.command === "help" || line.command === "version") {
    const isVersion = line.wants === "version" || (line.wants === undefined && line.command === "version");
    surroundings.print(isVersion ? versionText(BUILD) : helpText());
    return 0;
  }
  try {
    return await runCommand(line, surroundings);
  } catch (error) {
    if (error instanceof ConfigError) {
      const lines = error.problems.map((problem) => `layover: ${problemLine(problem)}\n`);
      surroundings.complain(`${lines.join("")}layover: see "layover help"\n`);
      return 2;
    }
    if (!(error instanceof StartError || error instanceof UpkeepError)) throw error;
    surroundings.complain(`layover: ${error.message}\n`);
    return 1;
  }
}

async function runCommand(line: CommandLine, surroundings: Surroundings): Promise<0 | 1> {
  switch (line.command ?? "serve") {
    case "serve":
      refuseOperands(line, 0);
      return runServe(line, surroundings);
    case "check":
      refuseOperands(line, 0);
      return runCheck(line, surroundings);
    case "setup":
      refuseOperands(line, 1);
      return runSetup(line, surroundings);
    case "warm":
      return runWarm(line, surroundings);
    case "cache":
      return runCache(line, surroundings);
    default:
      if (line.problems.length > 0) throw new ConfigError(line.problems);
      throw usage(`unknown command ${line.command}${suggestion(line.command ?? "", Object.keys(COMMANDS))}`);
  }
}

async function runServe(line: CommandLine, surroundings: Surroundings): Promise<0> {
  const { settings, warnings } = await load(line, surroundings);
  const log = createLog(settings.log);
  await serve({ settings, warnings, build: BUILD }, { ...surroundings, log, readFile: readText });
  return 0;
}

async function runCheck(line: CommandLine, surroundings: Surroundings): Promise<0 | 1> {
  const { settings, warnings } = await load(line, surroundings);
  for (const warning of warnings) surroundings.complain(`layover: ${warning}\n`);
  const findings = await check(settings, { log: quietLog(), build: BUILD, readFile: readText, now: Date.now });
  surroundings.print(checkText(findings));
  return findings.some(({ verdict }) => verdict === "fail") ? 1 : 0;
}

async function runSetup(line: CommandLine, surroundings: Surroundings): Promise<0> {
  const [client] = line.operands;
  if (client === undefined) throw usage(`setup: expected a client: ${CLIENT_NAMES.join(", ")}`);
  if (!CLIENT_NAMES.includes(client)) throw usage(`setup: unknown client ${client}${suggestion(client, CLIENT_NAMES)}`);
  const { settings } = await load(line, surroundings);
  surroundings.print(setupText(client, { origin: originOf(settings), map: await loadMap(settings) }) ?? "");
  return 0;
}

async function runWarm(line: CommandLine, surroundings: Surroundings): Promise<0 | 1> {
  const { settings, warnings } = await load(line, surroundings);
  const { print, complain, isTerminal, startServer } = surroundings;
  const { images, platforms, url } = await readWarmLine(line);
  for (const warning of warnings) complain(`layover: ${warning}\n`);
  const source = await openWarmSource(url, settings, {
    startServer,
    log: commandLog(complain),
    build: BUILD,
    openMaps: () => openMaps(settings),
  });
  try {
    const progress = isTerminal ? createBars() : createLines(print);
    return await warm({ images, platforms }, { ask: source.ask, progress });
  } finally {
    await source.close();
  }
}

async function runCache(line: CommandLine, surroundings: Surroundings): Promise<0 | 1> {
  const [name = "", ...operands] = line.operands;
  const known = CACHE_COMMANDS[name];
  if (known === undefined) {
    const names = Object.keys(CACHE_COMMANDS);
    throw usage(
      name === "" ? `cache: expected ${names.join(", ")}` : `cache: unknown command ${name}${suggestion(name, names)}`,
    );
  }
  refuseOperands({ command: `cache ${name}`, operands }, known.most);
  if (operands.length < known.least) throw usage(`cache ${name}: expected ${known.operands}`);
  const { settings, warnings } = await load(line, surroundings);
  if (settings.cache === undefined)
    throw usage("cache: expected --cache-dir or LAYOVER_CACHE_DIR, the folder of the cache");
  const { print, complain, isTerminal } = surroundings;
  for (const warning of warnings) complain(`layover: ${warning}\n`);
  const opened = await openUpkeep(settings.cache, settings, {
    log: commandLog(complain),
    loadMap: () => loadMap(settings),
  });
  try {
    const output = line.commandFlags.has("json") ? "json" : "table";
    // The line is written over, so only a person's terminal gets it.
    const progress = (text: string) => (isTerminal ? complain(`\r\x1b[K${text}`) : undefined);
    return await cacheCommand(
      { name, operands, output },
      { upkeep: opened.upkeep, print, complain, progress, now: Date.now },
    );
  } finally {
    await opened.close();
  }
}

function refuseOperands({ command, operands }: Pick<CommandLine, "command" | "operands">, allowed: number): void {
  const extra = operands[allowed];
  if (extra !== undefined) throw usage(`${command}: unexpected argument ${extra}`);
}

function usage(what: string): ConfigError {
  return new ConfigError([{ from: "command line", what }]);
}

function load(line: CommandLine, { env, isTerminal }: Surroundings): Promise<LoadedSettings> {
  const localAddresses = () =>
    Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map(({ address }) => address) ?? []);
  return loadSettings(line, { env, isTerminal, localAddresses, readFile: readText });
}

function readText(path: string): Promise<string> {
  return readFile(path, "utf8");
}

async function loadMap(settings: Settings): Promise<RegistryMap> {
  const maps = await openMaps(settings);
  maps.close();
  return maps.current();
}

async function openMaps(settings: Settings): Promise<MapSource> {
  const asker = createAsker(settings.upstream, BUILD.version);
  const request = (url: URL, signal: AbortSignal) => asker.ask(url, mapServer(url), signal);
  try {
    return await createMapSource(settings.map, { log: quietLog(), readFile: readText, request });
  } finally {
    await asker.close();
  }
}

/** What a command meets and its answer does not say, as a line for a person. */
function commandLog(complain: (text: string) => void): Log {
  const write = (line: string) => {
    const { msg, err } = JSON.parse(line);
    complain(`layover: ${msg}${err === undefined ? "" : `: ${err.message}`}\n`);
  };
  return createLog({ level: "warn", format: "json" }, { destination: { write } });
}

/** Commands that end at once speak in their own words. */
function quietLog(): Log {
  return createLog({ level: "error", format: "json" }, { destination: { write: () => undefined } });
}

/** The address to write into a client's configuration when --public-url does not say. */
function originOf({ hosts, tls, listen: [first] }: Settings): string {
  if (hosts.publicUrl !== undefined) return hosts.publicUrl;
  const scheme = tls === undefined ? "http" : "https";
  const port = first.kind === "tcp" ? first.port : tls === undefined ? 80 : 443;
  const bound =
    first.kind === "tcp" && first.host !== undefined && !["0.0.0.0", "::"].includes(first.host)
      ? first.host
      : undefined;
  const host = hosts.domainSuffix ?? bound ?? hostname();
  return new URL(`${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`).origin;
}
