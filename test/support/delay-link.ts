/**
 * Two networks of their own, one link between them with delay, jitter, loss and a rate, for kernels that have no netem:
 *
 *     near namespace ── TUN ── relay program ── TUN ── far namespace
 *     192.0.2.1                                        192.0.2.2
 *
 * The namespaces have no names and no files: each lives as long as a process in it, and those end with their standard input.
 * So nothing is left behind, even by a killed test. Needs root on Linux: tests are shown as skipped elsewhere, and fail where
 * `CI=true`.
 */
import path from "node:path";
import type { LinkCounts, LinkSettings } from "./delay-link-relay.ts";

export interface LinkEnd {
  readonly address: string;
  /** What stands before a command that shall run there. */
  readonly command: readonly string[];
}

export interface DelayLink extends AsyncDisposable {
  readonly near: LinkEnd;
  readonly far: LinkEnd;
  /** From now on. @returns what passed so far; `bytesBack` is from far to near */
  set(settings: Partial<LinkSettings>): Promise<LinkCounts>;
  close(): Promise<void>;
}

/** Whether tests over a link are to run. In CI always: there they fail in `startDelayLink` when it cannot be. */
export function mayLink(): boolean {
  if (process.env["CI"] === "true") return true;
  return process.platform === "linux" && process.getuid?.() === 0 && Bun.which("ip") !== null && isSpared();
}

/** Root in a container may have no TUN and no namespaces. */
function isSpared(): boolean {
  const { exitCode } = Bun.spawnSync(["unshare", "--net", "test", "-c", "/dev/net/tun"], { stderr: "ignore" });
  return exitCode === 0;
}

/** @throws Error without root */
export async function startDelayLink(settings: Partial<LinkSettings>): Promise<DelayLink> {
  const relay = startProgram([process.execPath, path.join(import.meta.dir, "delay-link-relay.ts")]);
  const holders = [1, 2].map(() => startProgram(["unshare", "--net", "sh", "-c", "echo ready; exec cat"]));
  const close = async (): Promise<void> => {
    await Promise.all([relay, ...holders].map(({ end }) => end()));
  };
  const addresses = ["192.0.2.1", "192.0.2.2"];
  const ends: LinkEnd[] = [];
  let asking: Promise<unknown> = Promise.resolve();
  try {
    const { devices } = JSON.parse(await relay.line()) as { devices: string[] };
    for (const [index, holder] of holders.entries()) {
      await holder.line();
      const command = ["nsenter", `--net=/proc/${holder.pid}/ns/net`];
      const [own = "", other = ""] = index === 0 ? addresses : [...addresses].reverse();
      connect({ device: devices[index] ?? "", pid: holder.pid, command, own, other });
      ends.push({ address: own, command });
    }
  } catch (error) {
    await close();
    throw error;
  }

  /** One question at a time: answers have no names. */
  function set(changed: Partial<LinkSettings>): Promise<LinkCounts> {
    const answer = asking.then(async () => {
      relay.say(JSON.stringify(changed));
      return JSON.parse(await relay.line()) as LinkCounts;
    });
    asking = answer.catch(() => undefined);
    return answer;
  }

  await set(settings);
  const [near, far] = ends;
  if (near === undefined || far === undefined) throw new Error("expected two ends");
  return { near, far, set, close, [Symbol.asyncDispose]: close };
}

interface End {
  readonly device: string;
  readonly pid: number;
  readonly command: readonly string[];
  readonly own: string;
  readonly other: string;
}

/** The device goes into the namespace, and stays the relay's. */
function connect({ device, pid, command, own, other }: End): void {
  run(["ip", "link", "set", device, "netns", String(pid)]);
  run([...command, "ip", "address", "add", `${own}/32`, "peer", `${other}/32`, "dev", device]);
  run([...command, "ip", "link", "set", device, "mtu", "1500", "txqueuelen", "5000", "up"]);
  run([...command, "ip", "link", "set", "lo", "up"]);
}

function run(argv: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...argv], { stdout: "ignore" });
  if (exitCode !== 0) throw new Error(`expected ${argv.join(" ")} to work, got: ${stderr.toString().trim()}`);
}

/** A process that is talked to in lines, and ends with its standard input. */
function startProgram(command: string[]) {
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  return {
    pid: child.pid,
    say(line: string): void {
      child.stdin.write(`${line}\n`);
      void child.stdin.flush();
    },
    /** @throws Error with its complaint when it ended */
    async line(): Promise<string> {
      for (;;) {
        const at = text.indexOf("\n");
        if (at >= 0) {
          const line = text.slice(0, at);
          text = text.slice(at + 1);
          return line;
        }
        const { done, value } = await reader.read();
        if (done) throw new Error(`expected a line of ${command[0]}, got ${await new Response(child.stderr).text()}`);
        text += decoder.decode(value, { stream: true });
      }
    },
    async end(): Promise<void> {
      await child.stdin.end();
      await child.exited;
    },
  };
}
