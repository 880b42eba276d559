/** Pulls through a relay that breaks, delays and swallows connections to the registry: all of them end with every byte right. */
import { describe, expect, test } from "bun:test";
import { ALL_FAULTS, type FaultMix, faultPlan } from "../support/fault-plan.ts";
import { type FaultRelay, startFaultRelay } from "../support/fault-relay.ts";
import { seededRandom } from "../support/mixed-load.ts";
import { chaosImages } from "./catalogue.ts";
import { type ChaosRegistry, hasDockerRegistry, startDockerRegistry, startFake } from "./registries.ts";
import { expectSound, PULLS, report, SEED, startWorld } from "./world.ts";

const IMAGES = chaosImages("relay", 21);
const TIMEOUT_MS = 60_000 + PULLS * 1500;

/** What the registry may send for each byte that is needed. */
const MOST_SENT = 1.05;
/** Where two of five connections are reset: each destroys what is in the receiver's socket, a quarter of a MiB here. */
const MOST_SENT_WITH_RESETS = 1.1;

interface Run {
  readonly what: string;
  readonly registry: ChaosRegistry;
  readonly mix: FaultMix;
  readonly pulls: number;
  readonly isCached: boolean;
}

/** @returns how many bytes the registry sent for each that was needed; undefined without a cache */
async function pullThrough({ what, registry, mix, pulls, isCached }: Run): Promise<number | undefined> {
  const random = seededRandom(SEED);
  await using relay = await startFaultRelay({ to: registry.place, faults: faultPlan(random, mix), random });
  await using world = await startWorld({ upstream: relay.url, images: IMAGES, isCached });
  await world.run(pulls);
  const neededBytes = isCached ? await world.neededBytes() : undefined;
  report(what, {
    findings: world.findings,
    sentBytes: relay.total.passedBytes,
    neededBytes,
    happened: happenedIn(relay),
  });
  expectSound(world.findings, pulls);
  return neededBytes === undefined ? undefined : relay.total.passedBytes / neededBytes;
}

function happenedIn({ counts }: FaultRelay): string {
  const texts = [...counts].map(([name, { happened, connections }]) => `${name} ${happened}/${connections}`);
  return texts.sort().join(", ");
}

describe("a fake registry behind bad connections", () => {
  test(
    "[R234, R262] every pull is whole, and each byte is sent once",
    async () => {
      await using registry = await startFake(IMAGES);
      const ratio = await pullThrough({ what: "fake", registry, mix: ALL_FAULTS, pulls: part(0.3), isCached: true });
      expect(ratio).toBeLessThanOrEqual(MOST_SENT);
    },
    TIMEOUT_MS,
  );

  test(
    "[R234] every pull is whole without a cache",
    async () => {
      await using registry = await startFake(IMAGES);
      await pullThrough({ what: "fake, no cache", registry, mix: ALL_FAULTS, pulls: part(0.09), isCached: false });
    },
    TIMEOUT_MS,
  );

  test(
    "[R234] not one wrong byte is delivered as whole when bytes are turned on the way",
    async () => {
      await using registry = await startFake(IMAGES);
      const mix = { corrupt: 20, stale: 80 };
      await pullThrough({ what: "fake, corrupt", registry, mix, pulls: part(0.08), isCached: true });
    },
    TIMEOUT_MS,
  );
});

/** What each kind costs by itself needs more pulls than the sample has. */
const isLong = PULLS >= 1000;

if (isLong) {
  describe("one kind of fault on two of five connections", () => {
    test.each([
      ["latency", 40],
      ["rate", 40],
      ["slices", 40],
      ["reset", 40],
      ["fin", 40],
      ["silence", 40],
      ["refuse", 40],
      ["black hole", 20],
      ["slow close", 40],
    ] as const)(
      "[R262] %s (%d %): each byte is sent once",
      async (kind, percent) => {
        await using registry = await startFake(IMAGES);
        const mix = { [kind]: percent, stale: 100 - percent };
        const ratio = await pullThrough({ what: `only ${kind}`, registry, mix, pulls: part(0.02), isCached: true });
        expect(ratio).toBeLessThanOrEqual(kind === "reset" ? MOST_SENT_WITH_RESETS : MOST_SENT);
      },
      TIMEOUT_MS,
    );
  });
}

describe.skipIf(!hasDockerRegistry())("docker-registry behind bad connections", () => {
  test(
    "[R234, R262] every pull is whole, and each byte is sent once",
    async () => {
      await using registry = await startDockerRegistry(IMAGES);
      const run = { what: "docker-registry", registry, mix: ALL_FAULTS, pulls: part(0.2), isCached: true };
      expect(await pullThrough(run)).toBeLessThanOrEqual(MOST_SENT);
    },
    TIMEOUT_MS,
  );
});

function part(of: number): number {
  return Math.ceil(PULLS * of);
}
