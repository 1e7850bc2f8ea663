// The chat panel: a transcript that grows, and a box to write in. What its views share, and the
// messages to and from the kernel, are in chat_panel_desk.js.
//
// The HTML in patches comes from the kernel's sanitiser; everything else is shown as text.

const STATES = {
  arriving: "is being asked for",
  waiting: "asks for your consent",
  running: "runs",
  failed: "failed",
  denied: "denied",
  stopped: "stopped",
};
const isPicture = (url) => /^data:image\/(png|jpeg|gif|webp);/i.test(url);
const isWeb = (text) => /^https?:\/\/[^\s/?#]/i.test(text);
const button = (label, title, action, signal) => {
  const node = make("button", "mnb-panel-button", label);
  node.type = "button";
  node.title = title;
  node.addEventListener("click", action, { signal });
  return node;
};

const linkTo = (url, text) => {
  if (!isWeb(url)) return document.createTextNode(text);
  const link = make("a", "", text);
  Object.assign(link, { href: url, target: "_blank", rel: "noopener noreferrer nofollow" });
  return link;
};

const picture = (url, alt) => {
  if (!isPicture(url)) return isWeb(url) ? linkTo(url, alt || url) : make("small", "", alt);
  const image = make("img", "mnb-chat-image");
  Object.assign(image, { src: url, alt });
  return image;
};

const chip = (text, action, signal) =>
  action
    ? button(text, "Download", action, signal)
    : make("span", "mnb-chat-chip", text);

// A message of the answer: thinking, words, pictures, sources and files.
class Answer {
  constructor(view, turn) {
    this.view = view;
    this.turn = turn;
    this.node = make("div", "mnb");
    this.think = make("details", "mnb-think");
    this.think.append(make("summary", "", "Thinking"));
    this.thoughts = this.think.appendChild(make("div", "mnb-body jp-RenderedHTMLCommon"));
    this.body = make("div", "mnb-body jp-RenderedHTMLCommon");
    this.more = make("div", "mnb-chat-more");
    this.node.append(this.think, this.body, this.more);
    this.text = new Blocks(this.body, () => {});
    this.thought = new Blocks(this.thoughts, () => {});
    this.node.addEventListener("click", (event) => this.showImage(event), { signal: view.signal });
  }

  // A picture from elsewhere loads only when it is asked for.
  showImage(event) {
    const link = event.target.closest("a.mnb-image");
    if (!link || link.querySelector("img")) return;
    const image = make("img", "mnb-loaded");
    Object.assign(image, { referrerPolicy: "no-referrer", alt: link.textContent, src: link.href });
    link.replaceChildren(image);
    event.preventDefault();
  }

  show(card, [words = [], thinking = []]) {
    this.think.hidden = !thinking.length;
    this.thought.show(thinking);
    this.text.show(words);
    const key = JSON.stringify([card.i, card.r, card.d]);
    if (key === this.shown) return;
    this.shown = key;
    const parts = card.i.map((url) => picture(url, ""));
    if (card.r.length) {
      const list = make("ol", "mnb-refs");
      for (const [title, url] of card.r) {
        const item = make("li", "");
        item.append(linkTo(url, title));
        list.append(item);
      }
      parts.push(list);
    }
    const { desk, signal } = this.view;
    for (const [id, name] of card.d) parts.push(chip(name, () => desk.download(id, name), signal));
    this.more.replaceChildren(...parts);
  }
}

// A call of a tool; while it waits for consent, with its arguments to edit and two buttons.
class Call {
  constructor(view, turn) {
    this.view = view;
    this.turn = turn;
    this.node = make("div", "mnb-call mnb-chat-call");
    const head = make("div", "mnb-call-name");
    this.name = make("span", "");
    this.state = make("span", "mnb-chat-state");
    head.append(this.name, this.state);
    this.args = make("pre", "mnb-call-args");
    this.form = make("div", "mnb-chat-consent");
    this.result = make("details", "mnb-chat-result");
    this.result.append(make("summary", "", "Result"));
    this.output = this.result.appendChild(make("pre", "mnb-call-args"));
    this.media = make("div", "");
    this.node.append(head, this.args, this.form, this.result, this.media);
  }

  show(card) {
    setText(this.name, card.c);
    this.node.dataset.state = card.s;
    const done = card.z ? `done in ${card.z} s` : "done";
    setText(this.state, card.s === "done" ? done : STATES[card.s] ?? card.s);
    const asks = Boolean(card.w);
    if (asks && !this.asking) this.ask(card);
    else if (!asks && this.asking) this.form.replaceChildren();
    this.asking = asks;
    this.args.hidden = !card.j || (asks && !card.w.server);
    setText(this.args, card.j);
    this.result.hidden = !card.x;
    const rest = card.m ? `\n… ${number(card.m)} more characters` : "";
    setText(this.output, card.x + rest);
    const key = JSON.stringify(card.g);
    if (key !== this.shown) this.media.replaceChildren(...card.g.map(([url, alt]) => picture(url, alt)));
    this.shown = key;
  }

  ask({ w, j }) {
    const { desk, signal } = this.view;
    const about = { i: this.turn, c: w.id };
    const parts = [];
    if (w.d) parts.push(make("p", "", w.d));
    const edit = make("textarea", "mnb-chat-edit");
    edit.value = j;
    edit.rows = Math.min(10, j.split("\n").length);
    edit.setAttribute("aria-label", "Arguments");
    if (!w.server) parts.push(edit);
    const why = make("input", "mnb-chat-why");
    why.type = "text";
    why.placeholder = "Reason, told to the model (optional)";
    why.setAttribute("aria-label", "Reason for denying");
    const row = make("div", "mnb-chat-row");
    const changed = () => (w.server || edit.value === j ? "" : edit.value);
    const allow = button("Approve", "Let this call run", () => desk.act("allow", { ...about, t: changed() }), signal);
    allow.classList.add("mnb-chat-main");
    const deny = button("Deny", "Keep this call from running", () => desk.act("deny", { ...about, t: why.value }), signal);
    row.append(allow, deny, why);
    this.form.replaceChildren(...parts, row);
  }
}

class Note {
  constructor() {
    this.node = make("div", "");
  }

  show(card) {
    if (card.k === "handoff") {
      this.node.className = "mnb-chat-handoff";
      setText(this.node, `${card.a} hands over to ${card.b}`);
    } else {
      this.node.className = "mnb-call";
      const name = make("div", "mnb-call-name", card.c);
      this.node.replaceChildren(name, make("pre", "mnb-call-args", card.j));
    }
  }
}

// What a person asked; it can be asked differently.
class Question {
  constructor(view, turn) {
    this.view = view;
    this.turn = turn;
    this.node = make("div", "mnb-chat-question");
    this.text = make("div", "mnb-chat-words");
    this.text.dir = "auto";
    this.more = make("div", "mnb-chat-more");
    this.node.append(this.text, this.more);
  }

  show(card) {
    setText(this.text, card.t);
    const images = card.i.map((url) => picture(url, ""));
    this.more.replaceChildren(...images, ...card.d.map((name) => chip(name)));
  }

  edit() {
    const { desk, signal } = this.view;
    const box = make("textarea", "mnb-chat-edit");
    box.value = this.text.textContent;
    box.rows = Math.min(12, box.value.split("\n").length + 1);
    box.setAttribute("aria-label", "Ask this instead");
    const close = () => {
      form.remove();
      this.text.hidden = false;
    };
    const send = () => {
      if (!box.value.trim()) return;
      desk.act("edit", { i: this.turn, t: box.value });
      close();
    };
    const row = make("div", "mnb-chat-row");
    const main = button("Send", "Ask this instead, on a branch of its own (Enter)", send, signal);
    main.classList.add("mnb-chat-main");
    row.append(main, button("Cancel", "Leave it as it is (Esc)", close, signal));
    const form = make("div", "");
    form.append(box, row);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else return;
      event.preventDefault();
    }, { signal });
    this.text.hidden = true;
    this.node.append(form);
    box.focus();
  }
}

