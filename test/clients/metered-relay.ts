/** A relay between Layover and a registry: counts what the registry sends, holds it to a speed, and can be shut. */
import net from "node:net";

export interface MeteredRelay {
  /** `"http://127.0.0.1:41234"` */
  readonly url: string;
  /** Bytes the registry sent, heads included. */
  readonly sentBytes: number;
  /** Breaks every connection and refuses new ones. */
  shut(): Promise<void>;
  open(): Promise<void>;
}

export interface MeteredRelayOptions {
  /** Port of the registry on this machine. */
  readonly to: number;
  /** For all connections together; unlimited by default. */
  readonly bytesPerSecond?: number;
}

export async function startMeteredRelay({ to, bytesPerSecond }: MeteredRelayOptions): Promise<MeteredRelay> {
  const sockets = new Set<net.Socket>();
  let sentBytes = 0;
  /** When the line is free again. */
  let freeAtMs = 0;
  let server = listener();
  await listen(0);
  const { port } = server.address() as net.AddressInfo;

  function listener(): net.Server {
    return net.createServer((client) => {
      const registry = net.connect(to, "127.0.0.1");
      for (const [one, other] of [
        [client, registry],
        [registry, client],
      ] as const) {
        sockets.add(one);
        one.on("error", () => other.destroy());
        one.on("close", () => sockets.delete(one));
      }
      client.pipe(registry);
      // What the registry would still send is not taken when nobody wants it.
      client.on("close", () => registry.destroy());
      registry.on("end", () => client.end());
      registry.on("data", (chunk: Buffer) => {
        sentBytes += chunk.length;
        registry.pause();
        const isTaken = client.write(chunk);
        const goOn = (): void => void registry.resume();
        const waitMs = bytesPerSecond === undefined ? 0 : untilFree((chunk.length / bytesPerSecond) * 1000);
        if (waitMs > 0) setTimeout(goOn, waitMs);
        else if (isTaken) goOn();
        else client.once("drain", goOn);
      });
    });
  }

  /** Takes the line for so long; the wait until it is free again, milliseconds. */
  function untilFree(takenMs: number): number {
    const now = performance.now();
    freeAtMs = Math.max(freeAtMs, now) + takenMs;
    return freeAtMs - now;
  }

  async function listen(at: number): Promise<void> {
    await new Promise<void>((resolve) => server.listen(at, "127.0.0.1", resolve));
  }

  return {
    url: `http://127.0.0.1:${port}`,
    get sentBytes() {
      return sentBytes;
    },
    async shut() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    async open() {
      server = listener();
      await listen(port);
    },
  };
}
