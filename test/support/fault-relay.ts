/**
 * A TCP relay in front of any port that treats each connection as badly as it is told: late, slow, in small pieces, cut by
 * RST or FIN or silence after so many bytes, refused, swallowed, closed late, with one byte turned. What a connection
 * suffers is decided when it comes in, by hand or by a seeded plan (fault-plan.ts).
 *
 *     client ──► relay ──► target       bytes from the target are counted when they are read (`readBytes`) and when they
 *            ◄── faults ◄──             are given to the client's socket (`passedBytes`): a cut loses what lies between
 */
import net from "node:net";
import { sleep, unlessGone, write } from "./fault-wait.ts";

export interface ConnectionFaults {
  /** What this mixture is called in counts: `"reset"`. */
  readonly name: string;
  /** Before anything else: broken at once, or accepted and never answered. */
  readonly start?: "refuse" | "silence";
  /** Added to whatever comes behind a silence, in both directions, as a long way would. */
  readonly latencyMs?: number;
  /** At most so much more or less than `latencyMs`. */
  readonly jitterMs?: number;
  /** Towards the client. */
  readonly bytesPerSecond?: number;
  /** The largest piece that is written at once towards the client. */
  readonly sliceBytes?: number;
  /** What happens when so many bytes went to the client: `silence` keeps the connection open and passes nothing more. */
  readonly end?: { readonly how: "reset" | "fin" | "silence"; readonly afterBytes: number };
  /** The first request behind so many bytes finds the connection broken, as kept connections are whose other side gave up. */
  readonly staleAfterBytes?: number;
  /** This byte of all that goes to the client is turned over. */
  readonly corruptAt?: number;
  /** How much later than it could the client is told that the connection ended, by the target or by `end`. */
  readonly slowCloseMs?: number;
}

export interface FaultRelayOptions {
  /** A port of 127.0.0.1, or the path of a unix socket. */
  readonly to: number | string;
  /** Decides for connection 1, 2, 3, …; default: nothing happens to any. May be changed later: `relay.faults = …`. */
  readonly faults?: (connection: number) => ConnectionFaults;
  readonly random?: () => number;
}

export interface RelayCount {
  connections: number;
  /** Bytes that were taken from the target. */
  readBytes: number;
  /** Those of them that went on towards the client. */
  passedBytes: number;
  /** Connections that were refused, swallowed, cut, stale or corrupted: the others ended before it came to that. */
  happened: number;
}

export interface FaultRelay extends AsyncDisposable {
  /** `"http://127.0.0.1:41234"` */
  readonly url: string;
  readonly port: number;
  faults: (connection: number) => ConnectionFaults;
  /** All connections together. */
  readonly total: Readonly<RelayCount>;
  /** By the name of what they suffered. */
  readonly counts: ReadonlyMap<string, Readonly<RelayCount>>;
  readonly open: number;
  /** Breaks every connection by RST. */
  resetAll(): void;
  close(): Promise<void>;
}

export const NO_FAULTS: ConnectionFaults = { name: "none" };

/** Far above what a program with a pool of connections opens at a time; more are refused. */
const MAX_CONNECTIONS = 512;
/** A speed is kept by pieces of a twentieth of a second. */
const PIECES_PER_SECOND = 20;
/** What came this soon behind the piece before it belongs to the same burst, and was on its way at the same time. */
const BURST_MS = 2;

export async function startFaultRelay({ to, ...options }: FaultRelayOptions): Promise<FaultRelay> {
  const random = options.random ?? Math.random;
  const links = new Set<Link>();
  const counts = new Map<string, RelayCount>();
  const total = noCount();
  let accepted = 0;
  const server = net.createServer({ allowHalfOpen: true }, accept);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a port");

  function accept(client: net.Socket): void {
    accepted += 1;
    client.on("error", () => client.destroy());
    const faults =
      links.size >= MAX_CONNECTIONS ? { name: "too many", start: "refuse" as const } : relay.faults(accepted);
    const own = counts.get(faults.name) ?? noCount();
    counts.set(faults.name, own);
    let hasHappened = false;
    const count = (what: keyof RelayCount, amount = 1): void => {
      if (what === "happened" && hasHappened) return;
      hasHappened ||= what === "happened";
      own[what] += amount;
      total[what] += amount;
    };
    count("connections");
    const link = createLink(client, { to, faults, count, random });
    links.add(link);
    void link.ended.then(() => links.delete(link));
  }

  const relay: FaultRelay = {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    faults: options.faults ?? (() => NO_FAULTS),
    total,
    counts,
    get open() {
      return links.size;
    },
    resetAll() {
      for (const link of links) link.reset();
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const link of links) link.reset();
      await Promise.all([...links].map(({ ended }) => ended));
      await closed;
    },
    [Symbol.asyncDispose]: () => relay.close(),
  };
  return relay;
}

function noCount(): RelayCount {
  return { connections: 0, readBytes: 0, passedBytes: 0, happened: 0 };
}