const KINDS = { user: Question, answer: Answer, call: Call, handoff: Note, other: Note };

// One turn: its cards, and a line below with what can be done.
class TurnView {
  constructor(view, id) {
    this.view = view;
    this.id = id;
    this.version = -1;
    this.parts = new Map();
    this.node = make("section", "mnb-chat-turn");
    this.cards = make("div", "");
    this.error = make("div", "mnb-error");
    const foot = make("div", "mnb-chat-foot");
    const { desk, signal } = view;
    this.status = make("span", "mnb-chat-status");
    this.before = button("‹", "The version before", () => this.step(-1), signal);
    this.place = make("span", "");
    this.after = button("›", "The next version", () => this.step(1), signal);
    this.editing = button("Edit", "Ask something else here", () => this.parts.get(0)?.edit(), signal);
    this.again = button("Regenerate", "Ask the same again", () => desk.act("again", { i: id }), signal);
    this.copy = button("Copy", "Copy the answer's Markdown", () => desk.copy(id, this.copy), signal);
    foot.append(this.status, this.before, this.place, this.after, this.editing, this.again, this.copy);
    this.node.append(this.cards, this.error, foot);
  }

  step(by) {
    const { b } = this.state.head;
    const next = b[b.indexOf(this.id) + by];
    if (next) this.view.desk.act("switch", { i: next });
  }

