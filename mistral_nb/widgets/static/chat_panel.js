// The chat panel: a transcript that grows, and a box to write in. What its views share, and the
// messages to and from the kernel, are in chat_panel_desk.js; the cards in chat_panel_cards.js.
//
// The HTML in patches comes from the kernel's sanitiser; everything else is shown as text.

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
    this.adding = Promise.resolve();
    this.build(el);
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
    this.stop = button("Stop", "Stop the turn that goes on (Esc)", () => this.end(), signal);
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

  key(event) {
    if (event.key === "Escape" && !this.stop.hidden && !event.defaultPrevented) {
      this.end();
      event.preventDefault();
    }
    if (event.target !== this.box || event.key !== "Enter") return;
    if (event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  // What had been written and waited for its turn comes back.
  end() {
    this.rest();
    this.desk.act("stop").then((words) => {
      this.box.value = [words, this.box.value].filter(Boolean).join("\n\n");
      this.fit();
    });
  }

  // Keep the focus in the panel when the button or the form that had it goes away.
  rest() {
    this.box.focus({ preventScroll: true });
  }

  // Where the style sheet cannot fit the box to its text.
  fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight + 2, 240)}px`;
  }

  // The list is copied at once: a picker's is empty as soon as its value is.
  add(files) {
    const chosen = [...files];
    this.adding = this.adding.then(() => this.read(chosen));
  }

  async read(files) {
    for (const file of files) {
      if (file.size > 20e6) {
        this.desk.tell(`${file.name} is larger than 20 MB.`);
        continue;
      }
      const url = await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onloadend = () => resolve(reader.result);
        reader.readAsDataURL(file);
      });
      if (url === null) this.desk.tell(`${file.name} cannot be read: is it a folder?`);
      else this.files.push([file.name, url.slice(url.indexOf(",") + 1)]);
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

  async submit() {
    await this.adding;
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
