// The browser's memory of a conversation, from numbered frames, and what the buttons ask.
//
// A frame holds only what has changed.
//   n  number; a gap means that frames were lost, and the whole is asked for
//   w  1 if it is the whole: forget what was there
//   o  ids of the turns that are shown, in order
//   t  turns: {id: {h: head, e: [[place, card], ...], p: [[place, kind, patches], ...]}}
//      head: {s: state, f: footer, x: error, b: ids of its versions}
//      patches as in stream_view.js; kind 0 is a message's words, 1 its thinking
//      cards have a kind k: user {t: text, i: images, d: files}; answer {i, r: sources, d: files};
//      call {c: name, j: arguments, s: state, z: seconds, x: result, m: characters left out,
//      g: pictures, w: {id, server, d: what it is for} while it waits}; handoff {a, b};
//      other {c: type, j: JSON}
//   a  about: {name, who, usage, running, queued}
//   q  answer to a button: [page, number, what went wrong, result]

class Desk {
  constructor(model) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.views = new Set();
    this.waiting = new Map(); // number of a message -> what to do with its answer
    this.sent = 0;
    this.asked = 0;
    this.problem = "";
    this.forget();
  }

  forget() {
    this.state = { n: 0, order: [], turns: new Map(), about: {} };
  }

  post(action, more = {}) {
    try {
      Promise.resolve(this.model.send({ a: action, p: this.page, ...more })).catch(() => {});
    } catch {
      this.disconnected();
    }
  }

  // The first message of a page may go to the main shell, and wait there for a busy cell.
  greet(pause = 200) {
    if (this.greeted || pause > 60000) return;
    this.post("ready");
    setTimeout(() => this.greet(2 * pause), pause);
  }

  join(view) {
    this.views.add(view);
    if (this.clock) return;
    this.clock = setInterval(() => this.post("here"), 20000);
    if (this.greeted) this.post("here");
  }

  leave(view) {
    this.views.delete(view);
    if (this.views.size) return;
    clearInterval(this.clock);
    this.clock = null;
    this.post("gone");
  }

  act(action, more = {}, failed = () => {}) {
    const mine = (this.sent += 1);
    this.tell("");
    const timer = setTimeout(
      () => this.tell("The kernel has not answered yet; it may be busy. What was asked waits for it."),
      6000,
    );
    return new Promise((resolve) => {
      this.waiting.set(mine, (problem, result) => {
        clearTimeout(timer);
        this.tell(problem);
        if (problem) failed();
        else resolve(result);
      });
      this.post(action, { ...more, k: mine });
    });
  }

  async copy(turn, label) {
    const text = await this.act("copy", { i: turn });
    const word = await toClipboard(text ?? "").then(() => "Copied", () => "Not allowed");
    label.textContent = word;
    setTimeout(() => (label.textContent = "Copy"), 1500);
  }

  async download(file, name) {
    const encoded = await this.act("file", { f: file });
    const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
    const link = document.createElement("a");
    // Saved, never opened: what is in it is a stranger's.
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  tell(problem) {
    this.problem = problem;
    this.show();
  }

  disconnected() {
    this.tell("This panel has lost its kernel. Run the cell again: the conversation is kept.");
  }

  take({ n, w, o, t, a, q }) {
    const { state } = this;
    if (w) {
      this.greeted = true;
      if (n < state.n) return;
      this.forget();
    } else if (n !== undefined && n !== state.n + 1) {
      if (n > state.n) this.resync();
      n = undefined;
    }
    if (n !== undefined) this.apply(n, o, t, a);
    if (q && q[0] === this.page) {
      this.waiting.get(q[1])?.(q[2], q[3]);
      this.waiting.delete(q[1]);
    }
    this.schedule();
  }

  apply(n, order, turns, about) {
    const { state } = this;
    state.n = n;
    state.order = order ?? state.order;
    state.about = about ?? state.about;
    for (const [id, { h, e, p }] of Object.entries(turns ?? {})) {
      let turn = state.turns.get(id);
      if (!turn) state.turns.set(id, (turn = { version: 0, cards: new Map(), areas: new Map() }));
      turn.version += 1;
      turn.head = h ?? turn.head;
      for (const [place, card] of e ?? []) turn.cards.set(place, card);
      for (const [place, kind, patches] of p ?? []) {
        const areas = turn.areas.get(place) ?? [[], []];
        turn.areas.set(place, areas);
        for (const [block, keep, html] of patches) {
          const blocks = areas[kind];
          while (blocks.length <= block) blocks.push("");
          blocks[block] = blocks[block].slice(0, keep) + html;
        }
      }
    }
  }

  resync() {
    if (Date.now() - this.asked < 1000) return;
    this.asked = Date.now();
    this.post("resync");
  }

  // All frames of one screen refresh are shown at once; a hidden page has no refreshes.
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    const show = () => {
      this.scheduled = false;
      this.show();
    };
    if (document.hidden) setTimeout(show, 100);
    else requestAnimationFrame(show);
  }

  show() {
    for (const view of this.views) view.show();
  }
}
