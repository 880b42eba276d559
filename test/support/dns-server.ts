/**
 * A DNS server over UDP in the test's own process (RFC 1035): it answers from a table, counts what it is asked, and is silent or
 * cannot tell on command.
 *
 *     const dns = await createDnsServer({ "registry.test": ["127.0.0.1", "::1"] });
 *     … --resolver <dns.address>
 *     expect(dns.asked).toEqual(["registry.test AAAA", "registry.test A"]);
 */
import { createSocket } from "node:dgram";
import { isIPv6 } from "node:net";

/** `"silent"` never answers, `"servfail"` and `"refused"` say that they cannot tell. */
export type Zone = Record<string, readonly string[] | "silent" | "servfail" | "refused">;

export interface DnsServer {
  /** `"127.0.0.1:41053"`, as `--resolver` takes it. */
  readonly address: string;
  /** `"registry.test A"`, in the order of coming. */
  readonly asked: readonly string[];
  /** Read anew for each question: change it at any moment. A name that is not there does not exist. */
  readonly zone: Zone;
  /** No question is answered while it is true. */
  isSilent: boolean;
  /** Questions of this type are not answered. */
  deafFor: "A" | "AAAA" | undefined;
  close(): Promise<void>;
}

const TYPES: Readonly<Record<number, "A" | "AAAA">> = { 1: "A", 28: "AAAA" };
const CODES = { ok: 0, servfail: 2, absent: 3, refused: 5 } as const;
const HEAD_BYTES = 12;

export async function createDnsServer(zone: Zone, host: "127.0.0.1" | "::1" = "127.0.0.1"): Promise<DnsServer> {
  const socket = createSocket(isIPv6(host) ? "udp6" : "udp4");
  const asked: string[] = [];
  socket.on("message", (message, peer) => {
    const { name, type, end } = questionIn(message);
    asked.push(`${name} ${type}`);
    const found = zone[name] ?? "absent";
    if (server.isSilent || found === "silent" || server.deafFor === type) return;
    const question = message.subarray(0, end);
    socket.send(
      typeof found === "string"
        ? replyTo(question, CODES[found], [])
        : replyTo(
            question,
            CODES.ok,
            found.filter((address) => isIPv6(address) === (type === "AAAA")),
          ),
      peer.port,
      peer.address,
    );
  });
  await new Promise<void>((resolve) => socket.bind(0, host, resolve));
  const { port } = socket.address();
  const server: DnsServer = {
    address: isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`,
    asked,
    zone,
    isSilent: false,
    deafFor: undefined,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
  return server;
}

/** Labels with their lengths, an empty one at the end, then type and class. */
function questionIn(message: Buffer): { name: string; type: string; end: number } {
  const labels: string[] = [];
  let at = HEAD_BYTES;
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  const type = message.readUInt16BE(at + 1);
  return { name: labels.join(".").toLowerCase(), type: TYPES[type] ?? String(type), end: at + 5 };
}

function replyTo(question: Buffer, code: number, addresses: readonly string[]): Buffer {
  const head = Buffer.from(question);
  head.writeUInt16BE(0x8180 | code, 2); // an answer, recursion wanted and to be had
  head.writeUInt16BE(addresses.length, 6);
  head.writeUInt32BE(0, 8); // no authority, nothing additional
  return Buffer.concat([head, ...addresses.map(recordOf)]);
}

/** Points back to the name of the question; lives a minute. */
function recordOf(address: string): Buffer {
  const data = isIPv6(address) ? ipv6Bytes(address) : Buffer.from(address.split(".").map(Number));
  const head = Buffer.from([0xc0, HEAD_BYTES, 0, data.length === 4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, data.length]);
  return Buffer.concat([head, data]);
}

/** `"::1"` and whole addresses. */
function ipv6Bytes(address: string): Buffer {
  const [head = "", tail = ""] = address.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const missing = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array.from({ length: missing }, () => "0"), ...groups(tail)];
  return Buffer.from(all.map((group) => group.padStart(4, "0")).join(""), "hex");
}
