/**
 * The Layover that `warm` pulls through: the one that is named, the one that runs on the cache directory, or one that is
 * started for this command alone, with the same settings, on a free port of loopback.
 */
import { type BuildInfo, StartError, type MapSource, type Settings, type StartServer } from "../config/settings.ts";
import type { Log } from "../log.ts";
import { addressesOf, runningServer } from "./upkeep-client.ts";

export interface WarmSource {
  /** GET of a path there. */
  ask(path: string, headers: Record<string, string>): Promise<Response>;
  close(): Promise<void>;
}

export interface WarmSourceDependencies {
  readonly startServer: StartServer;
  readonly log: Log;
  readonly build: BuildInfo;
  openMaps(): Promise<MapSource>;
}

/** Where Layover listens when nobody says otherwise. */
const USUAL_URL = "http://127.0.0.1:5000";

/** @param url as given, without a slash at the end; undefined finds out */
export async function openWarmSource(
  url: string | undefined,
  settings: Settings,
  dependencies: WarmSourceDependencies,
): Promise<WarmSource> {
  if (url !== undefined) return sourceAt(url);
  if (settings.cache === undefined) return sourceAt(USUAL_URL);
  const socket = await runningServer(settings.cache.directory);
  if (socket === undefined) return startOwn(settings, dependencies);
  return sourceAt(usableAddress(await addressesOf(socket), settings));
}

/** `http://[::]:5000` → `http://127.0.0.1:5000`. @throws StartError when only https is there, whose name we do not know */
function usableAddress(addresses: readonly string[], { hosts }: Settings): string {
  const plain = addresses.find((address) => address.startsWith("http://") || address.startsWith("unix:"));
  const usable = plain?.replace(/^http:\/\/(?:\[::\]|0\.0\.0\.0):/, "http://127.0.0.1:") ?? hosts.publicUrl;
  if (usable === undefined)
    throw new StartError(`the server listens on ${addresses.join(", ")}: give --url with a name of its certificate`);
  return usable;
}

function sourceAt(address: string, close = async () => {}): WarmSource {
  const unix = address.startsWith("unix:") ? address.slice("unix:".length) : undefined;
  const base = unix === undefined ? address : "http://localhost";
  return {
    // Straight to it, whatever proxies the environment names for registries; as long as a large layer takes.
    ask: (path, headers) =>
      fetch(`${base}${path}`, {
        headers,
        decompress: false,
        timeout: false,
        ...(unix === undefined ? { proxy: false } : { unix }),
      }),
    close,
  };
}

async function startOwn(
  settings: Settings,
  { startServer, log, build, openMaps }: WarmSourceDependencies,
): Promise<WarmSource> {
  const maps = await openMaps();
  const own: Settings = {
    ...settings,
    listen: [{ kind: "tcp", host: "127.0.0.1", port: 0 }],
    tls: undefined,
    httpRedirect: undefined,
    // This command alone asks, without a login: what everybody may read.
    access: { htpasswdFile: undefined, allowFrom: ["127.0.0.1/32"], hasCertificates: false, rulesFile: undefined },
    trustedProxies: [],
    hosts: { ...settings.hosts, strict: false },
  };
  const server = await startServer(own, { log, maps, build });
  return sourceAt(server.addresses[0] ?? USUAL_URL, async () => {
    await server.close(0);
    maps.close();
  });
}
