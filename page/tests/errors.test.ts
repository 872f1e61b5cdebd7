import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorReporter, type PageError } from "../src/api/errors.ts";

function reporter(wanted = true): { sent: PageError[]; errors: ErrorReporter } {
  const sent: PageError[] = [];
  const send = (error: PageError): Promise<boolean> => {
    sent.push(error);
    return Promise.resolve(wanted);
  };
  return { sent, errors: new ErrorReporter(send, () => "/songs/a") };
}

test("an error is reported once, with its place", () => {
  const { sent, errors } = reporter();
  const thrown = new TypeError("x is undefined");
  errors.report("error", thrown);
  errors.report("rejection", thrown);
  assert.equal(sent.length, 1);
  assert.equal(sent[0]?.message, "TypeError: x is undefined");
  assert.match(sent[0]?.stack ?? "", /errors\.test/);
  assert.deepEqual([sent[0]?.kind, sent[0]?.page], ["error", "/songs/a"]);
});

test("thrown values need not be errors, and texts are cut to the gateway's limits", () => {
  const { sent, errors } = reporter();
  errors.report("rejection", undefined);
  errors.report("rejection", "y".repeat(5000));
  assert.deepEqual(sent.map((error) => error.message.length), ["undefined".length, 1000]);
});

test("ten different errors are reported, and no aborts", () => {
  const { sent, errors } = reporter();
  errors.report("rejection", new DOMException("left", "AbortError"));
  for (let number = 0; number < 30; number++) errors.report("error", `error ${number}`);
  assert.equal(sent.length, 10);
});

test("nothing more is reported if the operator wants no reports", async () => {
  const { sent, errors } = reporter(false);
  errors.report("error", "first");
  await Promise.resolve();
  errors.report("error", "second");
  assert.equal(sent.length, 1);
});
