/** What a soak runs on: two fake registries behind fault relays, the program with a small cache, and its files that are read again. */
import path from "node:path";
import { chaosImages } from "../chaos/catalogue.ts";
import { testAuthority } from "../support/certs.ts";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { NO_FAULTS, startFaultRelay } from "../support/fault-relay.ts";
import { type LogLine, programCommand, type RunningLayover, startLayover } from "../support/layover.ts";
import { createTempDir } from "../support/temp-dir.ts";
import { type SoakClients, startClients } from "./clients.ts";
import type { Watched } from "./samples.ts";
import type { Reloaded, Sky } from "./weather.ts";

export interface Stage extends AsyncDisposable {
  readonly program: string;
  readonly layover: RunningLayover;
  readonly watched: Watched;
  readonly sky: Sky;
  readonly reloaded: Reloaded;
  /** Lines of the log that tell of errors nobody expected. */
  readonly unhandled: readonly string[];
  startClients(): SoakClients;
  /** No faults any more. */
  calm(): void;
  /** From now on there is no registry: the connections to it end too. */
  closeUpstreams(): Promise<void>;
  /** `"quietly"`, or what was wrong. */
  stopLayover(): Promise<string>;
}

/** More than the cache may keep. */
const IMAGES = 48;
const PATIENCE = ["--connect-timeout", "1s", "--header-timeout", "2s", "--idle-timeout", "4s"];
/** Eviction runs all the time. */
const SMALL = ["--cache-max-size", "64m", "--cache-min-free", "0"];

export async function startStage(random: () => number): Promise<Stage> {
  const dir = await createTempDir("layover-soak-");
  const images = chaosImages("soak", IMAGES);
  const [quay, hub] = await Promise.all([createFakeRegistry(), createFakeRegistry({ auth: "bearer" })]);
  for (const registry of [quay, hub]) for (const { repository, image } of images) registry.add(repository, image);
  const relays = await Promise.all(
    [quay, hub].map(({ url }) => startFaultRelay({ to: Number(new URL(url).port), random })),
  );
  const [quayRelay, hubRelay] = relays;
  const map = {
    default: "quay",
    quay: { upstreams: [quayRelay?.url ?? ""], hosts: ["quay.io"], push: true },
    hub: { upstreams: [hubRelay?.url ?? ""], hosts: ["docker.io"] },
  };
  const files = { mapFile: dir.file("map.json"), certFile: dir.file("cert.pem"), keyFile: dir.file("key.pem") };
  const leaf = testAuthority("Soak CA").issue({ kind: "ec" });
  await Promise.all([
    Bun.write(files.mapFile, JSON.stringify(map)),
    Bun.write(files.certFile, leaf.certPem),
    Bun.write(files.keyFile, leaf.keyPem),
  ]);
  const directory = dir.file("cache");
  const isCompiled = (process.env["LAYOVER_BINARY"] ?? "") !== "";
  const probe = isCompiled ? undefined : dir.file("probe.sock");
  const layover = await startLayover({
    ...(probe !== undefined && { command: withProbe(), env: { SOAK_PROBE: probe } }),
    args: [
      `--registry-map=${files.mapFile}`,
      `--tls-cert=${files.certFile}`,
      `--tls-key=${files.keyFile}`,
      `--cache-dir=${directory}`,
      ...SMALL,
      ...PATIENCE,
    ],
  });
  const unhandled: string[] = [];
  void layover.logLine((line) => {
    if (isUnexpected(line) && unhandled.length < 1000) unhandled.push(JSON.stringify(line));
    return false; // every line is looked at
  });

  let areUpstreamsOpen = true;
  const calm = (): void => {
    for (const registry of [quay, hub]) registry.reset();
    for (const relay of relays) relay.faults = () => NO_FAULTS;
  };
  const closeUpstreams = async (): Promise<void> => {
    if (!areUpstreamsOpen) return;
    areUpstreamsOpen = false;
    calm();
    await Promise.all(relays.map((relay) => relay.close()));
    await Promise.all([quay, hub].map((registry) => registry.close()));
  };
  let ending: Promise<string> | undefined;
  const stopLayover = (): Promise<string> =>
    (ending ??= layover.stop().then(
      () => "quietly",
      (error: unknown) => String(error),
    ));
  return {
    program: isCompiled ? programCommand().join(" ") : "from the sources",
    layover,
    watched: { pid: layover.pid, directory, url: `http://${layover.host}`, probe },
    sky: { registries: { quay, hub }, relays, random },
    reloaded: { layover, ...files, map },
    unhandled,
    startClients: () => startClients({ host: layover.host, images, random }),
    calm,
    closeUpstreams,
    stopLayover,
    async [Symbol.asyncDispose]() {
      await stopLayover();
      await closeUpstreams();
      await dir.remove();
    },
  };
}

/** The program from its sources, with a way to count its timers. */
function withProbe(): string[] {
  const [runtime = process.execPath, ...rest] = programCommand();
  return [runtime, "--preload", path.join(import.meta.dir, "probe.ts"), ...rest];
}

function isUnexpected({ level, msg }: LogLine): boolean {
  return level === "fatal" || /unhandled|uncaught|nobody expected/i.test(msg ?? "");
}