  show(state, busy) {
    this.state = state;
    const { head } = state;
    const live = head.s === "queued" || head.s === "running";
    for (const [place, card] of state.cards) {
      let part = this.parts.get(place);
      if (!part || part.kind !== card.k) {
        const fresh = new KINDS[card.k](this.view, this.id);
        fresh.kind = card.k;
        if (part) part.node.replaceWith(fresh.node);
        else this.cards.append(fresh.node);
        this.parts.set(place, (part = fresh));
      }
      const areas = state.areas.get(place) ?? [];
      part.show(card, areas);
    }
    this.node.dataset.state = head.s;
    this.node.setAttribute("aria-busy", String(live));
    this.error.hidden = !head.x;
    setText(this.error, head.x);
    const waits = head.s === "queued" ? "Waits for the turn before it" : "";
    setText(this.status, live ? waits : head.f);
    const many = head.b.length > 1;
    for (const node of [this.before, this.place, this.after]) node.hidden = !many;
    const at = head.b.indexOf(this.id);
    setText(this.place, `${at + 1}/${head.b.length}`);
    this.before.disabled = busy || at <= 0;
    this.after.disabled = busy || at === head.b.length - 1;
    for (const node of [this.editing, this.again, this.copy]) node.hidden = live;
  }
}

class View {
  constructor(desk, el, signal) {
    this.desk = desk;
    this.signal = signal;
    this.turns = new Map();
    this.files = [];
    this.build(el);
    this.hideTranscript(el);
  }

