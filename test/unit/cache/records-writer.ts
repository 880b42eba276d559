/** Run as a process of its own: links `count` digests in the file, one by one, while others do the same. */
import { openRecords } from "../../../src/cache/records.ts";
import { silent } from "../../support/http-server.ts";
import { digestOf } from "../../support/records-model.ts";

const [file = "", first = "0", count = "0"] = process.argv.slice(2);
const records = openRecords({ file }, { log: silent, now: Date.now });
const place = { registry: "https://quay.io/", repository: "from/other" };
for (let number = Number(first); number < Number(first) + Number(count); number += 1) {
  records.link(place, digestOf(number), { bytes: number, mediaType: undefined });
}
records.close();
