/**
 * The program: arguments in, exit code out. The only file that ends the process.
 */
export {}; // a module: what it needs is loaded behind the restart

/** More than 256 requests to upstreams at once need this in the environment of the process from its start. */
const REQUESTS_VARIABLE = "BUN_CONFIG_MAX_HTTP_REQUESTS";
const MAX_REQUESTS = "65535";

restartWithManyRequests();
// Behind the restart: nothing is loaded twice, which takes most of a start.
const [{ run }, { startServer }] = await Promise.all([import("./commands/run.ts"), import("./server.ts")]);
process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  process,
  isTerminal: process.stdout.isTTY === true,
  startServer,
  print: (text) => void process.stdout.write(text),
  complain: (text) => void process.stderr.write(text),
});
// Idle connections and timers of a library would keep the process; what was written is flushed first.
process.stdout.write("", () => process.exit());

/**
 * Bun's client takes 256 requests at once, counts them until their bodies end, and lets the next wait in silence; the
 * limit is read from the environment before any code runs. The process becomes itself again with the variable set: same
 * pid, same sockets, so supervisors see nothing. Commands that ask nobody are not worth telling apart: it takes them a
 * few hundredths of a second.
 */
function restartWithManyRequests(): void {
  if (process.env[REQUESTS_VARIABLE] !== undefined || process.execve === undefined) return;
  const script = Bun.isStandaloneExecutable ? [] : [...process.execArgv, process.argv[1] ?? import.meta.path];
  const args = [process.execPath, ...script, ...process.argv.slice(2)];
  process.execve(process.execPath, args, { ...process.env, [REQUESTS_VARIABLE]: MAX_REQUESTS });
}
