// The job board: counts by state, jobs with their buttons, and a curve of the pace. Each frame of
// the kernel holds all there is:
//   n  number of the frame            q  name of the queue         y  the kernel's time
//   c  counts by status               z  true once it is settled
//   j  jobs: [id, handler, status, attempts made, attempts, workers lost, error, progress,
//      begun, ended, due]
//   t  jobs completed in each of the last 60 seconds
//   k  answer to a button: [page, number, what went wrong]
// Everything is shown as text; nothing here parses HTML.

const STATES = ["queued", "delayed", "active", "completed", "failed", "uncertain", "cancelled"];
const ANSWER = 4000; // milliseconds without an answer to a button before that is said
const SVG = "http://www.w3.org/2000/svg";
const OPEN = new Set(["queued", "delayed", "active"]);

const lasted = (seconds) => {
  const whole = Math.max(0, seconds);
  if (whole < 0.1) return "< 0.1 s";
  if (whole < 100) return `${whole.toFixed(1)} s`;
  return whole < 5400 ? `${Math.round(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`;
};

class Desk {
  constructor(model) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.frame = null;
    this.views = new Set();
    this.sent = this.answered = 0;
    this.told = "";
    this.gone = false;
    this.offset = 0;
  }

  get over() {
    return !this.frame || this.frame.z;
  }

  get now() {
    return Date.now() / 1000 - this.offset;
  }

  post(action, more = {}) {
    try {
      Promise.resolve(this.model.send({ a: action, p: this.page, ...more })).catch(() => {});
    } catch {
      // The kernel is gone; an answer will be missed.
    }
  }

  greet(pause = 200) {
    if (this.frame || pause > 60000) return;
    this.post("ready");
    setTimeout(() => this.greet(2 * pause), pause);
  }

  act(action, more = {}) {
    const mine = (this.sent += 1);
    this.told = "";
    this.post(action, { k: mine, ...more });
    setTimeout(() => {
      if (this.answered >= mine) return;
      this.told = "The kernel has not answered yet. If it was restarted, run the cell again.";
      this.show();
    }, ANSWER);
  }

  take(frame) {
    if (this.frame && frame.n <= this.frame.n) return;
    this.frame = frame;
    this.gone = false;
    this.offset = Date.now() / 1000 - frame.y;
    const [page, number, problem] = frame.k;
    if (page === this.page && number > this.answered) {
      this.answered = number;
      this.told = problem;
    }
    this.show();
  }

  disconnected() {
    this.gone = true;
    this.show();
  }

  show() {
    for (const view of this.views) view.show();
  }
}

class View {
  constructor(desk, el, signal) {
    this.desk = desk;
    this.signal = signal;
    this.rows = new Map();
    this.build(el);
  }

  build(el) {
    const root = (this.root = make("div", "mnb-panel mnb-board"));
    root.setAttribute("role", "group");
    const top = make("div", "mnb-board-top");
    this.name = make("span", "mnb-board-name");
    this.pace = make("span", "mnb-board-pace");
    this.curve = document.createElementNS(SVG, "svg");
    this.curve.setAttribute("viewBox", "0 0 120 24");
    this.curve.setAttribute("preserveAspectRatio", "none");
    this.curve.setAttribute("role", "img");
    this.line = document.createElementNS(SVG, "polyline");
    this.curve.append(this.line);
    top.append(this.name, this.pace, this.curve);

    this.counts = make("ul", "mnb-board-counts");
    this.count = {};
    for (const state of STATES) {
      const item = make("li", "mnb-board-count");
      item.dataset.state = state;
      item.append(make("i", "mnb-board-dot"), make("b", ""), ` ${state}`);
      this.count[state] = item;
      this.counts.append(item);
    }
    this.alert = make("div", "mnb-board-alert");
    this.alert.setAttribute("role", "alert");

    this.scroll = make("div", "mnb-board-scroll");
    const table = make("table", "mnb-board-jobs");
    const head = make("tr", "");
    for (const title of ["Job", "Handler", "Status", "Attempts", "Time", ""]) {
      const cell = make("th", "", title);
      cell.scope = "col";
      head.append(cell);
    }
    const top_row = make("thead", "");
    top_row.append(head);
    this.body = make("tbody", "");
    table.append(top_row, this.body);
    this.scroll.append(table);
    this.empty = make("p", "mnb-board-empty", "No jobs yet: queue.add(...) adds one.");

    const bar = make("div", "mnb-board-bar");
    this.all = this.button("Replay all failed", () => this.desk.act("replay all"));
    this.settle = this.button("Settle", () => this.desk.act("settle"));
    this.settle.title = "Replace this by a summary that stays in the notebook file";
    bar.append(this.all, this.settle);
    root.append(top, this.counts, this.alert, this.scroll, this.empty, bar);
    el.append(root);
    this.spoken = make("div", "mnb-panel-spoken");
    this.spoken.setAttribute("role", "status");
    root.append(this.spoken);
    keepKeys(root, this.signal, ({ key }) => key === "Escape" && this.rows.forEach((row) => this.calm(row)));
  }

  button(label, action) {
    const node = make("button", "mnb-panel-button", label);
    node.type = "button";
    node.addEventListener("click", action, { signal: this.signal });
    return node;
  }

