/**
 * The admin interface: what the cache commands ask of a running server. It is served on a unix socket that only the owner
 * may open, never on TCP, so that whoever gets here may do everything.
 *
 *   GET  /about              {"version": …, "addresses": […]}
 *   POST /upkeep/<operation> {"name"?: …, "pattern"?: …}  →  one JSON value a line; {"error": …} is the last one of a failure
 */
import type { Log } from "../log.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { type Upkeep, UpkeepError } from "../proxy/upkeep.ts";
import { jsonReply } from "./reply.ts";

/** What a command may want to know of the server. */
export interface About {
  readonly version: string;
  /** Where it listens, as a person writes it: `"http://[::]:5000"`. */
  readonly addresses: readonly string[];
}

export interface AdminDependencies {
  readonly upkeep: Upkeep;
  readonly about: () => About;
  readonly log: Log;
}

interface Asked {
  readonly name: string;
  readonly pattern: string | undefined;
  readonly signal: AbortSignal;
}

type Operation = (asked: Asked) => AsyncIterable<unknown>;

/** Names and patterns are short. */
const MAX_BODY_BYTES = 64 * 1024;

/** Never rejects. */
export function createAdminHandler({ upkeep, about, log }: AdminDependencies): (exchange: Exchange) => Promise<Reply> {
  const operations: ReadonlyMap<string, Operation> = new Map<string, Operation>([
    ["images", ({ pattern }) => upkeep.images(pattern)],
    ["remove", ({ name }) => one(upkeep.remove(name))],
    ["pin", ({ name }) => one(upkeep.pin(name))],
    ["unpin", ({ name }) => one(upkeep.unpin(name))],
    ["verify", ({ signal }) => upkeep.verify(signal)],
    ["prune", ({ signal }) => one(upkeep.prune(signal))],
    ["stats", () => one(upkeep.stats())],
  ]);

  return async function answer(exchange) {
    const { method, path, signal } = exchange;
    if (method === "GET" && path === "/about") return jsonReply(200, about());
    const operation = method === "POST" ? operations.get(path.replace(/^\/upkeep\//, "")) : undefined;
    if (operation === undefined)
      return jsonReply(404, { error: `nothing at ${method} ${path}: is the server of another version?` });
    const asked = await readAsked(exchange);
    if (asked === undefined) return jsonReply(400, { error: "expected a JSON object" });
    return {
      status: 200,
      headers: [["Content-Type", "application/x-ndjson"]],
      body: linesOf(operation({ ...asked, signal }), log),
    };
  };
}

async function* one(result: Promise<unknown>): AsyncGenerator<unknown> {
  yield await result;
}

async function readAsked({ body }: Exchange): Promise<Omit<Asked, "signal"> | undefined> {
  const bytes: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body ?? []) {
    length += piece.byteLength;
    if (length > MAX_BODY_BYTES) return undefined;
    bytes.push(piece);
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(bytes).toString() || "{}");
    if (typeof value !== "object" || value === null) return undefined;
    const text = (key: string) => {
      const found: unknown = Reflect.get(value, key);
      return typeof found === "string" ? found : undefined;
    };
    return { name: text("name") ?? "", pattern: text("pattern") };
  } catch {
    return undefined; // no JSON: said to whoever sent it
  }
}

/** A line for each value, made as it is read: whoever reads slowly slows the iteration. */
function linesOf(values: AsyncIterable<unknown>, log: Log): ReadableStream<Uint8Array> {
  const iterator = values[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const lineOf = (value: unknown) => encoder.encode(`${JSON.stringify(value)}\n`);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const step = await iterator.next();
        if (step.done === true) controller.close();
        else controller.enqueue(lineOf(step.value));
      } catch (error) {
        // The head is out: the failure is the last line.
        if (!(error instanceof UpkeepError)) log.error({ err: error }, "a cache command failed");
        controller.enqueue(lineOf({ error: error instanceof Error ? error.message : String(error) }));
        controller.close();
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
