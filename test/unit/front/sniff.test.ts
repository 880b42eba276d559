import { expect, test } from "bun:test";
import { speechOf } from "../../../src/front/sniff.ts";

test.each([
  ["", undefined],
  ["\x16", "tls"],
  ["\x16\x03\x01", "tls"],
  ["C", undefined],
  ["CONNECT", undefined],
  ["CONNECT ", "connect"],
  ["CONNECT x:443 HTTP/1.1\r\n", "connect"],
  ["CONNECTX", "http"],
  ["COPY", "http"],
  ["connect x", "http"],
  ["GET / HTTP/1.1", "http"],
  ["G", "http"],
  ["\x80\x2e", "http"], // an SSLv2 hello: refused as malformed HTTP
  ["\0", "http"],
])("speechOf() takes %j for %p", (text, speech) => {
  expect(speechOf(Buffer.from(text, "latin1"))).toBe(speech as ReturnType<typeof speechOf>);
});
