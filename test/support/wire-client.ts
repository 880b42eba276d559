/**
 * A registry client as bytes on one HTTP/1.1 connection: the lines a real client sends, in its order. Every answer is held
 * against what all of them need: a known length, bytes as they are, no redirect, no cookie (protocol R21, R160, R221).
 */
import { openRaw, type RawAnswer } from "./raw-http.ts";

export interface WireClient {
  /** `ask("GET /v2/", "Accept: a", "Accept: b")`, on the same connection each time. */
  ask(start: string, ...lines: string[]): Promise<RawAnswer>;
  end(): void;
}

/** @param lines sent with each request, e.g. the user agent */
export async function openClient(url: string, ...lines: string[]): Promise<WireClient> {
  const connection = await openRaw(url);
  const { host } = new URL(url);
  return {
    async ask(start, ...more) {
      connection.send([`${start} HTTP/1.1`, `Host: ${host}`, ...lines, ...more, "", ""].join("\r\n"));
      const answer = await connection.readAnswer(start.split(" ")[0]);
      refuseOddities(start, answer);
      return answer;
    },
    end: connection.end,
  };
}

export function jsonOf<T>({ body }: RawAnswer): T {
  return JSON.parse(new TextDecoder().decode(body)) as T;
}

/** `"404 MANIFEST_UNKNOWN"` of an error that dockerd can read: JSON of exactly that type (protocol R32, R158). */
export function refusalOf(answer: RawAnswer): string {
  const type = answer.header("content-type");
  if (type !== "application/json") throw new Error(`expected application/json, got ${type}`);
  return `${answer.status} ${jsonOf<{ errors: [{ code: string }] }>(answer).errors[0].code}`;
}

/** The parameters of the one challenge of an answer; every value must be quoted (protocol R90). */
export function challengeOf(answer: RawAnswer): Record<string, string> {
  const line = answer.header("www-authenticate") ?? "";
  if (!/^Bearer (?:[a-z]+="[^"]*",?)+$/.test(line)) throw new Error(`expected a Bearer challenge, got ${line}`);
  return Object.fromEntries(
    [...line.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name, value]),
  );
}

function refuseOddities(start: string, answer: RawAnswer): void {
  for (const name of ["transfer-encoding", "content-encoding", "location", "set-cookie"]) {
    const value = answer.header(name);
    if (value !== undefined) throw new Error(`${start}: expected no ${name}, got ${value}`);
  }
  const needsLength = answer.status !== 204 && answer.status !== 304;
  if (needsLength && answer.header("content-length") === undefined) throw new Error(`${start}: expected a length`);
  if (!answer.isComplete) throw new Error(`${start}: the answer broke off`);
}
