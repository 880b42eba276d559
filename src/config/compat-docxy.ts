/**
 * The variables of docxy, a proxy that ends TLS itself: certificate paths, ports, and the mode behind another proxy
 * (compat.md, DXY). With any of them and no listener given, it listens on :443 and redirects from :80, as it always did.
 */
import { adopt, readSwitch, textOf, type Adoption, type Draft } from "./inherited.ts";

/** What docxy used when no path was given: src/main.rs, load_rustls_config, github.com/harrisonwang/docxy. */
const OLD_CERT = "/root/.acme.sh/example.com_ecc/fullchain.cer";
const OLD_KEY = "/root/.acme.sh/example.com_ecc/example.com.key";
/** Its installer puts nginx before it on the same machine. */
const LOOPBACK = "127.0.0.0/8,::1/128";

export async function readDocxyNames(draft: Draft): Promise<void> {
  const isDocxy = Object.keys(draft.env).some(
    (name) => name.startsWith("DOCXY_") && textOf(draft.env, name) !== undefined,
  );
  const isBehindProxy = readSwitch(draft, "DOCXY_BEHIND_PROXY", "plain http behind a proxy on this machine") === true;
  const hasNoTls = readSwitch(draft, "DOCXY_HTTPS_ENABLED", "https") === false;
  if (isBehindProxy || hasNoTls) {
    listenPlain(draft, isBehindProxy ? "9000" : "80");
    if (isBehindProxy) adopt(draft, "defaults", { name: "trustedProxies", text: LOOPBACK, from: "DOCXY_BEHIND_PROXY" });
    return;
  }
  const hasCertificate = await readCertificate(draft, isDocxy);
  if (hasCertificate) listenTls(draft);
}

function listenPlain(draft: Draft, fallback: string): void {
  if (draft.isGiven("listen")) return;
  const port = textOf(draft.env, "DOCXY_HTTP_PORT");
  const isAdopted =
    port !== undefined && adopt(draft, "values", { name: "listen", text: `:${port}`, from: "DOCXY_HTTP_PORT" });
  if (!isAdopted)
    adopt(draft, "defaults", { name: "listen", text: `:${fallback}`, from: "DOCXY_* without a listener" });
}

/** https, and the redirect to it; an address that is given anywhere else wins. */
function listenTls(draft: Draft): void {
  if (draft.isGiven("listen")) return;
  const ports = [
    { name: "listen", variable: "DOCXY_HTTPS_PORT", fallback: "443" },
    { name: "httpRedirect", variable: "DOCXY_HTTP_PORT", fallback: "80" },
  ] as const;
  for (const { name, variable, fallback } of ports) {
    const port = textOf(draft.env, variable);
    if (port !== undefined && adopt(draft, "values", { name, text: `:${port}`, from: variable })) continue;
    adopt(draft, "defaults", { name, text: `:${fallback}`, from: "a certificate without --listen" });
  }
}

/**
 * `CERT_PATH` and `KEY_PATH` are general names: they count only when both files can be read. docxy's own names count
 * always, so that a wrong path is told at the start.
 * @returns whether a certificate of the old names is in force
 */
async function readCertificate(draft: Draft, isDocxy: boolean): Promise<boolean> {
  if (draft.isGiven("tlsCert")) {
    await readKeyAlone(draft);
    return false;
  }
  const general = await generalPair(draft);
  if (general === undefined && !isDocxy) return false;
  for (const { name, text, from } of general ?? docxyPair(draft)) adopt(draft, "values", { name, text, from });
  return true;
}

/** A certificate of ours with a key of theirs. */
async function readKeyAlone(draft: Draft): Promise<void> {
  const text = textOf(draft.env, "KEY_PATH");
  if (text === undefined || draft.isGiven("tlsKey")) return;
  if (await draft.canRead(text)) adopt(draft, "values", { name: "tlsKey", text, from: "KEY_PATH" });
  else draft.warnings.push(`KEY_PATH is ignored: ${text} cannot be read`);
}

async function generalPair(draft: Draft): Promise<Adoption[] | undefined> {
  const cert = textOf(draft.env, "CERT_PATH");
  const key = textOf(draft.env, "KEY_PATH");
  if (cert === undefined) {
    if (key !== undefined) draft.warnings.push("KEY_PATH is ignored: CERT_PATH is not set");
    return undefined;
  }
  const [, docxyKey] = docxyPair(draft);
  const pair: Adoption[] = [
    { name: "tlsCert", text: cert, from: "CERT_PATH" },
    key === undefined ? docxyKey : { name: "tlsKey", text: key, from: "KEY_PATH" },
  ];
  for (const { text } of pair) {
    if (await draft.canRead(text)) continue;
    draft.warnings.push(`CERT_PATH is ignored: ${text} cannot be read, and certificate and key belong together`);
    return undefined;
  }
  return pair;
}

function docxyPair({ env }: Draft): [Adoption, Adoption] {
  const cert = textOf(env, "DOCXY_CERT_PATH");
  const key = textOf(env, "DOCXY_KEY_PATH");
  return [
    {
      name: "tlsCert",
      text: cert ?? OLD_CERT,
      from: cert === undefined ? `the old default ${OLD_CERT}` : "DOCXY_CERT_PATH",
    },
    { name: "tlsKey", text: key ?? OLD_KEY, from: key === undefined ? `the old default ${OLD_KEY}` : "DOCXY_KEY_PATH" },
  ];
}
