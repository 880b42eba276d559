/**
 * `layover serve`: starts the proxy, says where it listens, and looks after it until a signal ends it. SIGHUP reads map,
 * certificate, users and access rules again; the first SIGTERM or SIGINT waits for running transfers, the second does not.
 */
import { createMapSource } from "../config/map-source.ts";
import {
  type BuildInfo,
  type MapSource,
  type RunningServer,
  type Settings,
  type StartServer,
  hasUsers,
  isGuarded,
} from "../config/settings.ts";
import { warnOfUnverified } from "../config/unverified.ts";
import type { Log } from "../log.ts";
import { createAsker, mapServer } from "./ask.ts";

export interface ServeOptions {
  readonly settings: Settings;
  /** Lines of the loader about old names. */
  readonly warnings: readonly string[];
  readonly build: BuildInfo;
}

export interface ServeDependencies {
  readonly startServer: StartServer;
  readonly log: Log;
  readFile(path: string): Promise<string>;
  /** Where signals and unhandled errors arrive. */
  readonly process: Pick<NodeJS.Process, "on">;
}

/**
 * Runs until a signal; resolves when everything is closed.
 * @throws ConfigError for a wrong map, StartError for what cannot be had; then nothing runs
 */
export async function serve(
  { settings, warnings, build }: ServeOptions,
  dependencies: ServeDependencies,
): Promise<void> {
  const { log, startServer, readFile } = dependencies;
  for (const warning of warnings) log.warn(warning);
  const asker = createAsker(settings.upstream, build.version);
  const request = (url: URL, signal: AbortSignal) => asker.ask(url, mapServer(url), signal);
  const maps = await createMapSource(settings.map, { log, readFile, request });
  sayWhoMayReadPrivate(maps, settings, log);
  warnOfUnverified(maps.current(), log);
  const running: Running = { maps, server: undefined };
  // Before anything listens, so that whoever reads "listening" may send any of them.
  const stop = watchSignals(running, dependencies);
  try {
    running.server = await startServer(settings, { log, maps, build });
    await closeAfter(stop, { server: running.server, settings, log });
  } finally {
    maps.close();
    await asker.close();
  }
  log.info("stopped");
}

/** Product section 5: one line says which of the two holds. */
function sayWhoMayReadPrivate(maps: MapSource, { sharePrivate, access }: Settings, log: Log): void {
  const registries = maps.current().registries.filter(({ credentials }) => credentials.length > 0);
  if (registries.length === 0) return;
  const facts = { registries: registries.map(({ key }) => key) };
  if (sharePrivate)
    log.warn(
      facts,
      isGuarded(access)
        ? "everybody whom client access lets in may pull what the configured credentials may read"
        : "everybody who reaches this address may pull what the configured credentials may read",
    );
  else if (hasUsers(access))
    log.info(
      facts,
      "configured credentials fetch public repositories for everybody, and private ones for Layover's users",
    );
  else
    log.info(
      facts,
      "configured credentials fetch public repositories for everybody; private ones need --share-private or users (--htpasswd, --tls-client-ca)",
    );
}

interface Running {
  readonly maps: MapSource;
  /** Undefined while it starts. */
  server: RunningServer | undefined;
}

/** The signals that end the program, as they come. */
interface Stop {
  readonly first: Promise<NodeJS.Signals>;
  readonly second: Promise<NodeJS.Signals>;
}

function watchSignals(running: Running, { log, process }: ServeDependencies): Stop {
  // Transfers of others must not break because one request met an unforeseen error: it is told, and they go on.
  process.on("unhandledRejection", (error) => log.fatal({ err: error }, "unhandled rejection"));
  process.on("uncaughtException", (error) => log.fatal({ err: error }, "uncaught error"));
  process.on("SIGHUP", () => {
    log.info("SIGHUP: reading map, certificate, users and access rules again");
    void running.maps.reload();
    void running.server?.reload();
  });
  const first = Promise.withResolvers<NodeJS.Signals>();
  const second = Promise.withResolvers<NodeJS.Signals>();
  let count = 0;
  function take(signal: NodeJS.Signals): void {
    count += 1;
    (count === 1 ? first : second).resolve(signal);
  }
  process.on("SIGTERM", take);
  process.on("SIGINT", take);
  return { first: first.promise, second: second.promise };
}

interface Closing {
  readonly server: RunningServer;
  readonly settings: Settings;
  readonly log: Log;
}

async function closeAfter({ first, second }: Stop, { server, settings, log }: Closing): Promise<void> {
  const signal = await first;
  log.info({ signal, graceMs: settings.drainTimeoutMs }, "stopping: waiting for running transfers");
  const drained = server.close(settings.drainTimeoutMs);
  const hurried = await Promise.race([drained, second]);
  if (hurried === undefined) return;
  log.info({ signal: hurried }, "stopping at once");
  await server.close(0);
}
