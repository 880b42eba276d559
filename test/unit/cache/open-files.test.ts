/** Files on a disk that writes little at a time, hangs, or answers late. */
import { expect, test } from "bun:test";
import { type FileHandle, open } from "node:fs/promises";
import { createOpenFiles } from "../../../src/cache/open-files.ts";
import { createTempDir, type TempDir } from "../../support/temp-dir.ts";

/** Real handles, with some operations replaced. */
async function filesIn(dir: TempDir, replaced: (handle: FileHandle) => Partial<FileHandle>) {
  const closed: string[] = [];
  const files = createOpenFiles(
    { timeoutMs: 20 },
    {
      async openHandle(path, flags) {
        const handle = await open(path, flags);
        const close = handle.close.bind(handle);
        return Object.assign(handle, replaced(handle), {
          async close() {
            closed.push(path);
            await close();
          },
        });
      },
    },
  );
  return { files, closed, file: await files.open(dir.file("file"), "w+") };
}

test("write() goes on where a short write stopped", async () => {
  await using dir = await createTempDir();
  const { file } = await filesIn(dir, (handle) => {
    const write = handle.write.bind(handle);
    return Object.assign(handle, {
      write: (bytes: Uint8Array, offset: number, length: number, position: number) =>
        write(bytes, offset, Math.min(length, 3), position),
    });
  });
  await file.write(new TextEncoder().encode("0123456789"), 2);
  expect(await Bun.file(dir.file("file")).text()).toBe("\0\x000123456789");
  expect(await file.bytes()).toBe(12);
  await file.close();
});

test("settle() cuts off what is behind the end", async () => {
  await using dir = await createTempDir();
  const { file } = await filesIn(dir, () => ({}));
  await file.write(new TextEncoder().encode("0123456789"), 0);
  await file.settle(4);
  await file.close();
  expect(await Bun.file(dir.file("file")).text()).toBe("0123");
});

test("an operation that hangs is broken at the deadline, and the file is closed only after it", async () => {
  await using dir = await createTempDir();
  const { promise: hanging, resolve: answer } = Promise.withResolvers<{ bytesRead: number; buffer: Uint8Array }>();
  const { files, file, closed } = await filesIn(dir, (handle) => Object.assign(handle, { read: () => hanging }));
  await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ name: "StoreError", kind: "broken" });
  await expect(file.close()).rejects.toMatchObject({ kind: "broken" });
  await files.closeAll();
  expect(closed).toEqual([]);
  answer({ bytesRead: 0, buffer: new Uint8Array(1) });
  await file.close();
  await file.close();
  expect(closed).toHaveLength(1);
  await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ kind: "broken" });
});

test("a file that is opened after the deadline is closed", async () => {
  await using dir = await createTempDir();
  const { promise: slow, resolve: answer } = Promise.withResolvers<FileHandle>();
  const files = createOpenFiles({ timeoutMs: 10 }, { openHandle: () => slow });
  await expect(files.open(dir.file("file"), "w+")).rejects.toMatchObject({ kind: "broken" });
  const handle = await open(dir.file("file"), "w+");
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  answer(Object.assign(handle, { close: async () => close() }));
  await closed;
});
