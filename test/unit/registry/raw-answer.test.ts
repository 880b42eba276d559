import { expect, test } from "bun:test";
import { RegistryError } from "../../../src/errors.ts";
import { rawAnswer } from "../../../src/registry/raw-answer.ts";

test("[R32] rawAnswer() is a whole answer that ends the connection", () => {
  const error = new RegistryError("UNSUPPORTED", "not here", { headers: [["Allow", "GET"]] });
  expect(rawAnswer(error)).toBe(
    "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Type: application/json\r\nContent-Length: 56\r\n" +
      'Connection: close\r\n\r\n{"errors":[{"code":"UNSUPPORTED","message":"not here"}]}',
  );
});

test.each([400, 405, 408, 414, 431, 503, 418])(
  "rawAnswer() of %d has a reason phrase and the length of its body",
  (status) => {
    const [head = "", body = ""] = rawAnswer(new RegistryError("UNKNOWN", "x", { status })).split("\r\n\r\n");
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [A-Z][A-Za-z -]+\r\n`));
    expect(head).toContain(`Content-Length: ${body.length}\r\n`);
  },
);
