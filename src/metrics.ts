/**
 * Counting, and the text that Prometheus reads. A count is an addition in a plain object, so that a request may be counted
 * several times; everything else is done when somebody asks for the text.
 *
 * Label values are words of the code and keys of the registry map, never anything a client sent. Should they become too
 * many all the same, the rest is counted together as `other`.
 */

/** A metric as documents and scrapes show it. */
export interface MetricText {
  /** `"layover_requests_total"`. */
  readonly name: string;
  /** One sentence, without a full stop. */
  readonly help: string;
  readonly labels: readonly string[];
}

export interface Metric extends MetricText {
  readonly type: "counter" | "gauge" | "histogram";
  /** Its samples as lines, without HELP and TYPE. */
  samples(): string[];
}

export interface Counter extends Metric {
  /** @param values one for each label, in their order */
  add(amount: number, ...values: string[]): void;
}

export interface Histogram extends Metric {
  observe(value: number, ...values: string[]): void;
}

/** The map's registries times the words of the code stay far below; a scrape of so many lines is half a megabyte. */
const MAX_SERIES = 4000;
const OTHER = "other";
/** No word and no key of the map holds it. */
const SEPARATOR = "\n";

/**
 * A number that only grows.
 * @param known label values that are shown as 0 from the start, so that the first event is seen as a change
 */
export function createCounter(text: MetricText, known: readonly (readonly string[])[] = []): Counter {
  const series = createSeries(text, () => ({ total: 0 }));
  for (const values of text.labels.length === 0 ? [[]] : known) series.of([...values]);
  return {
    ...text,
    type: "counter",
    add(amount, ...values) {
      series.of(values).total += amount;
    },
    samples: () => series.all().map(([labels, { total }]) => sample(text.name, labels, total)),
  };
}

/** @param bounds upper ends of the buckets, rising; values above the last are in `+Inf` alone */
export function createHistogram(text: MetricText, bounds: readonly number[]): Histogram {
  const series = createSeries(text, () => ({ buckets: bounds.map(() => 0), above: 0, sum: 0 }));
  return {
    ...text,
    type: "histogram",
    observe(value, ...values) {
      const counts = series.of(values);
      counts.sum += value;
      let at = 0;
      while (at < bounds.length && value > (bounds[at] ?? 0)) at += 1;
      const before = counts.buckets[at];
      if (before === undefined) counts.above += 1;
      else counts.buckets[at] = before + 1;
    },
    samples: () => series.all().flatMap(([labels, counts]) => histogramLines(text.name, bounds, { labels, ...counts })),
  };
}

/** One number that is read when somebody asks; undefined leaves it out. */
export function createReading(
  text: Omit<MetricText, "labels">,
  type: "counter" | "gauge",
  read: () => number | undefined,
): Metric {
  return {
    ...text,
    type,
    labels: [],
    samples() {
      const value = read();
      return value === undefined ? [] : [sample(text.name, "", value)];
    },
  };
}

/** Numbers with labels that are read when somebody asks. */
export function createReadings(
  text: MetricText,
  type: "counter" | "gauge",
  read: () => readonly (readonly [values: readonly string[], value: number])[],
): Metric {
  return {
    ...text,
    type,
    samples: () => read().map(([values, value]) => sample(text.name, labelText(text.labels, values), value)),
  };
}

/** A constant 1 whose labels are the news. */
export function createInfo(text: MetricText, values: readonly string[]): Metric {
  return { ...text, type: "gauge", samples: () => [sample(text.name, labelText(text.labels, values), 1)] };
}

/** Version 0.0.4 of the text format. */
export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function exposition(metrics: readonly Metric[]): string {
  return metrics
    .flatMap((metric) => [
      `# HELP ${metric.name} ${metric.help}`,
      `# TYPE ${metric.name} ${metric.type}`,
      ...metric.samples(),
      "",
    ])
    .join("\n");
}

interface Series<T> {
  of(values: string[]): T;
  /** With their labels as text: `registry="quay",status="2xx"`. */
  all(): [labels: string, T][];
}

function createSeries<T>({ labels }: MetricText, empty: () => T): Series<T> {
  const found = new Map<string, { readonly values: readonly string[]; readonly counts: T }>();

  function add(key: string, values: readonly string[]): T {
    const counts = empty();
    found.set(key, { values, counts });
    return counts;
  }

  return {
    of(values) {
      const key = values.join(SEPARATOR);
      const known = found.get(key);
      if (known !== undefined) return known.counts;
      if (found.size < MAX_SERIES) return add(key, values);
      const rest = labels.map(() => OTHER);
      return found.get(rest.join(SEPARATOR))?.counts ?? add(rest.join(SEPARATOR), rest);
    },
    all: () => [...found.values()].map(({ values, counts }) => [labelText(labels, values), counts]),
  };
}

interface HistogramCounts {
  readonly labels: string;
  readonly buckets: readonly number[];
  readonly above: number;
  readonly sum: number;
}

/** Each bucket of the text holds those below it too. */
function histogramLines(name: string, bounds: readonly number[], counts: HistogramCounts): string[] {
  const { labels, buckets, above, sum } = counts;
  const bucket = (end: string, count: number) =>
    sample(`${name}_bucket`, labels === "" ? `le="${end}"` : `${labels},le="${end}"`, count);
  let count = 0;
  const lines = bounds.map((bound, at) => bucket(String(bound), (count += buckets[at] ?? 0)));
  count += above;
  return [...lines, bucket("+Inf", count), sample(`${name}_sum`, labels, sum), sample(`${name}_count`, labels, count)];
}

function sample(name: string, labels: string, value: number): string {
  return labels === "" ? `${name} ${value}` : `${name}{${labels}} ${value}`;
}

function labelText(labels: readonly string[], values: readonly string[]): string {
  return labels.map((label, at) => `${label}="${escaped(values[at] ?? "")}"`).join(",");
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
