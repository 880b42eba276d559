/** What is seen of a `warm`: bars on a terminal, else a line for each image when it is done. */
import { MultiBar, Presets, type SingleBar } from "cli-progress";
import { sizeText } from "./table.ts";

export interface WarmProgress {
  /** An image begins. */
  begin(image: string): { update(doneBytes: number, totalBytes: number): void; end(): void };
  /** A line that stays. */
  say(line: string): void;
  close(): void;
}

export function createLines(print: (text: string) => void): WarmProgress {
  return {
    begin: () => ({ update: () => undefined, end: () => undefined }),
    say: (line) => print(`${line}\n`),
    close: () => undefined,
  };
}

/** Bars on standard output, one for each image that is under way; they end with their image, the lines stay. */
export function createBars(): WarmProgress {
  const bars = new MultiBar(
    {
      format: "{bar} {percentage} %  {image}  {amount}",
      barsize: 24,
      hideCursor: true,
      clearOnComplete: true,
      stream: process.stdout,
    },
    Presets.shades_grey,
  );
  return {
    begin(image) {
      const bar: SingleBar = bars.create(1, 0, { image, amount: "" });
      return {
        update(doneBytes, totalBytes) {
          bar.setTotal(Math.max(1, totalBytes));
          bar.update(doneBytes, { amount: `${sizeText(doneBytes)} of ${sizeText(totalBytes)}` });
        },
        end: () => void bars.remove(bar),
      };
    },
    say(line) {
      bars.log(`${line}\n`);
      bars.update();
    },
    close: () => bars.stop(),
  };
}
