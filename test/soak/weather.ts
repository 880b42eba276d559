/**
 * What a soak does to the registries and the lines to them, another thing every few seconds; and what it makes the program
 * read again meanwhile.
 */
import { rename } from "node:fs/promises";
import { testAuthority } from "../support/certs.ts";
import type { FakeRegistry } from "../support/fake-registry.ts";
import { ALL_FAULTS, faultPlan } from "../support/fault-plan.ts";
import { type ConnectionFaults, type FaultRelay, NO_FAULTS } from "../support/fault-relay.ts";
import type { RunningLayover } from "../support/layover.ts";

export interface Sky {
  /** `hub` wants tokens. */
  readonly registries: { readonly quay: FakeRegistry; readonly hub: FakeRegistry };
  readonly relays: readonly FaultRelay[];
  readonly random: () => number;
}

const WEATHER: Readonly<Record<string, (sky: Sky) => void>> = {
  calm: () => undefined,
  mixed: ({ relays, random }) => through(relays, faultPlan(random, ALL_FAULTS)),
  resets: ({ relays, random }) =>
    through(relays, () => ({ name: "reset", end: { how: "reset", afterBytes: 20_000 + 800_000 * random() } })),
  slow: ({ relays }) => through(relays, () => ({ name: "slow", bytesPerSecond: 400_000, latencyMs: 60 })),
  down: ({ relays }) => through(relays, () => ({ name: "down", start: "refuse" })),
  "black hole": ({ relays }) => through(relays, () => ({ name: "black hole", start: "silence" })),
  "silent bodies": ({ relays, random }) =>
    through(relays, () => ({ name: "silence", end: { how: "silence", afterBytes: 5000 + 500_000 * random() } })),
  "429": ({ registries }) => {
    for (const { faults } of Object.values(registries)) faults.manifest = { status: 429, retryAfter: "2" };
  },
  "503": ({ registries }) => {
    for (const { faults } of Object.values(registries)) {
      faults.manifest = { status: 503 };
      faults.blob = { status: 503 };
    }
  },
  "wrong bytes": ({ registries }) => {
    registries.quay.faults.blob = { corrupt: true };
  },
  "moved blobs": ({ registries }) => {
    for (const { faults } of Object.values(registries)) {
      faults.blob = { redirect: {} };
      faults.cdn = { cutAfterBytes: 700_000 };
    }
  },
  "token server fails": ({ registries }) => {
    registries.hub.access.expireTokens();
    registries.hub.faults.token = { status: 500 };
  },
  "token server is gone": ({ registries }) => {
    registries.hub.access.expireTokens();
    registries.hub.faults.token = { hangUp: "reset" };
  },
};

/** Everything else after this would wait for it: half of the time the lines are well. */
const CALM_PART = 0.35;

/** @returns the name of what begins now */
export function changeWeather(sky: Sky): string {
  const { registries, relays, random } = sky;
  for (const registry of Object.values(registries)) registry.reset();
  for (const relay of relays) relay.faults = () => NO_FAULTS;
  // Kept connections would go on as they began.
  if (random() < 0.6) for (const relay of relays) relay.resetAll();
  const names = Object.keys(WEATHER);
  const name = random() < CALM_PART ? "calm" : (names[Math.floor(random() * names.length)] ?? "calm");
  WEATHER[name]?.(sky);
  return name;
}

function through(relays: readonly FaultRelay[], faults: (connection: number) => ConnectionFaults): void {
  for (const relay of relays) relay.faults = faults;
}

export interface Reloaded {
  readonly layover: RunningLayover;
  readonly mapFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly map: Readonly<Record<string, object | string>>;
}

/** @param turn counts up @returns what was done */
export async function reload({ layover, mapFile, certFile, keyFile, map }: Reloaded, turn: number): Promise<string> {
  switch (turn % 4) {
    case 0:
      layover.signal("SIGHUP");
      return "SIGHUP";
    case 1:
      await replace(mapFile, JSON.stringify({ ...map, [`extra${turn}`]: "http://127.0.0.1:1" }));
      return "map";
    case 2:
      await replace(mapFile, "{ this is no map");
      return "bad map";
    default: {
      await replace(mapFile, JSON.stringify(map));
      const leaf = testAuthority("Soak CA").issue({ kind: "ec" });
      await replace(keyFile, leaf.keyPem);
      await replace(certFile, leaf.certPem);
      return "certificate";
    }
  }
}

async function replace(file: string, text: string): Promise<void> {
  await Bun.write(`${file}.new`, text);
  await rename(`${file}.new`, file);
}
