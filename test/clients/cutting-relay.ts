/** A relay between a client and Layover that breaks connections in the middle of a body, as bad networks do. */
import net from "node:net";

export interface CuttingRelay {
  /** Connections broken so far. */
  cuts(): number;
  stop(): Promise<void>;
}

export interface CuttingRelayOptions {
  listen: { host: string; port: number };
  to: { host: string; port: number };
  /** A connection is closed when it has carried so many bytes to the client: containerd resumes after FIN, and gives up after RST. */
  cutAfterBytes: number;
  /** How many connections are broken; those after them live. */
  times: number;
}

export async function startCuttingRelay(options: CuttingRelayOptions): Promise<CuttingRelay> {
  const sockets = new Set<net.Socket>();
  let cuts = 0;
  const server = net.createServer((client) => {
    const upstream = net.connect(options.to);
    let carried = 0;
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.end();
      });
      one.pipe(other);
    }
    upstream.on("data", (chunk: Buffer) => {
      carried += chunk.length;
      if (carried < options.cutAfterBytes || cuts >= options.times) return;
      cuts++;
      upstream.destroy();
      client.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(options.listen.port, options.listen.host, resolve));
  return {
    cuts: () => cuts,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
