// The browser's memory of a review: the rows at hand, and the actions on their way.
//
// A message of the kernel holds:
//   v, n  the page, and the number of its action, that this answers
//   s     at first: {field, labels, saved, strangers}
//   q     positions of the next rows, the current one first
//   r     rows by position that this page may not know yet: {k: name, t: text, m: length of the
//         whole text, l: number of the label or -1, o: [[who, label], ...], y: why it comes
//         early, d: why it has no label, c: [[column, value], ...]}
//   c     counts: {total, done, accepted, corrected, skipped}
//   f     a whole text: [position, text, length]
//   x     what went wrong

const SILENCE = 4000; // milliseconds without an answer before it is said

const blank = () => ({ total: 0, done: 0, accepted: 0, corrected: 0, skipped: 0 });

// What all views of one widget share: the rows at hand, and the actions on their way.
class Desk {
  constructor(model) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.sent = 0; // number of the last action
    this.answered = 0; // number of the last one the kernel answered
    this.setup = null;
    this.queue = [];
    this.rows = {};
    this.counts = blank();
    this.problem = "";
    this.note = "";
    this.views = new Set();
  }

  post(action, more = {}) {
    try {
      Promise.resolve(this.model.send({ a: action, v: this.page, ...more })).catch(() => {});
    } catch {
      // The kernel is gone; the silence will be noticed.
    }
  }

  // Number an action, so that an answer to an earlier one does not undo it on screen.
  act(action, more = {}) {
    this.sent += 1;
    this.problem = "";
    const mine = this.sent;
    this.post(action, { n: mine, ...more });
    setTimeout(() => {
      if (this.answered >= mine) return;
      this.problem =
        "The kernel does not answer, so the latest decisions are not saved yet. If it is busy, " +
        "they will be; if it was restarted, run the cell again: it goes on from what was saved.";
      this.show();
    }, SILENCE);
  }

  // Go on to the next row at once; the kernel's answer will say the same.
  decide(choice) {
    const place = this.queue[0];
    const row = this.rows[place];
    if (!row) return;
    const kind = choice < 0 ? "skipped" : choice === row.l ? "accepted" : "corrected";
    this.queue.shift();
    this.counts.done += 1;
    this.counts[kind] += 1;
    const label = choice < 0 ? "" : this.setup.labels[choice];
    this.note = { skipped: "Skipped", accepted: "Accepted: ", corrected: "Corrected: " }[kind] + label;
    this.act(choice < 0 ? "skip" : "label", { i: place, c: choice });
    this.show();
  }

  undo() {
    if (this.counts.done === 0) return;
    this.note = "Taken back";
    this.act("undo");
    this.show();
  }

  finish() {
    this.act("finish");
    setTimeout(() => {
      this.note = "All is saved. To leave a summary here, run the cell again and finish there.";
      this.show();
    }, 2000);
  }

  // The kernel may let go of the widget when its last view is gone.
  leave(view) {
    this.views.delete(view);
    if (this.views.size === 0) this.post("gone");
  }

  get waiting() {
    return this.answered < this.sent;
  }

  take(message) {
    this.setup = message.s ?? this.setup;
    Object.assign(this.rows, message.r);
    if (message.f) {
      const [place, text, length] = message.f;
      if (this.rows[place]) Object.assign(this.rows[place], { t: text, m: length, whole: true });
    }
    if (message.v === this.page && message.n) this.answered = message.n;
    if (!this.waiting) {
      this.queue = message.q;
      this.counts = message.c;
      this.problem = message.x ?? "";
      if (this.problem) this.note = "";
      for (const place in this.rows) {
        if (!message.q.includes(Number(place))) delete this.rows[place];
      }
      // Something was lost on the way.
      if (this.setup === null || message.q.some((place) => !this.rows[place])) this.ready();
    }
    this.show();
  }

  ready() {
    if (Date.now() - (this.asked ?? 0) < 1000) return;
    this.asked = Date.now();
    this.post("ready");
    // A message may be lost while a page is loading.
    setTimeout(() => !this.setup && this.views.size && this.ready(), 2000);
  }

  show() {
    for (const view of this.views) view.show();
  }
}
