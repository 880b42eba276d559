import { expect, test } from "bun:test";
import { startLayover } from "../../support/layover.ts";
import { createTempDir, type TempDir } from "../../support/temp-dir.ts";

/** A program that listens and then does as told. */
async function program(dir: TempDir, end: string): Promise<string[]> {
  const path = dir.file("program.ts");
  const listening = { level: "info", msg: "listening", address: "http://127.0.0.1:41234" };
  await Bun.write(
    path,
    `console.log(${JSON.stringify(JSON.stringify(listening))});\nsetInterval(() => {}, 1000);\n${end}`,
  );
  return [process.execPath, path];
}

test("startLayover() finds the address and ends the program by SIGTERM", async () => {
  await using dir = await createTempDir();
  const command = await program(
    dir,
    'process.on("SIGTERM", () => process.exit(0)); console.log(process.argv.join(" "));',
  );
  const layover = await startLayover({ command, map: { docker: "http://127.0.0.1:1" }, args: ["--strict-hosts"] });
  expect([layover.url, layover.host, layover.port]).toEqual(["http://127.0.0.1:41234", "127.0.0.1:41234", 41234]);
  const { msg } = await layover.logLine((line) => line.msg?.includes("--listen") ?? false);
  expect(msg).toMatch(
    /--listen 127.0.0.1:0 --state-dir \S+ --log-format json --registry-map \S+registrymap.json --strict-hosts$/,
  );
  await layover.stop();
});

test("stop() throws on a bad exit code, on stderr and on unhandled errors in the log", async () => {
  await using dir = await createTempDir();
  for (const [end, complaint] of [
    ['process.on("SIGTERM", () => process.exit(3));', "exit code 3"],
    ['process.on("SIGTERM", () => { console.error("oh dear"); process.exit(0); });', "oh dear"],
    [
      'process.on("SIGTERM", () => process.exit(0)); console.log(JSON.stringify({ level: "fatal", msg: "x" }));',
      '"fatal"',
    ],
  ] as const) {
    const layover = await startLayover({ command: await program(dir, `${end}\nconsole.log("ready");`) });
    await layover.logLine((line) => line.msg === "ready");
    await expect(layover.stop()).rejects.toThrow(complaint);
  }
});

test("startLayover() throws with what the program said when it ends at once", async () => {
  const command = [process.execPath, "-e", 'console.error("address in use"); process.exit(1);'];
  await expect(startLayover({ command })).rejects.toThrow("exit code 1: address in use");
});
