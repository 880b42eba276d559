/** cosign signs at the upstream and verifies through Layover, by tag and by referrers (protocol R61, R200; lesson T15). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { createLab, DOMAIN, readStore, type Lab } from "./lab.ts";
import { DIRECT_HOST } from "./modes.ts";
import { hasProgram, run } from "./shell.ts";

const isThere = hasProgram("cosign");
const store = await readStore();
const digest = store.references["lab/multi:latest"]?.digest ?? "";
const other = store.references["lab/hello:v1"]?.digest ?? "";
const OFFLINE = ["--insecure-ignore-tlog=true", "--allow-http-registry"];
let lab: Lab;

beforeAll(async () => {
  lab = await createLab();
});
afterAll(() => lab?.stop());

for (const [form, flags] of [
  ["a tag", []],
  ["referrers", ["--registry-referrers-mode=oci-1-1"]],
] as const) {
  test.skipIf(!isThere)(`cosign verifies a signature kept as ${form}`, async () => {
    const dir = join(lab.dir, form.replace(" ", "-"));
    const env = { COSIGN_PASSWORD: "", COSIGN_EXPERIMENTAL: "1", HOME: dir, SSL_CERT_FILE: lab.caFile };
    await run(["mkdir", "-p", dir]);
    await run(["sh", "-c", 'cd "$0" && exec cosign generate-key-pair', dir], { env });
    const [key, pub] = [join(dir, "cosign.key"), join(dir, "cosign.pub")];
    const sign = ["cosign", "sign", "--yes", "--tlog-upload=false", "--allow-http-registry", ...flags, "--key", key];
    await run([...sign, `${DIRECT_HOST}/lab/multi@${digest}`], { env });
    const verify = [
      "cosign",
      "verify",
      ...OFFLINE,
      ...(form === "referrers" ? ["--experimental-oci11"] : []),
      "--key",
      pub,
    ];
    for (const prefix of [DIRECT_HOST, `${DOMAIN}/quay.io`, `quay.${DOMAIN}`]) {
      expect(await run([...verify, `${prefix}/lab/multi@${digest}`], { env })).toContain(digest);
      await expect(run([...verify, `${prefix}/lab/hello@${other}`], { env })).rejects.toThrow(
        /no signatures found|no matching/,
      );
    }
  });
}
