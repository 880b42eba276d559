/** One line of the table that `layover check` prints. */
export interface Finding {
  readonly verdict: "ok" | "warn" | "fail";
  readonly subject: string;
  readonly text: string;
}
