// The live view of one reply: takes numbered frames from the kernel and shows them.
// (stream_view_page.js and shared.js follow it in the same module.)
//
// A frame is a small object; it holds only what has changed.
//   n  number; a gap means that frames were lost, and the whole is asked for
//   w  1 if it is the whole: forget what was there
//   m  name of the model
//   t  patches of the answer: [block, keep, html] keeps the first `keep` characters of that
//      block's HTML and adds `html` to them
//   h  patches of the thinking, likewise
//   s  seconds of thinking, once it is over
//   c  pieces of tool calls: [call, name, arguments]
//   r  sources cited: [number, id]
//   e  the end: {s: state, f: footer, k: checksum, x: [title, reason, advice], r: may retry}
// The HTML in patches comes from the kernel's sanitiser; everything else is shown as text.

// Adler-32 of the text's UTF-16 code units, low byte first.
const checksum = (text) => {
  let a = 1;
  let b = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = (a + (unit & 255)) % 65521;
    b = (b + a) % 65521;
    a = (a + (unit >> 8)) % 65521;
    b = (b + a) % 65521;
  }
  return b * 65536 + a;
};

const blank = () => ({ n: 0, model: "", text: [], think: [], calls: [], refs: [] });

const apply = (state, frame) => {
  const patch = (blocks, [index, keep, html]) => {
    while (blocks.length <= index) blocks.push("");
    blocks[index] = blocks[index].slice(0, keep) + html;
  };
  state.n = frame.n;
  state.model = frame.m ?? state.model;
  frame.t?.forEach((each) => patch(state.text, each));
  frame.h?.forEach((each) => patch(state.think, each));
  if (frame.h && !state.thinkStart) state.thinkStart = Date.now() - 1000 * (frame.hs ?? 0);
  state.seconds = frame.s ?? state.seconds;
  for (const [index, name, piece] of frame.c ?? []) {
    const call = (state.calls[index] ??= { name: "", arguments: "" });
    call.name ||= name;
    call.arguments += piece;
  }
  state.refs.push(...(frame.r ?? []));
  state.end = frame.e ?? state.end;
};

const LOST = [
  "The reply has lost its kernel",
  "The kernel was restarted, or it ended, while the reply was arriving.",
  "Run the cell again.",
];

const pretty = (json) => {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
};