interface LinkOptions {
  readonly to: number | string;
  readonly faults: ConnectionFaults;
  readonly count: (what: keyof RelayCount, amount?: number) => void;
  readonly random: () => number;
}

/** One connection of a client, and the one to the target that belongs to it. */
interface Link {
  readonly ended: Promise<void>;
  reset(): void;
}

function createLink(client: net.Socket, options: LinkOptions): Link {
  const { faults, count } = options;
  const gone = new AbortController();
  const ended = new Promise<void>((resolve) => {
    client.on("close", () => {
      gone.abort();
      resolve();
    });
  });
  const reset = (): void => void client.resetAndDestroy();
  if (faults.start !== undefined) {
    count("happened");
    if (faults.start === "refuse") reset();
    else client.resume();
    return { ended, reset };
  }
  const place = typeof options.to === "string" ? { path: options.to } : { port: options.to, host: "127.0.0.1" };
  const target = net.connect({ ...place, allowHalfOpen: true });
  target.on("error", reset);
  gone.signal.addEventListener("abort", () => target.destroy());
  const line: Line = { ...options, client, target, passed: 0, gone: gone.signal };
  pass(client, target, upwards(line), reset);
  pass(target, client, downwards(line), reset);
  return { ended, reset };
}

/** Hands on one piece after the other; the next is read when this one is through. */
interface Passage {
  piece(chunk: Buffer): Promise<void>;
  end(): Promise<void>;
}

function pass(from: net.Socket, to: net.Socket, passage: Passage, fail: () => void): void {
  let last = Promise.resolve();
  // What breaks on the way breaks both connections; there is nobody to tell.
  const then = (step: () => Promise<void>): Promise<void> => (last = last.then(step).catch(fail));
  from.on("data", (chunk: Buffer) => {
    from.pause();
    void then(() => passage.piece(chunk)).then(() => from.resume());
  });
  from.on("end", () => void then(() => passage.end()));
  from.on("close", () => void then(async () => void to.end()));
}

interface Line extends LinkOptions {
  readonly client: net.Socket;
  readonly target: net.Socket;
  /** Bytes that the client was given. */
  passed: number;
  readonly gone: AbortSignal;
}

function upwards(line: Line): Passage {
  const { client, target, faults, count } = line;
  const late = createLateness(line);
  return {
    async piece(chunk) {
      if (line.passed >= (faults.staleAfterBytes ?? Infinity)) {
        count("happened");
        return void client.resetAndDestroy();
      }
      await late();
      await write(target, chunk, line.gone);
    },
    async end() {
      target.end();
    },
  };
}

function downwards(line: Line): Passage {
  const { client, faults, count } = line;
  const late = createLateness(line);
  return {
    async piece(chunk) {
      count("readBytes", chunk.length);
      await late();
      for (const piece of slices(chunk, pieceBytesOf(faults))) {
        const part = piece.subarray(0, (faults.end?.afterBytes ?? Infinity) - line.passed);
        await write(client, corrupted(part, line), line.gone);
        line.passed += part.length;
        count("passedBytes", part.length);
        if (faults.bytesPerSecond !== undefined) await sleep((part.length / faults.bytesPerSecond) * 1000, line.gone);
        if (faults.end !== undefined && line.passed >= faults.end.afterBytes) return finish(line);
      }
    },
    async end() {
      await sleep(faults.slowCloseMs ?? 0, line.gone);
      client.end();
    },
  };
}

/** The cut. Nothing behind it is read, and the target's connection ends with the client's. */
async function finish({ client, faults, count, gone }: Line): Promise<void> {
  count("happened");
  await sleep(faults.slowCloseMs ?? 0, gone);
  if (faults.end?.how === "reset") client.resetAndDestroy();
  else if (faults.end?.how === "fin") client.destroySoon();
  await unlessGone(gone, () => () => undefined);
}

function corrupted(piece: Buffer, { faults, count, passed }: Line): Buffer {
  const index = (faults.corruptAt ?? -1) - passed;
  const byte = piece[index];
  if (byte === undefined) return piece;
  count("happened");
  const copy = Buffer.from(piece);
  copy[index] = byte ^ 0x55;
  return copy;
}

function pieceBytesOf({ sliceBytes = Infinity, bytesPerSecond = Infinity }: ConnectionFaults): number {
  return Math.max(1, Math.floor(Math.min(sliceBytes, bytesPerSecond / PIECES_PER_SECOND)));
}

function* slices(chunk: Buffer, most: number): Generator<Buffer> {
  for (let at = 0; at < chunk.length; at += most) yield chunk.subarray(at, Math.min(chunk.length, at + most));
}

/** Waits for the latency before the first piece of each burst. */
function createLateness({ faults, random, gone }: Line): () => Promise<void> {
  let readyAt = -Infinity;
  const { latencyMs, jitterMs = 0 } = faults;
  return async () => {
    if (latencyMs === undefined) return;
    if (performance.now() - readyAt > BURST_MS) await sleep(latencyMs + (random() * 2 - 1) * jitterMs, gone);
    readyAt = performance.now();
  };
}
