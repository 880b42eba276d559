import { expect, test } from "bun:test";
import { RegistryError, UpstreamError } from "../../../src/errors.ts";
import { createOutages } from "../../../src/proxy/outage.ts";
import { createPlainRegistry } from "../../../src/registry/registry.ts";
import { upstreamAt } from "../upstream/fixture.ts";

const registry = createPlainRegistry("one", [upstreamAt("https://one.test")]);
const route = { registry, repository: "org/app" };
const other = { registry, repository: "org/other" };
const dead = new RegistryError("UNAVAILABLE", "dead for this test", {
  status: 503,
  cause: new UpstreamError("connect", "refused for this test"),
});
const broken = new RegistryError("UNAVAILABLE", "the registry answered with status 500", { status: 502 });

function start() {
  const clock = { ms: 0 };
  const upstreams = { mayAsk: true };
  return { clock, upstreams, outages: createOutages({ now: () => clock.ms, mayAsk: () => upstreams.mayAsk }) };
}

test("[T6] isDown() lets one request a window through", () => {
  const { clock, outages } = start();
  outages.failed(route, dead);
  for (let window = 1; window <= 3; window++) {
    clock.ms = window * 30_000 - 1;
    expect(outages.isDown(route)).toBe(true);
    clock.ms = window * 30_000;
    expect([outages.isDown(route), outages.isDown(route), outages.isFailing(route)]).toEqual([false, true, true]);
  }
  outages.answered(route);
  expect([outages.isDown(route), outages.isFailing(route)]).toEqual([false, false]);
});

test("[T6] isDown() lets nobody through whom the upstreams' health would refuse, and the next one at once when it would not", () => {
  const { clock, outages, upstreams } = start();
  outages.failed(route, dead);
  upstreams.mayAsk = false;
  clock.ms = 45_000;
  expect([outages.isDown(route), outages.isDown(route)]).toEqual([true, true]);
  upstreams.mayAsk = true;
  expect([outages.isDown(route), outages.isDown(route)]).toEqual([false, true]);
});

test("failed() takes a refusal's own moment for the next probe, and 429 for no outage", () => {
  const { clock, outages } = start();
  outages.failed(route, new RegistryError("UNAVAILABLE", "refused", { headers: [["Retry-After", "4"]] }));
  clock.ms = 3_999;
  expect(outages.isDown(route)).toBe(true);
  clock.ms = 4_000;
  expect(outages.isDown(route)).toBe(false);
  outages.answered(route);
  outages.failed(route, new RegistryError("TOOMANYREQUESTS", "limited"));
  expect(outages.isFailing(route)).toBe(false);
});

test("failed() again and again leaves the window's probe where it was: one broken repository hides no other's tags", () => {
  const { clock, outages } = start();
  outages.failed(route, dead);
  for (clock.ms = 1_000; clock.ms < 30_000; clock.ms += 1_000) {
    expect(outages.isDown(route)).toBe(true);
    outages.failed(route, dead);
  }
  expect(outages.isDown(route)).toBe(false);
});

test("[R211] failed() puts the probe off when a later failure asks for more time", () => {
  const { clock, outages } = start();
  outages.failed(route, dead);
  outages.failed(route, new RegistryError("UNAVAILABLE", "refused", { headers: [["Retry-After", "60"]] }));
  clock.ms = 59_999;
  expect(outages.isDown(route)).toBe(true);
  clock.ms = 60_000;
  expect(outages.isDown(route)).toBe(false);
});

test("failed() of a repository that is answered 5xx is no other's outage, and nobody's answer ends it but its own", () => {
  const { outages } = start();
  outages.failed(route, broken);
  expect([outages.isFailing(route), outages.isDown(route)]).toEqual([true, true]);
  expect([outages.isFailing(other), outages.isDown(other)]).toEqual([false, false]);
  outages.answered(other);
  expect(outages.isDown(route)).toBe(true);
  outages.failed(other, dead);
  outages.answered(route);
  expect([outages.isFailing(route), outages.isFailing(other)]).toEqual([false, false]);
});

test("[T6] failed() without an answer is the outage of all its repositories", () => {
  const { clock, outages } = start();
  outages.failed(route, dead);
  expect([outages.isDown(route), outages.isDown(other)]).toEqual([true, true]);
  clock.ms = 30_000;
  expect([outages.isDown(other), outages.isDown(route)]).toEqual([false, true]);
});