const isWeb = (text) => /^https?:\/\/[^\s/?#]/i.test(text);

// A link as it stands in a list of sources, or the source's id.
const sourceOf = (id) => {
  if (!isWeb(id)) return document.createTextNode(id);
  const link = make("a", "", id);
  Object.assign(link, { href: id, target: "_blank", rel: "noopener noreferrer nofollow" });
  return link;
};

// One view: elements once, then `update` brings them up to the state.
const build = (el, send, signal) => {
  const root = make("div", "mnb");
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Reply");
  const think = make("details", "mnb-think");
  const thinkLabel = make("summary", "");
  const thinkBody = make("div", "mnb-body jp-RenderedHTMLCommon");
  think.append(thinkLabel, thinkBody);
  const body = make("div", "mnb-body jp-RenderedHTMLCommon");
  body.setAttribute("role", "log");
  body.setAttribute("aria-live", "polite");
  const calls = make("div", "mnb-calls");
  const refs = make("ol", "mnb-refs");
  const error = make("div", "mnb-error");
  error.setAttribute("role", "alert");
  const bar = make("div", "mnb-bar");
  const status = make("span", "mnb-status");
  status.setAttribute("role", "status");
  const button = (label, action, title) => {
    const node = make("button", `mnb-button mnb-${action}`, label);
    node.type = "button";
    node.title = title;
    node.addEventListener("click", () => send(action, node), { signal });
    return node;
  };
  const retry = button("Retry", "retry", "Send the same request again");
  const copy = button("Copy", "copy", "Copy the reply's Markdown");
  const stop = button("Stop", "stop", "Stop the reply and keep what has come (Esc)");
  bar.append(status, retry, copy, stop);
  root.append(think, body, calls, refs, error, bar);
  el.append(root);

  keepKeys(root, signal, (event) => {
    if (event.key !== "Escape" || stop.hidden) return;
    send("stop", stop);
    event.preventDefault();
  });
  // The marks of cited sources lead to the list below the text.
  const names = `mnb-${Math.random().toString(36).slice(2)}-`;
  const linkMarks = (fresh) => {
    for (const mark of fresh.querySelectorAll("sup.mnb-cite")) {
      if (mark.closest("a")) continue;
      const link = make("a", "", mark.textContent);
      link.href = `#${names}${mark.textContent.slice(1, -1)}`;
      link.setAttribute("aria-label", `Source ${mark.textContent.slice(1, -1)}`);
      mark.replaceChildren(link);
    }
  };
  const sourceItem = ([number, id]) => {
    const item = make("li", "");
    item.id = names + number;
    item.tabIndex = -1;
    item.append(sourceOf(id));
    return item;
  };
  root.addEventListener(
    "click",
    (event) => {
      const mark = event.target.closest(".mnb-cite a");
      if (!mark) return;
      refs.children[Number(mark.hash.slice(1 + names.length)) - 1]?.focus();
      event.preventDefault(); // the page's own address stays as it is
    },
    { signal },
  );
  root.addEventListener(
    "click",
    (event) => {
      const image = event.target.closest("a.mnb-image");
      if (!image || image.querySelector("img")) return;
      const picture = make("img", "mnb-loaded");
      picture.referrerPolicy = "no-referrer";
      picture.alt = image.textContent;
      picture.src = image.href;
      image.replaceChildren(picture);
      event.preventDefault();
    },
    { signal },
  );

  const text = new Blocks(body, linkMarks);
  const thoughts = new Blocks(thinkBody, linkMarks);
  const keepInSight = follow(root, bar, signal);
  let cards = [];
  let shownSources = "";
  let shownError = "";

  const showCalls = (state) => {
    if (state.calls.length < cards.length) {
      cards = [];
      calls.replaceChildren();
    }
    state.calls.forEach((call, index) => {
      if (!cards[index]) {
        const card = make("div", "mnb-call");
        cards[index] = [make("div", "mnb-call-name"), make("pre", "mnb-call-args")];
        card.append(...cards[index]);
        calls.append(card);
      }
      setText(cards[index][0], call.name);
      setText(cards[index][1], state.end ? pretty(call.arguments) : call.arguments);
    });
  };

  const thinkingFor = (state) => {
    const seconds = state.seconds ?? (Date.now() - state.thinkStart) / 1000;
    const time = seconds < 1 ? "" : ` ${seconds.toFixed(0)} s`;
    if (state.seconds === undefined && !state.end) return `Thinking…${time}`;
    return time ? `Thought for${time}` : "Thought briefly";
  };

  const statusOf = (state) => {
    if (state.end) return state.end.f;
    const begun = state.text.length || state.calls.length || state.think.length;
    return begun ? state.model : `Waiting for ${state.model || "the model"}`;
  };

  const show = (state) => {
    const { end } = state;
    root.dataset.state = end ? end.s : "live";
    body.setAttribute("aria-busy", String(!end));
    think.hidden = !state.think.length;
    if (!think.hidden) setText(thinkLabel, thinkingFor(state));
    thoughts.show(state.think);
    text.show(state.text);
    showCalls(state);
    const sources = state.refs.join();
    if (sources !== shownSources) {
      shownSources = sources;
      refs.replaceChildren(...state.refs.map(sourceItem));
    }
    refs.hidden = !state.refs.length;
    const [title, ...lines] = end?.x ?? [];
    const told = JSON.stringify(end?.x);
    if (told !== shownError) {
      shownError = told;
      error.replaceChildren(make("strong", "", title), ...lines.map((line) => make("p", "", line)));
    }
    error.hidden = !title;
    setText(status, statusOf(state));
    const focused = focusedIn(root);
    stop.hidden = Boolean(end);
    retry.hidden = !end?.r;
    copy.hidden = !state.text.length || state.lost;
    keepFocus(root, focused);
  };
  return {
    update: (state) => keepInSight(() => show(state)),
    tick: (state) => !think.hidden && setText(thinkLabel, thinkingFor(state)),
  };
};

// One call for each model: what it holds outlives the views.
export default () => {
  let state = blank();
  const views = new Set();
  let scheduled = false;
  let greeted = false;
  let asked = 0;
  let heard = Date.now();
  let copying = null; // the button that waits for the text
  const page = Math.random().toString(36).slice(2);

  // All frames of one screen refresh are shown at once; a hidden page has no refreshes.
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    const show = () => {
      scheduled = false;
      for (const view of views) view.update(state);
    };
    if (document.hidden) setTimeout(show, 100);
    else requestAnimationFrame(show);
  };

  const post = (model, message) => {
    try {
      Promise.resolve(model.send(message)).catch(() => {});
    } catch {
      // The kernel is gone; what is on screen stays.
    }
  };

  // After some silence, ask whether there is more: the last frame of all may have been lost.
  const check = (model) => {
    if (state.end || Date.now() - heard < 4000) return;
    heard = Date.now();
    post(model, { a: "check", n: state.n });
  };

  const resync = (model) => {
    if (Date.now() - asked < 1000) return;
    asked = Date.now();
    post(model, { a: "resync" });
  };

  // What has come stays on screen; nobody is there to stop the reply or to give its source.
  const lose = () => {
    state.lost = true;
    state.end ??= { s: "error", f: "Incomplete", x: LOST };
    schedule();
  };

  const copy = async (text, button) => {
    button.textContent = await toClipboard(text).then(() => "Copied", () => "Not allowed");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  };

  const take = (model, frame) => {
    heard = Date.now();
    if (frame.copy !== undefined) {
      if (frame.p === page) copy(frame.copy, copying); // else it is for another page
      return;
    }
    if (frame.w) {
      greeted = true;
      if (frame.n < state.n) return;
      state = blank();
      asked = 0;
    } else if (frame.n !== state.n + 1) {
      if (frame.n > state.n) resync(model);
      return;
    }
    apply(state, frame);
    if (frame.e && checksum(state.text.join("") + state.think.join("")) !== frame.e.k) {
      if (!frame.w) resync(model);
    }
    schedule();
  };

  return {
    // Messages sent before a view exists must not be missed, so listening starts here.
    initialize({ model }) {
      model.on("msg:custom", (frame) => take(model, frame));
      model.on("comm_live_update", lose);
      // The first message of a page may go to the main shell, and wait there for a busy cell.
      const greet = (pause) => {
        if (greeted || pause > 1000) return;
        post(model, { a: "ready", p: page });
        setTimeout(greet, pause, 2 * pause);
      };
      greet(200);
    },

    render({ model, el }) {
      const closing = new AbortController();
      const send = (action, button) => {
        if (action === "copy") copying = button;
        post(model, action === "copy" ? { a: action, p: page } : { a: action });
      };
      const view = build(el, send, closing.signal);
      views.add(view);
      view.update(state);
      const clock = setInterval(() => {
        if (!state.end) view.tick(state);
        check(model);
      }, 1000);
      return () => {
        closing.abort();
        clearInterval(clock);
        views.delete(view);
      };
    },
  };
};
