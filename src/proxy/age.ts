/** Ages by the wall clock, which an operator or a time server may set back: what seems to come from the future is of no known age. */

/** Whether something of that moment is less than `mostMs` old for certain. */
export function isYounger(atMs: number, mostMs: number, nowMs: number): boolean {
  return atMs <= nowMs && nowMs - atMs < mostMs;
}
