// The browser's memory of a run: its state, from numbered frames, and what the buttons ask.
//
// A frame holds the parts of the state that have changed:
//   n  number; a gap means that frames were lost, and the whole is asked for
//   w  1 if it is the whole: forget what was there
//   y  the kernel's time in seconds, as all times here
//   i  [name, model, mode]
//   s  preparing, running, paused, cancelling, done, cancelled, detached or failed
//   m  what is worth saying
//   c  rows: [total, answered, reused, failed, in flight, waiting]
//   r  rows a second, or null
//   l  seconds left, or null
//   b  [when it began to be followed, when it ended or null]
//   a  when the run was made
//   d  [dollars so far or null, dollars in the end or null, tokens]
//   x  kinds of errors: [HTTP status, [[row, error, what it asked, reply], ...]]
//   f  rows with errors of each kind, and of further kinds
//   j  batch jobs: [shard, state, status at the server, done, failed, rows, submitted,
//      changed, 1 if it is stalled, id, message]
//   k  [all batch jobs, ended ones, stalled ones]
//   q  answer to a button: [page, number, what went wrong]; alone, or with the above

const SILENCE = 20; // seconds without any frame before it is said: there is one every 5
const ANSWER = 4000; // milliseconds without an answer to a button before that is said
const OVER = new Set(["done", "cancelled", "detached", "failed"]);

// What all views of one widget share.
class Desk {
  constructor(model) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.state = { n: 0 };
    this.views = new Set();
    this.offset = 0; // of this clock from the kernel's
    this.heard = Date.now();
    this.greeted = false;
    this.gone = false;
    this.sent = this.answered = 0;
    this.told = ""; // what went wrong with a button
    this.asked = 0;
  }

  get over() {
    return OVER.has(this.state.s);
  }

  get now() {
    return Date.now() / 1000 - this.offset;
  }

  get lost() {
    return this.gone && !this.over;
  }

  get problem() {
    if (this.over || !this.state.i) return this.told;
    const way = `Go on in a new cell with mnb.resume(${python(this.state.i[0])}).`;
    if (this.gone) {
      return `This view has lost its kernel. Nothing that was paid for is lost. ${way}`;
    }
    const silent = (Date.now() - this.heard) / 1000;
    if (silent < SILENCE) return this.told;
    return `No word from the kernel for ${about(silent)}. If it was restarted: ${way}`;
  }

  post(action, more = {}) {
    try {
      Promise.resolve(this.model.send({ a: action, p: this.page, ...more })).catch(() => {});
    } catch {
      // The kernel is gone; the silence will be noticed.
    }
  }

  // The first message of a page may go to the main shell, and wait there for a busy cell.
  greet(pause = 200) {
    if (this.greeted || pause > 60000) return;
    this.post("ready");
    setTimeout(() => this.greet(2 * pause), pause);
  }

  act(action) {
    const mine = (this.sent += 1);
    this.told = "";
    this.post(action, { k: mine });
    setTimeout(() => {
      if (this.answered >= mine) return;
      this.told = "The kernel has not answered yet; it may be busy. What was asked waits for it.";
      this.show();
    }, ANSWER);
  }

  disconnected() {
    this.gone = true;
    this.show();
  }

  take({ n, w, y, q, ...news }) {
    this.heard = Date.now();
    if (y !== undefined) this.offset = this.heard / 1000 - y;
    if (q && q[0] === this.page) {
      this.answered = Math.max(this.answered, q[1]);
      this.told = q[2];
    }
    if (w) {
      this.greeted = true;
      this.gone = false;
      if (n >= this.state.n) this.state = { n };
      else return;
    } else if (n !== undefined) {
      if (n <= this.state.n) return;
      if (n !== this.state.n + 1) return this.resync();
      this.state.n = n;
    }
    Object.assign(this.state, news);
    this.show();
  }

  resync() {
    if (Date.now() - this.asked < 1000) return;
    this.asked = Date.now();
    this.post("resync");
  }

  show() {
    for (const view of this.views) view.show();
  }
}
