import { describe, expect, test } from "bun:test";
import { createDial } from "../../../src/upstream/dial.ts";
import { createResolvers, openNameServer, UnresolvedError } from "../../../src/upstream/resolver.ts";
import { createDnsServer, type DnsServer, type Zone } from "../../support/dns-server.ts";
import { closeAfter, failureOf } from "./fixture.ts";

async function dnsServer(zone: Zone, host?: "127.0.0.1" | "::1"): Promise<DnsServer> {
  const server = await createDnsServer(zone, host);
  closeAfter(() => server.close());
  return server;
}

const lookupAt = (...servers: readonly DnsServer[]) =>
  createResolvers(servers.map(({ address }) => openNameServer(address)));

describe("createResolvers()", () => {
  const zone: Zone = {
    "both.test": ["127.0.0.2", "127.0.0.3", "::1"],
    "four.test": ["127.0.0.2"],
    "six.test": ["::1"],
    "lost.test": "servfail",
  };

  test.each([
    ["both.test", 0, ["::1", "127.0.0.2", "127.0.0.3"]],
    ["both.test", 4, ["127.0.0.2", "127.0.0.3"]],
    ["both.test", 6, ["::1"]],
    ["four.test", 0, ["127.0.0.2"]],
    ["six.test", 0, ["::1"]],
    ["BOTH.test.", 4, ["127.0.0.2", "127.0.0.3"]],
  ] as const)("resolves %s for family %d", async (host, family, expected) => {
    const server = await dnsServer(zone);
    const found = await lookupAt(server)(host, family);
    expect(found.toSorted()).toEqual([...expected].toSorted());
    expect(found[0]).toBe(expected[0]);
  });

  test("asks for the family that is wanted, and for the name as it stands: no search domains", async () => {
    const server = await dnsServer({ proxy: ["127.0.0.2"] });
    expect(await lookupAt(server)("proxy", 4)).toEqual(["127.0.0.2"]);
    expect(server.asked).toEqual(["proxy A"]);
  });

  test("aliases, as every registry behind a CDN has", async () => {
    const server = await dnsServer({ "reg.test": ["edge.cdn.test", "127.0.0.2", "127.0.0.3", "::1"] });
    expect(await lookupAt(server)("reg.test", 0)).toEqual(["::1", "127.0.0.2", "127.0.0.3"]);
  });

  test("an answer that UDP cannot hold, over TCP", async () => {
    const many = Array.from({ length: 60 }, (_, index) => `127.0.1.${index}`);
    const server = await dnsServer({ "many.test": many });
    expect((await lookupAt(server)("many.test", 4)).toSorted()).toEqual(many.toSorted());
    expect(server.asked).toEqual(["many.test A", "many.test A"]);
  });

  test("a server over IPv6", async () => {
    const server = await dnsServer(zone, "::1");
    expect(await lookupAt(server)("four.test", 4)).toEqual(["127.0.0.2"]);
  });

  test("localhost is this machine, whatever servers say", async () => {
    const server = await dnsServer({ localhost: ["10.0.0.1"], "a.localhost": ["10.0.0.1"] });
    const lookup = lookupAt(server);
    expect(await lookup("localhost", 0)).toEqual(["::1", "127.0.0.1"]);
    expect(await lookup("A.LocalHost.", 4)).toEqual(["127.0.0.1"]);
    expect(server.asked).toEqual([]);
  });

  test.each([
    ["does not exist", "nowhere.test", 0],
    ["has no address of the family", "six.test", 4],
    ["has none of the other", "four.test", 6],
  ] as const)("a name that %s is not asked of the next server", async (_, host, family) => {
    const [first, second] = await Promise.all([dnsServer(zone), dnsServer({ [host]: ["127.0.0.9", "::9"] })]);
    const failure = await failureOf(lookupAt(first, second)(host, family));
    expect(failure).toBeInstanceOf(UnresolvedError);
    expect(String(failure)).toContain(`resolver ${first.address} knows no such name`);
    expect(second.asked).toEqual([]);
  });

  test.each(["servfail", "refused"] as const)("the next server is asked when one says %s", async (word) => {
    const [first, second] = await Promise.all([dnsServer({ "four.test": word }), dnsServer(zone)]);
    expect(await lookupAt(first, second)("four.test", 0)).toEqual(["127.0.0.2"]);
  });

  test("the next server is asked when one is silent, and stays the first to be asked", async () => {
    const [first, second] = await Promise.all([dnsServer({}), dnsServer(zone)]);
    first.isSilent = true;
    const lookup = lookupAt(first, second);
    expect(await lookup("four.test", 4)).toEqual(["127.0.0.2"]);
    const silences = first.asked.length;
    expect(silences).toBeGreaterThan(0);
    expect(await lookup("six.test", 6)).toEqual(["::1"]);
    expect(first.asked.length).toBe(silences);
  });

  test("when none can tell, the failure names each and why", async () => {
    const [first, second] = await Promise.all([dnsServer({ "lost.test": "refused" }), dnsServer(zone)]);
    const failure = await failureOf(lookupAt(first, second)("lost.test", 4));
    expect(String(failure)).toContain(
      `no answer from resolvers ${first.address} (EREFUSED), ${second.address} (ESERVFAIL)`,
    );
  });

  test("a server that never answers for IPv6 holds nobody up for long", async () => {
    const server = await dnsServer(zone);
    server.deafFor = "AAAA";
    const startedAtMs = performance.now();
    expect(await lookupAt(server)("both.test", 0)).toEqual(["127.0.0.2", "127.0.0.3"]);
    expect(performance.now() - startedAtMs).toBeLessThan(1_000);
  });
});

test("reach() judges what a resolver answers, and says which one knew nothing", async () => {
  const server = await dnsServer({ "inside.test": ["10.0.0.5"] });
  const dial = createDial({ connectTimeoutMs: 500, family: 0, resolvers: [server.address] });
  const reach = (host: string) =>
    failureOf(
      dial.reach(
        { host, port: 443, rule: { kind: "derived", from: "public", allow: [] } },
        { signal: new AbortController().signal, deadlineMs: performance.now() + 2_000 },
      ),
    );
  expect(await reach("inside.test")).toMatchObject({ kind: "refused-address" });
  expect(await reach("nowhere.test")).toMatchObject({
    kind: "connect",
    message: `nowhere.test could not be resolved: resolver ${server.address} knows no such name`,
  });
});
