// The relay's page: one reply, followed through EventSource or read from a fetch.

const find = (id) => document.getElementById(id);
const LISTED = 500;
let leave = null; // stops the reply that is being read
let asked = 0; // questions so far; what still comes of an earlier one is not shown

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) find("token").value = token;
else find("access").open = true;

function headers(more = {}) {
  const given = find("token").value;
  return { "content-type": "application/json", ...(given && { authorization: `Bearer ${given}` }), ...more };
}

function say(text) {
  find("state").textContent = text;
}

function begin() {
  find("text").textContent = "";
  find("events").replaceChildren();
  find("count").textContent = "0";
  find("stop").disabled = false;
  say("Asking…");
}

function end(text) {
  leave = null;
  find("stop").disabled = true;
  say(text);
}

// Show one event; returns true after the last one.
function take(name, id, data) {
  const count = Number(find("count").textContent) + 1;
  find("count").textContent = count;
  if (count <= LISTED) {
    const item = document.createElement("li");
    item.textContent = `${name} ${id} ${JSON.stringify(data)}`;
    find("events").append(item);
  }
  if (name === "start") say(`${data.model} answers…`);
  if (name === "chunk" && !data.kind) find("text").append(data.content);
  if (name === "complete") {
    const tokens = data.usage ? `, ${data.usage.completionTokens} tokens` : "";
    end(`Done (${data.finishReason}${tokens}).`);
  }
  if (name === "error") end(`It failed: ${data.message}`);
  return name === "complete" || name === "error";
}

async function refusal(response) {
  let detail = "";
  try {
    ({ detail } = await response.json());
  } catch {
    // no reason given
  }
  if (response.status === 401) find("access").open = true;
  return `Refused (${response.status}): ${typeof detail === "string" ? detail : JSON.stringify(detail)}`;
}

// POST starts the reply; EventSource follows it, and reconnects by itself with Last-Event-ID.
async function withEventSource(prompt, mine) {
  let wanted = true;
  leave = () => { wanted = false; };
  const response = await fetch("api/chat", {
    method: "POST", headers: headers(), body: JSON.stringify({ prompt }),
  });
  if (!response.ok) return mine === asked && end(await refusal(response));
  const { requestId, streamUrl } = await response.json();
  const stop = () => fetch(`api/streams/${requestId}`, { method: "DELETE", headers: headers() })
    .catch((error) => say(`No connection to the relay: ${error.message}`));
  if (mine !== asked) return stop();
  const source = new EventSource(streamUrl);
  for (const name of ["start", "chunk", "complete", "error"]) {
    source.addEventListener(name, (event) => {
      if (mine !== asked) return source.close();
      if (event.data === undefined) { // the browser's own error: the line broke
        if (source.readyState === EventSource.CLOSED) end("The line broke for good.");
        else say("The line broke; connecting again…");
        return undefined;
      }
      return take(name, event.lastEventId, JSON.parse(event.data)) && source.close();
    });
  }
  leave = stop;
  return wanted || stop();
}

// One POST whose response is the stream itself, read piece by piece.
async function withFetch(prompt) {
  const gone = new AbortController();
  leave = () => { gone.abort(); end("Stopped."); };
  const response = await fetch("api/chat/stream", {
    method: "POST", headers: headers(), body: JSON.stringify({ prompt }), signal: gone.signal,
  });
  if (!response.ok) return end(await refusal(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return end("The line broke before the end.");
    waiting += value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const fields = {};
      for (const line of block.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (fields.event && take(fields.event, fields.id, JSON.parse(fields.data))) return undefined;
    }
  }
}

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (leave) leave();
  const mine = (asked += 1);
  begin();
  const way = event.submitter?.value === "fetch" ? withFetch : withEventSource;
  try {
    await way(find("prompt").value, mine);
  } catch (error) {
    if (error.name !== "AbortError" && mine === asked) end(`No connection to the relay: ${error.message}`);
  }
});

find("stop").addEventListener("click", () => leave && leave());
