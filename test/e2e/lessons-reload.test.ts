/** The lesson about reloading under load, with the figure it names: none of the transfers that run drops (T27). */
import { expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import tls from "node:tls";
import { drain } from "../support/cached.ts";
import { testAuthority } from "../support/certs.ts";
import { type FakeRegistry, createFakeRegistry } from "../support/fake-registry.ts";
import { basicHeader, layerOf } from "../support/farm.ts";
import { htpasswdText } from "../support/htpasswd.ts";
import { digestOf, makeImage } from "../support/images.ts";
import { type LogLine, type RunningLayover, startLayover } from "../support/layover.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

const TRANSFERS = 20;
const BYTES = 6_000_000;
const RELOADS = 3;
const ALICE = { authorization: basicHeader("alice:wonder") };

const authority = testAuthority();
const large = Array.from({ length: TRANSFERS }, (_, at) => makeImage({ seed: `large ${at}`, layers: [BYTES] }));
const small = makeImage({ seed: "small", layers: [5000] });

/** One thing that is read again: `renew` puts the next good one in force, `spoil` a bad one in its place. */
interface Reloaded {
  readonly file: string;
  renew(turn: number): Promise<void>;
  /** Whether the last good one is in force. */
  isInForce(turn: number): Promise<boolean>;
  readonly bad: string;
  readonly complaint: RegExp;
}

test.each([
  ["through the cache", true],
  ["without a cache", false],
])(
  "[T27] twenty transfers %s outlive three reloads of each kind, and a bad file that changes nothing",
  async (_name, isCached) => {
    await using lab = await startLab(isCached);
    const begun = lab.beginTransfers();
    const others = lab.pullMeanwhile();
    await lab.untilAllRun();
    const moved = begun.bytes();
    for (const kind of kinds(lab)) {
      for (let turn = 1; turn <= RELOADS; turn++) {
        await kind.renew(turn);
        expect([kind.file, turn, await kind.isInForce(turn)]).toEqual([kind.file, turn, true]);
      }
      await lab.refuse(kind);
      expect([kind.file, "bad", await kind.isInForce(RELOADS)]).toEqual([kind.file, "bad", true]);
      await kind.renew(RELOADS); // the others are read again without complaint
    }
    expect([begun.ended(), begun.bytes() > moved]).toEqual([0, true]); // all ran through all of it, and moved
    lab.speedUp();
    expect(await begun.results).toEqual(large.map((image) => ({ status: 200, bytes: BYTES, digest: layerOf(image) })));
    const statuses = await others.stop();
    expect([...new Set(statuses)]).toEqual([200]);
    expect(statuses.length).toBeGreaterThan(50);
  },
  60_000,
);

type Lab = Awaited<ReturnType<typeof startLab>>;

async function startLab(isCached: boolean) {
  const [registry, other, dir] = await Promise.all([createFakeRegistry(), createFakeRegistry(), createTempDir()]);
  for (const [at, image] of large.entries()) registry.add(`org/large${at}`, image);
  for (const each of [registry, other]) each.add("org/small", small);
  const files = createFiles(dir, [registry, other]);
  for (const write of [files.map, files.certificate, files.users, files.rules]) await write(0);
  const layover = await startLayover({
    args: [
      `--tls-cert=${dir.file("tls.pem")}`,
      `--tls-key=${dir.file("tls.key")}`,
      `--registry-map=${dir.file("map.json")}`,
      `--htpasswd=${dir.file("users")}`,
      `--access-rules=${dir.file("rules.json")}`,
      ...(isCached ? ["--cache-dir", dir.file("cache"), "--cache-min-free", "0"] : []),
    ],
  });
  registry.faults.blob = { match: ({ path }) => path.includes("/large"), bytesPerSecond: 200_000 };

  function ask(path: string, headers: Record<string, string> = ALICE): Promise<Response> {
    return fetch(`${layover.url}${path}`, { headers, tls: { ca: authority.certPem } });
  }

  async function statusOf(path: string, headers?: Record<string, string>): Promise<number> {
    const answer = await ask(path, headers);
    await answer.bytes();
    return answer.status;
  }

  return {
    layover,
    files,
    ask,
    statusOf,
    untilAllRun: () => registry.until({ method: "GET", path: /\/large\d+\/blobs\// }, TRANSFERS),
    speedUp: () => Object.assign(registry.faults.blob, { bytesPerSecond: undefined }),
    beginTransfers() {
      let ended = 0;
      const counts = large.map(() => 0);
      const transfers = large.map(async (image, at) => {
        const answer = await ask(`/v2/lab/org/large${at}/blobs/${layerOf(image)}`);
        const drained = await drain(answer, (bytes) => (counts[at] = bytes));
        ended += 1;
        return { status: answer.status, ...drained };
      });
      const bytes = (): number => counts.reduce((sum, count) => sum + count, 0);
      const results = Promise.all(transfers);
      results.catch(() => undefined); // likewise: whoever waits for them is told
      return { results, ended: () => ended, bytes };
    },
    /** New requests, by tag and by digest, until they are stopped. */
    pullMeanwhile() {
      const statuses: number[] = [];
      let isOver = false;
      const pull = async (): Promise<void> => {
        while (!isOver) {
          statuses.push(await statusOf("/v2/lab/org/small/manifests/latest"));
          const blob = await ask(`/v2/lab/org/small/blobs/${layerOf(small)}`);
          statuses.push(digestOf(await blob.bytes()) === layerOf(small) ? blob.status : 0);
        }
      };
      const pulling = Promise.all([pull(), pull(), pull()]);
      pulling.catch(() => undefined); // `stop` tells it; what failed before is the cause
      return {
        async stop(): Promise<readonly number[]> {
          isOver = true;
          await pulling;
          return statuses;
        },
      };
    },
    /** Does it, sends SIGHUP, and waits for a line that was not there before. */
    async reload(change: () => Promise<void>, isWanted: (line: LogLine) => boolean): Promise<LogLine> {
      const before = new Set(layover.log);
      await change();
      layover.signal("SIGHUP");
      return layover.logLine((line) => !before.has(line) && isWanted(line));
    },
    async refuse({ file, bad, complaint }: Reloaded): Promise<void> {
      const line = await this.reload(
        () => files.replace(file, bad),
        ({ level, msg }) => level === "error" && complaint.test(msg ?? ""),
      );
      expect(JSON.stringify(line)).toContain(file); // it says which file
    },
    async [Symbol.asyncDispose]() {
      await layover.stop();
      await Promise.all([registry.close(), other.close(), dir.remove()]);
    },
  };
}

/** The files that are read again, each with a good text for every turn. Turn by turn the map leads to another registry. */
function createFiles(dir: TempDir, registries: readonly FakeRegistry[]) {
  /** Put in place in one step, as certificate clients and Kubernetes do. */
  async function replace(name: string, text: string): Promise<void> {
    await Bun.write(dir.file(`${name}.new`), text);
    await rename(dir.file(`${name}.new`), dir.file(name));
  }
  const upTo = (turn: number): number[] => Array.from({ length: turn + 1 }, (_, at) => at);
  return {
    replace,
    async map(turn: number): Promise<void> {
      const url = registries[turn % registries.length]?.url ?? "";
      const more = upTo(turn).map((at) => [`more${at}`, `https://more${at}.test`]);
      await replace("map.json", JSON.stringify({ default: "lab", lab: url, ...Object.fromEntries(more) }));
    },
    async certificate(turn: number): Promise<void> {
      const leaf = authority.issue({ names: [`turn${turn}.test`, "localhost", "127.0.0.1"] });
      await replace("tls.key", leaf.keyPem);
      await replace("tls.pem", leaf.certPem);
    },
    async users(turn: number): Promise<void> {
      const more = upTo(turn).map((at) => [`user${at}`, "wonder"]);
      await replace("users", await htpasswdText({ alice: "wonder", ...Object.fromEntries(more) }));
    },
    async rules(turn: number): Promise<void> {
      const rule = (users: string) => ({ users: [users], repositories: ["**"], rights: ["pull"] });
      const rules = [rule("alice"), ...upTo(turn).map((at) => rule(`user${at}`))];
      await replace("rules.json", JSON.stringify({ rules }));
    },
  };
}

function kinds(lab: Lab): Reloaded[] {
  const { files, layover } = lab;
  const loaded = /^users and access rules loaded$/;
  const asUser = (turn: number) => ({ authorization: basicHeader(`user${turn}:wonder`) });
  return [
    {
      file: "map.json",
      renew: async (turn) => {
        const isLoaded = ({ msg, registries }: LogLine) => msg === "registry map loaded" && registries === turn + 2;
        await lab.reload(() => files.map(turn), isLoaded);
      },
      isInForce: async (turn) => (await (await lab.ask("/help")).text()).includes(`more${turn}.test`),
      bad: '{"default":"lab","lab":{"upstreams":["ftp://x"]}}',
      complaint: /^new registry map refused/,
    },
    {
      file: "tls.pem",
      renew: async (turn) => {
        const isShown = ({ msg }: LogLine) => msg === "certificate replaced";
        await lab.reload(() => files.certificate(turn), isShown);
      },
      isInForce: async (turn) => (await shownNames(layover)).includes(`turn${turn}.test`),
      bad: "no certificate",
      complaint: /^new certificate refused/,
    },
    {
      file: "users",
      renew: async (turn) => {
        await lab.reload(
          () => files.users(turn),
          ({ msg, users }) => loaded.test(msg ?? "") && users === turn + 2,
        );
      },
      // Known by the right password, whatever the rules say to that user.
      isInForce: async (turn) => (await lab.statusOf("/v2/", asUser(turn))) === 200,
      bad: "alice:in the clear\n",
      complaint: /^new users or access rules refused/,
    },
    {
      file: "rules.json",
      renew: async (turn) => {
        await lab.reload(
          () => files.rules(turn),
          ({ msg, rules }) => loaded.test(msg ?? "") && rules === turn + 2,
        );
      },
      isInForce: async (turn) => (await lab.statusOf("/v2/lab/org/small/manifests/latest", asUser(turn))) === 200,
      bad: '{"rules":[{"users":["alice"],"repositories":["**"],"rights":["everything"]}]}',
      complaint: /^new users or access rules refused/,
    },
  ];
}

/** The names of the certificate that a new connection is shown. */
function shownNames({ port }: RunningLayover): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: "127.0.0.1", ca: authority.certPem }, () => {
      resolve(socket.getPeerCertificate().subjectaltname ?? "");
      socket.end();
    });
    socket.on("error", reject);
  });
}
