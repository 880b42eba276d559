/**
 * Clients that take a body at a fixed pace, in one process, which costs the machine least. Prints how many bytes they got.
 *
 *   bun bench/slow-clients.ts URL CLIENTS BYTES_PER_SECOND SECONDS
 */
import net from "node:net";

const [url = "", clients = "", bytesPerSecond = "", seconds = ""] = process.argv.slice(2);
const { hostname, port, pathname, host } = new URL(url);
const startedAt = performance.now();
let total = 0;

for (let client = 0; client < Number(clients); client += 1) connect();
await Bun.sleep(Number(seconds) * 1000);
console.log(total);
process.exit();

function connect(): void {
  const socket = net.connect(Number(port), hostname);
  let received = 0;
  socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  socket.on("data", (bytes) => {
    total += bytes.length;
    received += bytes.length;
    const dueMs = (received / Number(bytesPerSecond)) * 1000;
    const earlyMs = dueMs - (performance.now() - startedAt);
    if (earlyMs <= 0) return;
    socket.pause();
    setTimeout(() => socket.resume(), earlyMs);
  });
}
