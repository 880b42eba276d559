/** Reading what /metrics answers. */

/** Every sample by its name and labels as they are written: `layover_fills_total{result="wrong"}`. */
export type Samples = ReadonlyMap<string, number>;

/** @param url of a server that may be asked for its metrics, from this machine */
export async function metricsOf(url: string): Promise<Samples> {
  const answer = await fetch(`${url}/metrics`);
  if (answer.status !== 200) throw new Error(`expected metrics, got ${answer.status}: ${await answer.text()}`);
  return samplesIn(await answer.text());
}

export function samplesIn(text: string): Samples {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** The sum of all samples of a name whose labels hold these: `{ registry: "quay" }`. */
export function total(samples: Samples, name: string, labels: Record<string, string> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum = 0;
  for (const [series, value] of samples) {
    const isNamed = series === name || series.startsWith(`${name}{`);
    if (isNamed && wanted.every((pair) => series.includes(pair))) sum += value;
  }
  return sum;
}

/** Asks until the total is at least this: some is counted when an answer has ended, behind its last byte. */
export async function untilTotal(
  url: string,
  [name, labels]: [name: string, labels?: Record<string, string>],
  atLeast: number,
): Promise<number> {
  for (;;) {
    const found = total(await metricsOf(url), name, labels);
    if (found >= atLeast) return found;
  }
}
