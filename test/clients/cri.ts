/**
 * The kubelet's own image calls (CRI v1) to containerd: gRPC over HTTP/2 on a unix socket, of which three messages are needed.
 * `crictl` does the same and is not in Debian. Encoded by hand: strings and one nested message are all there is.
 */
import http2 from "node:http2";
import net from "node:net";

export interface CriCredentials {
  username: string;
  password: string;
}

/** Pulls by the image service; answers the image's id (the digest of its config). @throws Error with the daemon's message */
export async function criPull(socketPath: string, image: string, credentials?: CriCredentials): Promise<string> {
  const auth = credentials === undefined ? [] : [field(1, credentials.username), field(2, credentials.password)];
  const request = Buffer.concat([
    field(1, field(1, image)),
    ...(auth.length > 0 ? [field(2, Buffer.concat(auth))] : []),
  ]);
  return stringField(await call(socketPath, "PullImage", request), 1);
}

/** Digest references the runtime keeps for an image: `"host/name@sha256:…"`. */
export async function criRepoDigests(socketPath: string, image: string): Promise<string[]> {
  const answer = await call(socketPath, "ImageStatus", field(1, field(1, image)));
  return fields(messageField(answer, 1))
    .filter(({ number }) => number === 3)
    .map(({ bytes }) => bytes.toString());
}

export async function criRemove(socketPath: string, image: string): Promise<void> {
  await call(socketPath, "RemoveImage", field(1, field(1, image)));
}

async function call(socketPath: string, method: string, message: Buffer): Promise<Buffer> {
  const session = http2.connect("http://localhost", { createConnection: () => net.connect(socketPath) });
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": `/runtime.v1.ImageService/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const chunks: Buffer[] = [];
    let trailers: Record<string, unknown> = {};
    stream.on("response", (headers) => (trailers = { ...headers }));
    stream.on("trailers", (headers) => (trailers = { ...trailers, ...headers }));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([prefix, message]));
    await new Promise<void>((resolve, reject) => {
      session.on("error", reject);
      stream.on("error", reject);
      stream.on("end", resolve);
    });
    if (String(trailers["grpc-status"]) !== "0") throw new Error(decodeURIComponent(String(trailers["grpc-message"])));
    return Buffer.concat(chunks).subarray(5);
  } finally {
    session.close();
  }
}

/** One length-delimited field of a protobuf message. */
function field(number: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return Buffer.from([...bytes, value]);
}

function messageField(message: Buffer, number: number): Buffer {
  return fields(message).find((each) => each.number === number)?.bytes ?? Buffer.alloc(0);
}

function stringField(message: Buffer, number: number): string {
  return messageField(message, number).toString();
}

/** The length-delimited fields of a message; numbers in it are skipped. */
function fields(message: Buffer): { number: number; bytes: Buffer }[] {
  const found = [];
  let at = 0;
  const read = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++] ?? 0;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = read();
    const size = read();
    if ((tag & 7) !== 2) continue; // a number: its value has just been read
    found.push({ number: tag >>> 3, bytes: message.subarray(at, at + size) });
    at += size;
  }
  return found;
}
