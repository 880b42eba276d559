/**
 * A way to an upstream that can fall silent as real networks do: a process of its own that passes connections on, and is
 * stopped. While it stands still the kernel goes on taking connections for it (`silent`), or, when those that wait fill its
 * queue, answers no SYN any more (`dropping`). It goes on where it stood.
 */
import net from "node:net";
import path from "node:path";

export interface Relay extends AsyncDisposable {
  /** `http://127.0.0.1:41234` */
  readonly url: string;
  freeze(how: "silent" | "dropping"): Promise<void>;
  thaw(): void;
}

/** Bun's listeners have queues of some 500, whatever they are asked for. */
const MAX_WAITING = 2000;
/** Loopback answers a SYN within microseconds: this long means never. */
const UNANSWERED_MS = 300;

/** @param url of the upstream, on 127.0.0.1 */
export async function startRelay(url: string): Promise<Relay> {
  const child = Bun.spawn([process.execPath, path.join(import.meta.dir, "relay-child.ts"), new URL(url).port], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const port = Number(await firstLine(child.stdout));
  const waiting: net.Socket[] = [];

  /** Whether another connection was taken. */
  function fillOne(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = net.connect({ host: "127.0.0.1", port });
    waiting.push(socket);
    const timer = setTimeout(resolve, UNANSWERED_MS, false);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    return promise.finally(() => clearTimeout(timer));
  }

  return {
    url: `http://127.0.0.1:${port}`,
    async freeze(how) {
      child.kill("SIGSTOP");
      if (how === "silent") return;
      for (let count = 0; count < MAX_WAITING; count++) if (!(await fillOne())) return;
      throw new Error(`expected no connection after ${MAX_WAITING}, got one more`);
    },
    thaw() {
      for (const socket of waiting.splice(0)) socket.destroy();
      child.kill("SIGCONT");
    },
    async [Symbol.asyncDispose]() {
      for (const socket of waiting) socket.destroy();
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const piece of stream) {
    text += decoder.decode(piece, { stream: true });
    if (text.includes("\n")) break;
  }
  return text.slice(0, text.indexOf("\n"));
}
