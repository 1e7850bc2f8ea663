// The official TypeScript SDK, unchanged but for the URL. Run by tests/foreign/test_typescript.py.
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";

import { Mistral } from "@mistralai/mistralai";
import { HTTPValidationError, SDKError } from "@mistralai/mistralai/models/errors";
import { z } from "zod";

import { faults } from "./faults.mjs";

const serverURL = process.env.SIMULATOR_URL;
const model = "mistral-small-latest";
const client = new Mistral({ apiKey: "k", serverURL });
const messages = [{ role: "user", content: "Weather in Paris?" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

/** Assert that no part of a reply was unknown to the SDK, and return the reply. */
function known(value) {
  const seen = JSON.stringify(value);
  assert.ok(!seen.includes('"UNKNOWN"') && !seen.includes('"isUnknown"'), seen);
  return value;
}

async function gathered(stream) {
  const events = [];
  for await (const event of stream) events.push(known(event));
  return events;
}

beforeEach(() => faults());
after(() => faults());

test("a plain chat has text, usage and a finish reason", async () => {
  const reply = known(
    await client.chat.complete({ model, messages: [{ role: "user", content: "2+2?" }] }),
  );
  assert.equal(reply.choices[0].message.content, "2+2 = 4");
  assert.equal(reply.choices[0].finishReason, "stop");
  assert.equal(reply.usage.totalTokens, reply.usage.promptTokens + reply.usage.completionTokens);
});

test("a stream's pieces join to the plain reply", async () => {
  const plain = await client.chat.complete({ model, messages });
  const events = await gathered(await client.chat.stream({ model, messages }));
  const text = events.map((event) => event.data.choices[0].delta.content ?? "").join("");
  assert.equal(text, plain.choices[0].message.content);
  assert.equal(events.at(-1).data.choices[0].finishReason, "stop");
  assert.ok(events.at(-1).data.usage.completionTokens > 0);
});

test("a reasoning model thinks in chunks of its own, then speaks", async () => {
  const asked = { model: "magistral-small-latest", messages };
  const reply = known(await client.chat.complete(asked));
  const types = reply.choices[0].message.content.map((chunk) => chunk.type);
  assert.deepEqual(types, ["thinking", "text"]);
  const events = await gathered(await client.chat.stream(asked));
  const kinds = events
    .flatMap((event) => event.data.choices[0].delta.content || [])
    .map((chunk) => chunk.type);
  assert.deepEqual([...new Set(kinds)], ["thinking", "text"]);
});

test("a tool is called, plain and streamed, and its result answered", async () => {
  const first = known(await client.chat.complete({ model, messages, tools: [weather] }));
  const said = first.choices[0].message;
  assert.equal(first.choices[0].finishReason, "tool_calls");
  assert.deepEqual(JSON.parse(said.toolCalls[0].function.arguments), { city: "Paris" });
  const result = { role: "tool", content: "Sunny, 22C", toolCallId: said.toolCalls[0].id };
  const second = await client.chat.complete({
    model,
    messages: [...messages, { role: "assistant", ...said }, result],
    tools: [weather],
  });
  assert.match(second.choices[0].message.content, /Sunny, 22C/);
  const events = await gathered(await client.chat.stream({ model, messages, tools: [weather] }));
  const calls = events.flatMap((event) => event.data.choices[0].delta.toolCalls ?? []);
  assert.deepEqual(calls.map((call) => call.function.name), ["get_weather"]);
});

test("a zod schema gives a parsed object", async () => {
  const reply = await client.chat.parse({
    model,
    messages: [{ role: "user", content: "It has 22 degrees in Paris" }],
    responseFormat: z.object({ city: z.string(), degrees: z.number().int() }),
  });
  assert.deepEqual(reply.choices[0].message.parsed, { city: "Paris", degrees: 22 });
});

test("texts become vectors, in their order", async () => {
  const inputs = ["tide", "moon"];
  const both = known(await client.embeddings.create({ model: "mistral-embed", inputs }));
  const one = await client.embeddings.create({ model: "mistral-embed", inputs: "moon" });
  const sizes = both.data.map((each) => [each.index, each.embedding.length]);
  assert.deepEqual(sizes, [[0, 1024], [1, 1024]]);
  assert.deepEqual(both.data[1].embedding, one.data[0].embedding);
});

test("code is filled in, plain and streamed", async () => {
  const asked = { model: "codestral-latest", prompt: "def add(", suffix: "" };
  const plain = known(await client.fim.complete(asked)).choices[0].message.content;
  assert.ok(plain.length > 0);
  const events = await gathered(await client.fim.stream(asked));
  const text = events.map((event) => event.data.choices[0].delta.content ?? "").join("");
  assert.equal(text, plain);
});

test("a document is read page by page", async () => {
  const document = { type: "document_url", documentUrl: "https://example.com/annual-report.pdf" };
  const reply = known(await client.ocr.process({ model: "mistral-ocr-latest", document }));
  assert.equal(reply.usageInfo.pagesProcessed, reply.pages.length);
  assert.match(reply.pages[0].markdown, /annual report/);
});

test("texts and chats are moderated and classified", async () => {
  const threat = [{ role: "user", content: "I will kill you" }];
  const { classifiers } = client;
  const moderation = { model: "mistral-moderation-latest" };
  const text = known(await classifiers.moderate({ ...moderation, inputs: "I love cats" }));
  assert.ok(Object.values(text.results[0].categories).every((found) => found === false));
  const chat = known(await classifiers.moderateChat({ ...moderation, inputs: threat }));
  assert.ok(Object.values(chat.results[0].categories).some((found) => found === true));
  const sentiment = "ft:classifier:ministral-3b-latest:simulator:20260101:sentiment";
  const inputs = ["great", "awful"];
  const found = known(await classifiers.classify({ model: sentiment, inputs }));
  assert.equal(found.results.length, 2);
  const tickets = "ft:classifier:ministral-3b-latest:simulator:20260101:tickets";
  const input = { messages: threat };
  const sorted = known(await classifiers.classifyChat({ model: tickets, input }));
  assert.equal(sorted.results.length, 1);
});

test("the models say what they can do", async () => {
  const listed = known(await client.models.list());
  const card = known(await client.models.retrieve({ modelId: model }));
  assert.ok(listed.data.some((each) => each.id === model));
  assert.equal(card.capabilities.functionCalling, true);
});

/** A batch file's rows: sums. */
function rows(count) {
  const sum = (n) => [{ role: "user", content: `${n}+1?` }];
  const row = (n) => ({ custom_id: `${n}`, body: { messages: sum(n) } });
  return Array.from({ length: count }, (_, n) => JSON.stringify(row(n))).join("\n") + "\n";
}

async function whole(stream) {
  return new Response(stream).text();
}

test("a file is uploaded, listed, read back and removed", async () => {
  const content = rows(2);
  const file = { fileName: "rows.jsonl", content: new Blob([content]) };
  const sent = known(await client.files.upload({ file, purpose: "batch" }));
  const listed = known(await client.files.list({ purpose: "batch" }));
  assert.ok(listed.data.some((each) => each.id === sent.id));
  assert.equal(known(await client.files.retrieve({ fileId: sent.id })).numLines, 2);
  assert.equal(await whole(await client.files.download({ fileId: sent.id })), content);
  const { url } = known(await client.files.getSignedUrl({ fileId: sent.id }));
  assert.equal(await (await fetch(url)).text(), content);
  assert.equal(known(await client.files.delete({ fileId: sent.id })).deleted, true);
});

test("a batch job runs from a file to a file", async () => {
  const file = { fileName: "rows.jsonl", content: new Blob([rows(3)]) };
  const { id } = await client.files.upload({ file, purpose: "batch" });
  const metadata = { by: "node" };
  const asked = { inputFiles: [id], model, endpoint: "/v1/chat/completions", metadata };
  let job = known(await client.batch.jobs.create(asked));
  while (["QUEUED", "RUNNING"].includes(job.status)) {
    await new Promise((again) => setTimeout(again, 20));
    job = known(await client.batch.jobs.get({ jobId: job.id }));
  }
  assert.deepEqual([job.status, job.succeededRequests, job.failedRequests], ["SUCCESS", 3, 0]);
  const output = await whole(await client.files.download({ fileId: job.outputFile }));
  const replies = output.trim().split("\n").map((line) => JSON.parse(line));
  const said = (reply) => [reply.custom_id, reply.response.body.choices[0].message.content];
  const sums = [["0", "0+1 = 1"], ["1", "1+1 = 2"], ["2", "2+1 = 3"]];
  assert.deepEqual(replies.map(said).sort(), sums);
  const listed = known(await client.batch.jobs.list({ metadata }));
  assert.deepEqual(listed.data.map((each) => each.id), [job.id]);
});

test("an agent is made, versioned, talked to and removed", async () => {
  const agent = known(
    await client.beta.agents.create({ model, name: "guide", tools: [weather] }),
  );
  const changed = known(
    await client.beta.agents.update({ agentId: agent.id, updateAgentRequest: { name: "scout" } }),
  );
  assert.deepEqual([changed.name, changed.version], ["scout", agent.version + 1]);
  const first = known(
    await client.beta.conversations.start({ agentId: agent.id, inputs: "Weather in Paris?" }),
  );
  const call = first.outputs.at(-1);
  assert.deepEqual([call.type, call.name], ["function.call", "get_weather"]);
  const second = known(
    await client.beta.conversations.append({
      conversationId: first.conversationId,
      conversationAppendRequest: {
        inputs: [{ type: "function.result", toolCallId: call.toolCallId, result: "Sunny, 22C" }],
      },
    }),
  );
  assert.match(JSON.stringify(second.outputs), /Sunny, 22C/);
  const asked = { conversationId: first.conversationId };
  assert.equal(known(await client.beta.conversations.getHistory(asked)).entries.length, 4);
  assert.equal(known(await client.beta.conversations.getMessages(asked)).messages.length, 2);
  assert.equal(known(await client.beta.conversations.get(asked)).agentId, agent.id);
  await client.beta.conversations.delete(asked);
  await client.beta.agents.delete({ agentId: agent.id });
  await assert.rejects(client.beta.agents.get({ agentId: agent.id }), { statusCode: 404 });
});

test("a conversation streams typed events, and goes on from an earlier entry", async () => {
  const events = await gathered(
    await client.beta.conversations.startStream({ model, inputs: "Say: one" }),
  );
  const kinds = events.map((event) => event.event);
  assert.equal(kinds[0], "conversation.response.started");
  assert.equal(kinds.at(-1), "conversation.response.done");
  const { conversationId } = events[0].data;
  const more = await gathered(
    await client.beta.conversations.appendStream({
      conversationId,
      conversationAppendStreamRequest: { inputs: "Say: two" },
    }),
  );
  assert.match(more.map((event) => event.data.content ?? "").join(""), /two/);
  const { entries } = await client.beta.conversations.getHistory({ conversationId });
  const again = known(
    await client.beta.conversations.restart({
      conversationId,
      conversationRestartRequest: { inputs: "Say: three", fromEntryId: entries[1].id },
    }),
  );
  assert.notEqual(again.conversationId, conversationId);
  assert.match(JSON.stringify(again.outputs), /three/);
});

test("refusals are the SDK's own errors", async () => {
  const stranger = new Mistral({ apiKey: "wrong", serverURL });
  const denied = await stranger.chat.complete({ model, messages }).catch((error) => error);
  assert.ok(denied instanceof SDKError);
  assert.equal(denied.statusCode, 401);
  const lost = await client.models.retrieve({ modelId: "nobody" }).catch((error) => error);
  assert.ok(lost instanceof SDKError);
  assert.equal(lost.statusCode, 404);
  const refused = await client.chat.complete({ model, messages, temperature: 9 }).catch((e) => e);
  assert.ok(refused instanceof HTTPValidationError);
  assert.deepEqual(refused.detail[0].loc, ["body", "temperature"]);
});

test("a rate limit is an SDKError without retries, and is outlasted with them", async () => {
  await faults({ rate_limit_rate: 1, retry_after: 7 });
  const limited = await client.chat.complete({ model, messages }).catch((error) => error);
  assert.ok(limited instanceof SDKError);
  assert.equal(limited.statusCode, 429);
  assert.equal(limited.headers.get("retry-after"), "7");
  await faults({ rate_limit_rate: 0.5, seed: 3 });
  const backoff = { initialInterval: 5, maxInterval: 20, exponent: 1.5, maxElapsedTime: 30_000 };
  const retries = { strategy: "backoff", backoff, retryConnectionErrors: true };
  for (let n = 0; n < 6; n += 1) {
    const reply = await client.chat.complete({ model, messages }, { retries });
    assert.equal(reply.choices[0].finishReason, "stop");
  }
});

test("a stream that breaks off is an error, not an end", async () => {
  await faults({ cut_after: 3 });
  const stream = await client.chat.stream({ model, messages });
  await assert.rejects(gathered(stream));
});
