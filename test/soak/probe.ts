/**
 * Loaded into the program when a soak runs it from its sources (`--preload`): tells on a unix socket how many timers and other
 * objects live there, behind a collection of garbage. The compiled binary cannot load it; then timers are not known.
 */
import { gcAndSweep, heapStats } from "bun:jsc";

const unix = process.env["SOAK_PROBE"];
if (unix !== undefined && process.env["BUN_CONFIG_MAX_HTTP_REQUESTS"] !== undefined) {
  // Behind the program's restart of itself, or the socket would be taken.
  const server = Bun.serve({
    unix,
    fetch() {
      gcAndSweep();
      const { heapSize, objectTypeCounts } = heapStats();
      const count = (name: string): number => objectTypeCounts[name] ?? 0;
      return Response.json({
        timers: count("Timeout") + count("Immediate"),
        "js heap MiB": heapSize / 2 ** 20,
        "abort signals": count("AbortSignal"),
        streams: count("ReadableStream"),
        promises: count("Promise"),
      });
    },
  });
  server.unref();
}
