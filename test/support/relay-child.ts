/** The process behind `relay.ts`: passes connections on to a port of loopback, byte for byte. Argument: the port. */
import net from "node:net";

const port = Number(process.argv[2]);
const server = net.createServer({ allowHalfOpen: true }, (from) => {
  const to = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const end = (): void => {
    from.destroy();
    to.destroy();
  };
  for (const socket of [from, to]) socket.on("error", end).on("close", end);
  from.pipe(to);
  to.pipe(from);
});
server.listen({ host: "127.0.0.1", port: 0 }, () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : ""}\n`);
});
