/** Pulls over a long, thin, lossy line that is down now and then: Layover at one end of it, docker-registry at the other. */
import { expect, test } from "bun:test";
import { startDaemon } from "../clients/daemon.ts";
import { mayLink, startDelayLink, type DelayLink } from "../support/delay-link.ts";
import type { LinkSettings } from "../support/delay-link-relay.ts";
import { programCommand } from "../support/layover.ts";
import { total } from "../support/metrics.ts";
import { seededRandom } from "../support/mixed-load.ts";
import { createTempDir } from "../support/temp-dir.ts";
import { chaosImages } from "./catalogue.ts";
import { hasDockerRegistry, prepareStore } from "./registries.ts";
import { expectSound, PULLS, report, SEED, startWorld } from "./world.ts";

const PORT = 5000;
/** Round trips of 2 to 160 ms, as within a town and across an ocean; each for half a second. */
const WEATHER: readonly Partial<LinkSettings>[] = [
  { delayMs: 1, jitterMs: 0, loss: 0, rateMbit: 0, down: 0 },
  { delayMs: 20, jitterMs: 5, loss: 0.002, rateMbit: 200, down: 0 },
  { delayMs: 80, jitterMs: 10, loss: 0, rateMbit: 100, down: 0 },
  { delayMs: 10, jitterMs: 2, loss: 0.02, rateMbit: 100, down: 0 },
  { delayMs: 20, jitterMs: 0, loss: 0, rateMbit: 30, down: 0 },
  { delayMs: 5, jitterMs: 0, loss: 0, rateMbit: 0, down: 1 },
];
const TURN_MS = 600;
const pulls = Math.ceil(PULLS * 0.15);

test.skipIf(!mayLink() || !hasDockerRegistry())(
  "[R234, R262] over a link with delay, loss, rate and breaks every pull is whole, and each byte is asked for once",
  async () => {
    const images = chaosImages("link", 12);
    await using dir = await createTempDir("layover-link-");
    const config = await prepareStore(dir, images, `0.0.0.0:${PORT}`);
    await using link = await startDelayLink({});
    const upstream = `http://${link.far.address}:${PORT}`;
    const registry = await startDaemon("far", [...link.far.command, "docker-registry", "serve", config], {
      dir: dir.path,
      isReady: async () => isThere([...link.near.command, process.execPath, "-e", `await fetch("${upstream}/v2/")`]),
    });
    try {
      const weather = changeWeather(link);
      await using world = await startWorld({
        upstream,
        images,
        isCached: true,
        command: [...link.near.command, ...programCommand()],
      });
      await world.run(pulls);
      const turns = await weather.stop();
      const neededBytes = await world.neededBytes();
      const sentBytes = total(await world.metrics(), "layover_upstream_bytes_total");
      const { packets, dropped, bytesBack } = await link.set({});
      const happened = `${turns} changes of weather, ${dropped} of ${packets} packets lost, ${(bytesBack / neededBytes).toFixed(3)}x with all heads and repetitions`;
      report("link", { findings: world.findings, sentBytes, neededBytes, happened });
      expectSound(world.findings, pulls);
      expect(sentBytes / neededBytes).toBeLessThanOrEqual(1.05);
    } finally {
      await registry.stop();
    }
  },
  60_000 + PULLS * 1500,
);

async function isThere(command: string[]): Promise<boolean> {
  return (await Bun.spawn(command, { stdout: "ignore", stderr: "ignore" }).exited) === 0;
}

/** Another line every moment, until it is stopped; then a perfect one. */
function changeWeather(link: DelayLink) {
  const random = seededRandom(SEED + 2);
  let turns = 0;
  const turn = (): void => {
    turns += 1;
    void link.set(WEATHER[Math.floor(random() * WEATHER.length)] ?? {});
  };
  turn();
  const timer = setInterval(turn, TURN_MS);
  return {
    async stop(): Promise<number> {
      clearInterval(timer);
      await link.set(WEATHER[0] ?? {});
      return turns;
    },
  };
}
