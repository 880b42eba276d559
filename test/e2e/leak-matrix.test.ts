/**
 * Private content that is in the cache, asked for by everybody who may not have it, in every way there is: each answer is
 * the one promised, holds no byte of it, and is the same as for content that was never there.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Mode, Secret, Upstream, What, Who } from "../support/leak-matrix.ts";
import { CLIENTS, MARKER, MODES, WHATS, expected } from "../support/leak-matrix.ts";
import { type LeakServer, startLeakServer } from "../support/leak-server.ts";
import { type RawAnswer } from "../support/raw-http.ts";

const STATES: readonly Upstream[] = ["up", "down"];

describe.each(MODES)("%s", (mode) => {
  let server: LeakServer;
  beforeAll(async () => {
    server = await startLeakServer(mode);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  test.each(STATES)(
    "[R245, R246, R247, T14, T30, C21] shows private content to nobody without the right, upstream %s",
    async (upstream) => {
      const { filling } = await startFill(server, upstream);
      if (upstream === "down") server.registry.goDown();
      const cells: Cell[] = [];
      for (const who of CLIENTS) cells.push(...(await askAll(server, { mode, who, upstream })));
      server.registry.release();
      const wrongs = await Promise.all(cells.map((cell) => faultsOf(server, cell)));
      expect((await filling).isComplete).toBe(true);
      expect(wrongs.flat()).toEqual([]);
    },
  );
});

interface Side {
  readonly mode: Mode;
  readonly who: Who;
  readonly upstream: Upstream;
}

interface Cell extends Side {
  readonly what: What;
  readonly answer: Promise<RawAnswer>;
  /** The same asked about what was never kept, where the answer is no. */
  readonly twin: Promise<RawAnswer> | undefined;
  /** Requests to the registry and its token server that each of the two cost: what a client could tell by the time it takes. */
  readonly costs: readonly number[];
}

/** The right client's download of a blob that nobody has yet; it stands still until the registry is told to go on. */
async function startFill(server: LeakServer, upstream: Upstream): Promise<{ filling: Promise<RawAnswer> }> {
  const { registry, kept } = server;
  const digest = kept.running[upstream];
  Object.assign(registry.faults.blob, {
    stallAfterBytes: 5000,
    match: ({ path }: { path: string }) => path.endsWith(digest),
  });
  const lines = [...server.authorization("right", upstream), "Accept: */*"];
  await server.ask(`GET /v2/closed/${kept.repository}/manifests/v1`, lines);
  const filling = server.ask(`GET /v2/closed/${kept.repository}/blobs/${digest}`, lines);
  await registry.untilHeld(1);
  return { filling };
}

async function askAll(server: LeakServer, side: Side): Promise<Cell[]> {
  const { who, upstream, mode } = side;
  const cells: Cell[] = [];
  // Passwords that come all at once are turned away.
  const isInTurn = upstream === "up" || (mode === "access" && who === "wrong");
  for (const what of WHATS) {
    const ask = (secret: Secret) =>
      server.ask(`${what.method} ${what.path(secret, upstream)}`, [
        "Accept: */*",
        ...server.authorization(who, upstream),
        ...(what.lines?.(secret) ?? []),
      ]);
    const { isYes } = expected(mode, who, what, upstream);
    // Both are asked of one repository then, and the first would pay for its token.
    if (what.elsewhere !== undefined && upstream === "up") await ask(server.never);
    const startedAt = requestsTo(server);
    const answer = ask(server.kept);
    // One after the other, so that both meet the same; what waits for the download, or for retries, together.
    if (isInTurn && !(isYes && what.isRunning === true)) await answer;
    const between = requestsTo(server);
    const twin = isYes ? undefined : ask(server.never);
    if (isInTurn) await twin;
    const costs = twin === undefined ? [] : [between - startedAt, requestsTo(server) - between];
    cells.push({ ...side, what, answer, twin, costs });
  }
  return cells;
}

function requestsTo({ registry }: LeakServer): number {
  return registry.count() + registry.tokenRequests.length;
}

/** What was not as it should be. */
async function faultsOf(server: LeakServer, cell: Cell): Promise<string[]> {
  const { mode, who, what, upstream } = cell;
  const { status, isYes } = expected(mode, who, what, upstream);
  const [answer, twin] = await Promise.all([cell.answer, cell.twin]);
  const name = `${who}, ${what.name}`;
  const faults: string[] = [];
  if (answer.status !== status) faults.push(`${name}: expected ${status}, got ${textOf(answer).slice(0, 1500)}`);
  if (isYes || twin === undefined) return faults;
  if (textOf(answer).includes(MARKER)) faults.push(`${name}: private content in ${textOf(answer).slice(0, 400)}`);
  const [kept, never] = [described(answer, server.kept), described(twin, server.never)];
  if (kept !== never) faults.push(`${name}: told apart from what was never kept:\n${kept}\n${never}`);
  // Whether a former right still holds is asked once; that it had one is known to whoever asks.
  if (who !== "former" && new Set(cell.costs).size > 1)
    faults.push(`${name}: cost ${cell.costs.join(" and ")} requests`);
  return faults;
}

/** All that was received. */
function textOf({ statusLine, lines, body }: RawAnswer): string {
  return [statusLine, ...lines.map((line) => line.join(": ")), "", Buffer.from(body).toString("latin1")].join("\n");
}

/** The same for both, without what differs in any two answers and the names that the client itself used. */
function described(answer: RawAnswer, secret: Secret): string {
  const names = [secret.repository, secret.image.digest, secret.layer, ...Object.values(secret.running)];
  const text = textOf(answer)
    .replace(/^Date: .*$/m, "Date: now")
    .replace(/^Retry-After: \d+$/m, "Retry-After: when the registry is asked again")
    .replace(/^X-Request-Id: .*$/im, "X-Request-Id: one");
  return names.reduce((result, name) => result.replaceAll(name, "<name>"), text);
}
