/**
 * A DNS server over UDP and TCP in the test's own process (RFC 1035): it answers from a table, counts what it is asked, and is
 * silent or cannot tell on command. What UDP cannot hold is asked for again over TCP.
 *
 *     const dns = await createDnsServer({ "registry.test": ["127.0.0.1", "::1"] });
 *     … --resolver <dns.address>
 *     expect(dns.asked).toEqual(["registry.test AAAA", "registry.test A"]);
 */
import { createSocket } from "node:dgram";
import { createServer, isIP, isIPv6, type AddressInfo } from "node:net";
import { addressBytes } from "./address-bytes.ts";

/**
 * Addresses, and before them a name where it is an alias: `["edge.test", "127.0.0.1"]`. `"silent"` never answers, `"servfail"`
 * and `"refused"` say that they cannot tell.
 */
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
/** Of an answer over UDP. */
const MAX_UDP_BYTES = 512;

export async function createDnsServer(zone: Zone, host: "127.0.0.1" | "::1" = "127.0.0.1"): Promise<DnsServer> {
  const asked: string[] = [];
  function answer(message: Buffer): Buffer | undefined {
    const { name, type, end } = questionIn(message);
    asked.push(`${name} ${type}`);
    const found = zone[name] ?? "absent";
    if (server.isSilent || found === "silent" || server.deafFor === type) return undefined;
    const question = message.subarray(0, end);
    if (typeof found === "string") return replyTo(question, CODES[found], []);
    const version = type === "AAAA" ? 6 : 4;
    return replyTo(
      question,
      CODES.ok,
      found.filter((value) => [0, version].includes(isIP(value))),
    );
  }

  const stream = createServer((client) => {
    client.on("error", () => client.destroy());
    // A length of two bytes goes before each message; questions come whole.
    client.on("data", (bytes: Buffer) => {
      const reply = answer(bytes.subarray(2));
      if (reply !== undefined)
        client.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]));
    });
  });
  await new Promise<void>((resolve) => stream.listen(0, host, resolve));
  const { port } = stream.address() as AddressInfo;
  const socket = createSocket(isIPv6(host) ? "udp6" : "udp4");
  socket.on("message", (message, peer) => {
    const reply = answer(message);
    if (reply !== undefined)
      socket.send(reply.length > MAX_UDP_BYTES ? truncated(message) : reply, peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(port, host, resolve));
  const server: DnsServer = {
    address: isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`,
    asked,
    zone,
    isSilent: false,
    deafFor: undefined,
    async close() {
      stream.close();
      await new Promise<void>((resolve) => socket.close(() => resolve()));
    },
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

/** An answer that says only that it does not fit. */
function truncated(message: Buffer): Buffer {
  const reply = replyTo(message.subarray(0, questionIn(message).end), CODES.ok, []);
  reply.writeUInt16BE(0x8380, 2);
  return reply;
}

function replyTo(question: Buffer, code: number, values: readonly string[]): Buffer {
  const head = Buffer.from(question);
  head.writeUInt16BE(0x8180 | code, 2); // an answer, recursion wanted and to be had
  head.writeUInt16BE(values.length, 6);
  head.writeUInt32BE(0, 8); // no authority, nothing additional
  const alias = values.find((value) => isIP(value) === 0);
  return Buffer.concat([head, ...values.map((value) => recordOf(value, value === alias ? undefined : alias))]);
}

/** An address of the alias, or of the question's name, to which it points back; or the alias itself. Lives a minute. */
function recordOf(value: string, owner: string | undefined): Buffer {
  const { type, data } = valueOf(value);
  const name = owner === undefined ? Buffer.from([0xc0, HEAD_BYTES]) : nameBytes(owner);
  return Buffer.concat([name, Buffer.from([0, type, 0, 1, 0, 0, 0, 60, 0, data.length]), data]);
}

function valueOf(value: string): { type: number; data: Buffer } {
  if (isIPv6(value)) return { type: 28, data: addressBytes(value) };
  if (isIP(value) === 4) return { type: 1, data: addressBytes(value) };
  return { type: 5, data: nameBytes(value) };
}

function nameBytes(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.from([0])]);
}
