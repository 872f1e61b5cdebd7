import assert from "node:assert/strict";
import { test } from "node:test";
import { partOf } from "../src/offline/partial.ts";

const whole = () => new Response("0123456789", { headers: { "Content-Type": "audio/flac", "Content-Length": "10" } });

for (const [range, text, told] of [
  ["bytes=0-3", "0123", "bytes 0-3/10"],
  ["bytes=7-", "789", "bytes 7-9/10"],
  ["bytes=-2", "89", "bytes 8-9/10"],
  ["bytes=-20", "0123456789", "bytes 0-9/10"],
  ["bytes=8-99", "89", "bytes 8-9/10"],
] as const) {
  test(`${range} is a part`, async () => {
    const part = await partOf(whole(), range);
    assert.equal(part.status, 206);
    assert.equal(part.headers.get("Content-Range"), told);
    assert.equal(part.headers.get("Content-Length"), String(text.length));
    assert.equal(part.headers.get("Content-Type"), "audio/flac");
    assert.equal(await part.text(), text);
  });
}

for (const range of [null, "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1"]) {
  test(`${range} means the whole`, async () => {
    const answer = await partOf(whole(), range);
    assert.equal(answer.status, 200);
    assert.equal(await answer.text(), "0123456789");
  });
}

test("ranges beyond the end are refused", async () => {
  const answer = await partOf(whole(), "bytes=10-");
  assert.equal(answer.status, 416);
  assert.equal(answer.headers.get("Content-Range"), "bytes */10");
});
