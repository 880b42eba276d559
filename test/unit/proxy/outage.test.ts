import { expect, test } from "bun:test";
import { RegistryError } from "../../../src/errors.ts";
import { createOutages } from "../../../src/proxy/outage.ts";
import { createPlainRegistry } from "../../../src/registry/registry.ts";
import { upstreamAt } from "../upstream/fixture.ts";

const registry = createPlainRegistry("one", [upstreamAt("https://one.test")]);
const dead = new RegistryError("UNAVAILABLE", "dead for this test", { status: 503 });

function start() {
  const clock = { ms: 0 };
  const upstreams = { mayAsk: true };
  return { clock, upstreams, outages: createOutages({ now: () => clock.ms, mayAsk: () => upstreams.mayAsk }) };
}

test("[T6] isDown() lets one request a window through", () => {
  const { clock, outages } = start();
  outages.failed(registry, dead);
  for (let window = 1; window <= 3; window++) {
    clock.ms = window * 30_000 - 1;
    expect(outages.isDown(registry)).toBe(true);
    clock.ms = window * 30_000;
    expect([outages.isDown(registry), outages.isDown(registry), outages.isFailing(registry)]).toEqual([
      false,
      true,
      true,
    ]);
  }
  outages.answered(registry);
  expect([outages.isDown(registry), outages.isFailing(registry)]).toEqual([false, false]);
});

test("[T6] isDown() lets nobody through whom the upstreams' health would refuse, and the next one at once when it would not", () => {
  const { clock, outages, upstreams } = start();
  outages.failed(registry, dead);
  upstreams.mayAsk = false;
  clock.ms = 45_000;
  expect([outages.isDown(registry), outages.isDown(registry)]).toEqual([true, true]);
  upstreams.mayAsk = true;
  expect([outages.isDown(registry), outages.isDown(registry)]).toEqual([false, true]);
});

test("failed() takes a refusal's own moment for the next probe, and 429 for no outage", () => {
  const { clock, outages } = start();
  outages.failed(registry, new RegistryError("UNAVAILABLE", "refused", { headers: [["Retry-After", "4"]] }));
  clock.ms = 3_999;
  expect(outages.isDown(registry)).toBe(true);
  clock.ms = 4_000;
  expect(outages.isDown(registry)).toBe(false);
  outages.answered(registry);
  outages.failed(registry, new RegistryError("TOOMANYREQUESTS", "limited"));
  expect(outages.isFailing(registry)).toBe(false);
});

test("failed() again and again leaves the window's probe where it was: one broken repository hides no other's tags", () => {
  const { clock, outages } = start();
  outages.failed(registry, dead);
  for (clock.ms = 1_000; clock.ms < 30_000; clock.ms += 1_000) {
    expect(outages.isDown(registry)).toBe(true);
    outages.failed(registry, dead);
  }
  expect(outages.isDown(registry)).toBe(false);
});

test("[R211] failed() puts the probe off when a later failure asks for more time", () => {
  const { clock, outages } = start();
  outages.failed(registry, dead);
  outages.failed(registry, new RegistryError("UNAVAILABLE", "refused", { headers: [["Retry-After", "60"]] }));
  clock.ms = 59_999;
  expect(outages.isDown(registry)).toBe(true);
  clock.ms = 60_000;
  expect(outages.isDown(registry)).toBe(false);
});
