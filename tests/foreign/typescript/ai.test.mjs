// Vercel's AI SDK with its Mistral provider. Run by tests/foreign/test_typescript.py.
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";

import { createMistral } from "@ai-sdk/mistral";
import { APICallError, RetryError, embedMany, generateObject, generateText } from "ai";
import { stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { faults } from "./faults.mjs";

const baseURL = `${process.env.SIMULATOR_URL}/v1`;
const mistral = createMistral({ apiKey: "k", baseURL });
const model = mistral("mistral-small-latest");
const prompt = "Weather in Paris?";

beforeEach(() => faults());
after(() => faults());

test("a text has usage and a reason it ended", async () => {
  const reply = await generateText({ model, prompt: "2+2?" });
  assert.deepEqual([reply.text, reply.finishReason], ["2+2 = 4", "stop"]);
  assert.equal(reply.usage.totalTokens, reply.usage.inputTokens + reply.usage.outputTokens);
});

test("a stream's pieces join to the plain text", async () => {
  const pieces = [];
  for await (const piece of streamText({ model, prompt }).textStream) pieces.push(piece);
  assert.ok(pieces.length > 5);
  assert.equal(pieces.join(""), (await generateText({ model, prompt })).text);
});

test("reasoning is told apart from the text, plain and streamed", async () => {
  const thinker = mistral("magistral-small-latest");
  const reply = await generateText({ model: thinker, prompt });
  assert.match(reply.reasoningText, /^The user is asking/);
  const streamed = streamText({ model: thinker, prompt });
  await streamed.consumeStream();
  assert.deepEqual(
    [await streamed.reasoningText, await streamed.text],
    [reply.reasoningText, reply.text],
  );
});

test("a tool runs, and its result is answered in a second step", async () => {
  const get_weather = tool({
    description: "Weather in a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `Sunny, 22C in ${city}`,
  });
  const reply = await generateText({
    model,
    prompt,
    tools: { get_weather },
    stopWhen: stepCountIs(3),
  });
  assert.equal(reply.steps.length, 2);
  assert.match(reply.text, /Sunny, 22C in Paris/);
});

test("a zod schema gives an object", async () => {
  const schema = z.object({ city: z.string(), degrees: z.number().int() });
  const reply = await generateObject({ model, prompt: "It has 22 degrees in Paris", schema });
  assert.deepEqual(reply.object, { city: "Paris", degrees: 22 });
});

test("texts become vectors", async () => {
  const made = await embedMany({
    model: mistral.embedding("mistral-embed"),
    values: ["tide", "moon"],
  });
  assert.deepEqual(made.embeddings.map((vector) => vector.length), [1024, 1024]);
});

test("refusals are APICallErrors; a rate limit that lasts is a RetryError", async () => {
  const stranger = createMistral({ apiKey: "wrong", baseURL })("mistral-small-latest");
  for (const [asked, status] of [
    [{ model: stranger }, 401],
    [{ model: mistral("nobody") }, 400],
    [{ model, temperature: 9 }, 422],
  ]) {
    const error = await generateText({ prompt, ...asked }).catch((caught) => caught);
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, status);
  }
  await faults({ rate_limit_rate: 1, retry_after: 0 });
  const limited = await generateText({ model, prompt, maxRetries: 1 }).catch((caught) => caught);
  assert.ok(RetryError.isInstance(limited));
  assert.equal(limited.lastError.statusCode, 429);
});