  build(el) {
    const { desk, signal } = this;
    const root = (this.root = make("div", "mnb-panel mnb-chat"));
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Chat");
    const top = make("div", "mnb-chat-top");
    this.name = make("strong", "");
    this.who = make("span", "mnb-chat-quiet");
    this.usage = make("span", "mnb-chat-quiet mnb-chat-usage");
    this.clear = button("Clear", "Begin anew; this branch is kept", () => desk.act("clear"), signal);
    top.append(this.name, this.who, this.usage, this.clear);

    this.log = make("div", "mnb-chat-log");
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-live", "polite");
    this.log.tabIndex = 0;
    this.log.setAttribute("aria-label", "Transcript");
    this.empty = make("p", "mnb-chat-quiet", "Nothing has been said yet.");

    this.alert = make("div", "mnb-chat-alert");
    this.alert.setAttribute("role", "alert");
    this.chips = make("div", "mnb-chat-row");
    const row = make("div", "mnb-chat-row mnb-chat-write");
    this.box = make("textarea", "mnb-chat-box");
    this.box.rows = 1;
    this.box.placeholder = "Write a message";
    this.box.setAttribute("aria-label", "Message");
    this.picker = make("input", "");
    Object.assign(this.picker, { type: "file", multiple: true, hidden: true });
    this.attach = button("Attach", "Add pictures or files", () => this.picker.click(), signal);
    this.send = button("Send", "Send (Enter; Shift+Enter for a new line)", () => this.submit(), signal);
    this.send.classList.add("mnb-chat-main");
    this.stop = button("Stop", "Stop the turn that goes on (Esc)", () => desk.act("stop"), signal);
    row.append(this.box, this.picker, this.attach, this.send, this.stop);
    root.append(top, this.log, this.alert, this.chips, row);
    el.append(root);

    const on = (node, type, action) => node.addEventListener(type, action, { signal });
    keepKeys(root, signal, (event) => this.key(event));
    on(this.box, "input", () => this.fit());
    on(this.box, "paste", (event) => this.add(event.clipboardData?.files ?? []));
    on(this.picker, "change", () => {
      this.add(this.picker.files);
      this.picker.value = "";
    });
    on(root, "dragover", (event) => event.preventDefault());
    on(root, "drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.add(event.dataTransfer?.files ?? []);
    });
  }

  // The transcript stands in the output above, for who opens the file without a kernel.
  hideTranscript(el) {
    const before = el.closest(".jp-OutputArea-child")?.previousElementSibling;
    if (!before?.querySelector(".mnb-transcript")) return;
    before.hidden = true;
    before.style.display = "none";
    this.signal.addEventListener("abort", () => {
      before.hidden = false;
      before.style.display = "";
    });
  }

  key(event) {
    if (event.key === "Escape" && !this.stop.hidden && !event.defaultPrevented) {
      this.desk.act("stop");
      event.preventDefault();
    }
    if (event.target !== this.box || event.key !== "Enter") return;
    if (event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  fit() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight + 2, 240)}px`;
  }

  async add(files) {
    for (const file of files) {
      if (file.size > 20e6) {
        this.desk.tell(`${file.name} is larger than 20 MB.`);
        continue;
      }
      const url = await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.readAsDataURL(file);
      });
      this.files.push([file.name, url.slice(url.indexOf(",") + 1)]);
    }
    this.showFiles();
  }

  showFiles() {
    this.chips.hidden = !this.files.length;
    const remove = (at) => {
      this.files.splice(at, 1);
      this.showFiles();
    };
    this.chips.replaceChildren(
      ...this.files.map(([name], at) => button(`${name} ×`, "Take it away", () => remove(at), this.signal)),
    );
  }

  submit() {
    const { value } = this.box;
    const { files } = this;
    if (!value.trim() && !files.length) return;
    this.box.value = "";
    this.files = [];
    this.showFiles();
    this.fit();
    this.bottom = true;
    // What could not be sent comes back, unless something else was begun.
    this.desk.act("send", { t: value, f: files }, () => {
      if (this.box.value || this.files.length) return;
      this.box.value = value;
      this.files = files;
      this.showFiles();
      this.fit();
    });
  }

  show() {
    const { about, order, turns } = this.desk.state;
    const { log } = this;
    const atEnd = this.bottom || log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    this.bottom = false;
    const running = Boolean(about.running || about.queued);
    setText(this.name, about.name ?? "");
    setText(this.who, about.who ?? "");
    setText(this.usage, about.usage ?? "");
    this.clear.hidden = !order.length;
    this.clear.disabled = running;
    this.stop.hidden = !running;
    setText(this.send, running ? "Queue" : "Send");
    for (const [id, view] of this.turns) {
      if (order.includes(id)) continue;
      view.node.remove();
      this.turns.delete(id);
    }
    let last = null;
    for (const id of order) {
      const state = turns.get(id);
      if (!state?.head) continue;
      let view = this.turns.get(id);
      if (!view) this.turns.set(id, (view = new TurnView(this, id)));
      if (view.version !== state.version || view.busy !== running) {
        view.show(state, running);
        view.version = state.version;
        view.busy = running;
      }
      const place = last ? last.nextSibling : log.firstChild;
      if (place !== view.node) log.insertBefore(view.node, place);
      last = view.node;
    }
    if (!order.length) log.replaceChildren(this.empty);
    else this.empty.remove();
    setText(this.alert, this.desk.problem);
    this.alert.hidden = !this.desk.problem;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
}

export default () => {
  let desk = null;
  return {
    // Messages sent before a view exists must not be missed, so listening starts here.
    initialize({ model }) {
      desk = new Desk(model);
      model.on("msg:custom", (frame) => desk.take(frame));
      model.on("comm_live_update", () => model.comm_live || desk.disconnected());
      desk.greet();
    },

    render({ el }) {
      const closing = new AbortController();
      const view = new View(desk, el, closing.signal);
      desk.join(view);
      view.showFiles();
      view.show();
      return () => {
        closing.abort();
        desk.leave(view);
      };
    },
  };
};