  show() {
    const { frame, gone, told } = this.desk;
    if (!frame) return;
    const { c, j, q, t, z } = frame;
    const focused = focusedIn(this.root);
    this.root.setAttribute("aria-label", `Queue ${q}`);
    setText(this.name, z ? `Queue ${q}, as it was` : `Queue ${q}`);
    for (const state of STATES) {
      const item = this.count[state];
      setText(item.querySelector("b"), number(c[state]));
      item.hidden = !c[state] && !["queued", "active", "completed", "failed"].includes(state);
      item.dataset.some = String(c[state] > 0);
    }
    this.showPace(t);
    const lost = "This board has lost its kernel. The jobs are kept; run the cell again.";
    const alert = gone && !z ? lost : told;
    this.alert.hidden = !alert;
    setText(this.alert, alert);
    this.scroll.hidden = j.length === 0;
    this.empty.hidden = j.length > 0;
    const ids = new Set(j.map(([id]) => id));
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.node.remove();
        this.rows.delete(id);
      }
    }
    const rows = j.map((job) => this.fill(this.rows.get(job[0]) ?? this.row(job[0]), job));
    this.arrange(rows.map(({ node }) => node));
    this.all.hidden = z || c.failed < 2;
    setText(this.all, `Replay all failed (${number(c.failed)})`);
    this.all.disabled = this.settle.disabled = gone;
    this.settle.hidden = z;
    keepFocus(this.root, focused);
    this.tick();
  }

  // Put rows in order; one with the focus would lose it by a move, so the others move around it.
  arrange(nodes) {
    if (nodes.every((node, place) => node === this.body.children[place])) return;
    const still = nodes.findIndex((node) => node.contains(document.activeElement));
    if (still >= 0) nodes[still].before(...nodes.slice(0, still));
    this.body.append(...nodes.slice(still + 1));
  }

  showPace(counts) {
    const most = Math.max(1, ...counts);
    const points = counts.map((each, at) => `${(at * 120) / (counts.length - 1)},${23 - (22 * each) / most}`);
    this.line.setAttribute("points", points.join(" "));
    const recent = counts.slice(-11, -1).reduce((sum, each) => sum + each, 0) / 10;
    const words = `${recent >= 10 ? Math.round(recent) : recent.toFixed(1)} jobs a second`;
    const any = counts.some((each) => each > 0);
    setText(this.pace, any ? words : "");
    this.curve.style.visibility = any ? "" : "hidden";
    this.curve.setAttribute("aria-label", `Jobs completed in the last minute, now ${words}`);
  }

  row(id) {
    const node = make("tr", "");
    const name = make("td", "mnb-board-id", id);
    name.title = id;
    const cells = ["handler", "status", "attempts", "time"].map((each) => make("td", `mnb-board-${each}`));
    const state = make("span", "");
    const dot = make("i", "mnb-board-dot");
    const more = make("div", "mnb-board-more");
    cells[1].append(dot, state, more);
    const buttons = make("td", "mnb-board-buttons");
    const row = { node, cells, state, more, asks: "", id };
    row.button = this.button("", () => this.press(row));
    row.button.addEventListener("blur", () => this.calm(row), { signal: this.signal });
    buttons.append(row.button);
    node.append(name, ...cells, buttons);
    this.rows.set(id, row);
    return row;
  }

  fill(row, job) {
    const { gone, over } = this.desk;
    const [, handler, status, made, attempts, stalls, error, progress] = job;
    if (row.job?.[2] !== status) row.asks = ""; // it was asked about what is no longer so
    row.job = job;
    row.node.dataset.state = status;
    const [name, , tries] = row.cells;
    setText(name, handler);
    setText(row.state, status);
    setText(row.more, status === "active" ? progress : error);
    row.more.title = row.more.textContent;
    row.more.hidden = !row.more.textContent;
    const lost = stalls ? `, ${stalls} lost` : "";
    setText(tries, `${made} of ${attempts}${lost}`);
    row.action = OPEN.has(status) ? "cancel" : status === "completed" ? "" : "replay";
    const label = row.action === "cancel" ? "Cancel" : status === "failed" ? "Retry" : "Replay";
    setText(row.button, row.asks || label);
    row.button.setAttribute("aria-label", `${row.button.textContent} ${row.id}`);
    row.button.hidden = over || !row.action;
    row.button.disabled = gone;
    return row;
  }

  // A call in doubt may be paid for twice, and a job under way is lost: both ask again, until
  // the focus or the job goes elsewhere.
  press(row) {
    const asks = row.asks ? "" : { uncertain: "Pay again?", active: "Really cancel?" }[row.job[2]];
    if (asks) {
      row.asks = asks;
      row.button.focus({ preventScroll: true }); // in Safari a click does not
      this.fill(row, row.job);
      setText(this.spoken, `${asks} Press again to confirm, Escape to leave it.`);
      return;
    }
    this.calm(row);
    this.desk.act(row.action, { i: row.id });
  }

  calm(row) {
    if (!row.asks) return;
    row.asks = "";
    setText(this.spoken, "");
    this.fill(row, row.job);
  }

  tick() {
    const { now } = this.desk;
    for (const { job, cells } of this.rows.values()) {
      const [, , status, , , , , , begun, ended, due] = job;
      let words = begun && ended ? lasted(ended - begun) : "";
      if (status === "active" && begun) words = lasted(now - begun);
      if (status === "delayed" && due) words = `in ${lasted(due - now)}`;
      setText(cells[3], words);
    }
  }
}

// One call for each model.
export default () => followed(Desk, View);
