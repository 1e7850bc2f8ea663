// The view of a labelling run: how far it is, what it costs, what failed, and its controls.
// What the views of a page share, and the frames from the kernel, are in run_view_desk.js: with
// shared.js they are one module. Everything is shown as text; nothing here parses HTML.

const KINDS = [
  ["answered", "Answered"],
  ["reused", "Reused"],
  ["failed", "Failed"],
  ["running", "In flight"],
  ["waiting", "Waiting"],
];
const STATUS = {
  preparing: "Preparing the requests",
  running: "Running",
  paused: "Paused",
  cancelling: "Cancelling",
  done: "Done",
  cancelled: "Cancelled",
  detached: "No longer followed here",
  failed: "Cannot go on",
  lost: "Kernel lost",
};
const SHARD = { batch: "batch job", queue: "shard" };
const JOB = {
  written: "to be sent",
  uploading: "uploading",
  uploaded: "uploaded",
  creating: "being created",
  ended: "answers being fetched",
  done: "ended",
};

const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

const money = (dollars) => {
  if (dollars <= 0) return "$0";
  const few = Math.min(12, Math.max(4, 2 - Math.floor(Math.log10(dollars))));
  const places = dollars >= 1 ? 2 : few;
  const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
  return `$${dollars.toLocaleString("en-US", digits)}`;
};

const two = (value) => String(value).padStart(2, "0");

const clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};

// An age or a time left, as exact as it is worth.
const about = (seconds) => {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
};

const speed = (rate) => {
  if (rate >= 0.95) return `${rate >= 10 ? number(Math.round(rate)) : rate.toFixed(1)} rows/s`;
  return `${(60 * rate).toFixed(1)} rows/min`;
};

const python = (text) => `'${text.replace(/[\\']/g, "\\$&")}'`;

class View {
  constructor(desk, el, signal) {
    this.desk = desk;
    this.signal = signal;
    this.asking = false; // whether to cancel
    this.shownFailures = this.shownJobs = "";
    this.build(el);
  }

  build(el) {
    const root = (this.root = make("div", "mnb-panel mnb-run"));
    root.setAttribute("role", "group");
    const top = make("div", "mnb-run-top");
    this.name = make("bdi", "mnb-run-name");
    this.status = make("span", "mnb-run-status");
    this.about = make("span", "mnb-run-about");
    top.append(this.name, this.status, this.about);

    this.bar = make("div", "mnb-run-bar");
    this.bar.setAttribute("role", "progressbar");
    this.bar.setAttribute("aria-valuemin", "0");
    this.legend = make("ul", "mnb-run-legend");
    this.pieces = KINDS.map(([kind, label]) => {
      const piece = make("div", "mnb-run-piece");
      const item = make("li", "mnb-run-kind");
      const value = make("b", "");
      piece.dataset.kind = item.dataset.kind = kind;
      item.append(make("span", "mnb-run-swatch"), `${label} `, value);
      this.bar.append(piece);
      this.legend.append(item);
      return [piece, item, value];
    });

    this.facts = make("dl", "mnb-run-facts");
    this.fact = {};
    for (const [key, label] of [["rate", "Rate"], ["left", "Left"], ["time", "Elapsed"], ["cost", "Cost"]]) {
      const box = make("div", "");
      this.fact[key] = [make("dd", ""), make("dd", "mnb-run-more")];
      box.append(make("dt", "", label), ...this.fact[key]);
      this.facts.append(box);
    }

    this.message = make("p", "mnb-run-message");
    this.alert = make("p", "mnb-run-alert");
    this.alert.setAttribute("role", "alert");
    [this.failures, this.failuresLabel, this.failuresBody] = this.fold();
    [this.jobs, this.jobsLabel, this.jobsBody] = this.fold();

    this.buttons = make("div", "mnb-run-buttons");
    this.pause = this.button("Pause", () => {
      this.desk.act(this.desk.state.s === "paused" ? "go" : "pause");
    });
    this.cancel = this.button("Cancel…", () => this.ask(true));
    this.buttons.append(this.pause, this.cancel);
    this.question = make("div", "mnb-run-question");
    this.question.setAttribute("role", "alertdialog");
    this.question.setAttribute("aria-label", "Cancel the run?");
    this.questionText = make("p", "");
    this.questionText.id = `mnb-run-${Math.random().toString(36).slice(2)}`;
    this.question.setAttribute("aria-describedby", this.questionText.id);
    this.keep = this.button("Keep it going", () => this.ask(false));
    const sure = this.button("Cancel the run", () => {
      this.ask(false);
      this.desk.act("cancel");
    });
    sure.classList.add("mnb-run-danger");
    this.question.append(this.questionText, this.keep, sure);
    this.spoken = make("div", "mnb-panel-spoken");
    this.spoken.setAttribute("role", "status");
    root.append(top, this.bar, this.legend, this.facts, this.message, this.alert);
    root.append(this.failures, this.jobs, this.buttons, this.question, this.spoken);
    el.append(root);

    keepKeys(root, this.signal, ({ key }) => key === "Escape" && this.ask(false));
  }

  button(label, action) {
    const node = make("button", "mnb-panel-button", label);
    node.type = "button";
    node.addEventListener("click", action, { signal: this.signal });
    return node;
  }

  fold() {
    const [node, label] = [make("details", "mnb-run-fold"), make("summary", "")];
    const body = make("div", "mnb-run-scroll");
    node.append(label, body);
    return [node, label, body];
  }

  ask(asking) {
    if (this.asking === asking) return;
    this.asking = asking;
    this.show();
    const target = asking ? this.keep : this.cancel.hidden ? this.root : this.cancel;
    target.focus({ preventScroll: true });
  }

  show() {
    const { state, over, lost } = this.desk;
    if (!state.c) return;
    const [name, model, mode] = state.i;
    const status = lost ? "lost" : state.s;
    this.root.dataset.state = status;
    this.root.setAttribute("aria-label", `Run ${name}`);
    this.root.setAttribute("aria-busy", String(!over && !lost));
    setText(this.name, name);
    setText(this.status, STATUS[status] ?? status);
    setText(this.about, [model, mode && `${mode} mode`].filter(Boolean).join(" · "));
    this.showBar(state.c);
    this.showFacts();
    this.message.hidden = !state.m;
    setText(this.message, state.m);
    this.showFailures(state.x ?? [], state.f ?? [0]);
    this.showJobs(state.j ?? [], state.k ?? [0, 0, 0]);
    this.showButtons(mode);
    this.tick();
  }

  showBar([total, ...values]) {
    const ended = values[0] + values[1] + values[2];
    const share = total ? Math.floor((100 * ended) / total) : 0;
    this.bar.setAttribute("aria-label", "Rows that have ended");
    this.bar.setAttribute("aria-valuemax", total);
    this.bar.setAttribute("aria-valuenow", ended);
    const failed = values[2] ? `, ${number(values[2])} failed` : "";
    const words = `${number(ended)} of ${count(total, "row")}, ${share} %${failed}`;
    this.bar.setAttribute("aria-valuetext", words);
    this.bar.title = words;
    this.pieces.forEach(([piece, item, value], place) => {
      piece.style.width = `${total ? (100 * values[place]) / total : 0}%`;
      // One row in a million is still seen.
      piece.hidden = values[place] === 0;
      item.hidden = values[place] === 0 && place > 0;
      setText(value, number(values[place]));
    });
  }

  showFacts() {
    const { state, over } = this.desk;
    const put = (key, value, more = "") => {
      setText(this.fact[key][0], value);
      setText(this.fact[key][1], more);
    };
    const idle = over || state.s !== "running";
    put("rate", state.r == null ? (idle ? "–" : "measuring…") : speed(state.r));
    put("left", state.l == null ? "–" : `about ${about(state.l)}`);
    const [paid, projected, tokens] = state.d ?? [0, null, 0];
    const words = `${number(tokens)} tokens`;
    if (state.d && paid === null) put("cost", "unknown", `no price or no token counts; ${words}`);
    else if (!over && !tokens) put("cost", "–", state.i[2] === "online" ? "" : `told when a ${SHARD[state.i[2]]} ends`);
    else if (over || projected === null) put("cost", money(paid), words);
    else put("cost", money(paid), `so far; about ${money(projected)} in all`);
    this.fact.cost[0].parentNode.title = words;
  }

  showFailures(kinds, counts) {
    const known = JSON.stringify([kinds, counts]);
    if (known === this.shownFailures || counts.length !== kinds.length + 1) return;
    this.shownFailures = known;
    const rows = counts.reduce((sum, each) => sum + each, 0);
    const others = counts.at(-1);
    this.failures.hidden = rows === 0;
    setText(this.failuresLabel, `Errors: ${count(rows, "row")}, ${count(kinds.length, "kind")}`);
    this.failuresBody.replaceChildren(
      ...kinds.map(([status, examples], kind) => {
        const box = make("div", "mnb-run-failure");
        const head = make("p", "");
        head.append(make("b", "", count(counts[kind], "row")), status ? ` · HTTP ${status}` : "");
        box.append(head);
        const list = make("dl", "mnb-run-examples");
        const first = make("p", "mnb-run-error", examples[0]?.[1]);
        first.dir = "auto";
        box.append(first, list);
        const add = (term, value) => {
          const cell = make("dd", "", value);
          cell.dir = "auto";
          list.append(make("dt", "", term), cell);
        };
        for (const [row, error, asked, reply] of examples) {
          add(`Row ${row}`, asked || "(never sent)");
          if (error !== examples[0][1]) add("error", error);
          if (reply) add("replied", reply);
        }
        return box;
      }),
      ...(others ? [make("p", "", `${count(others, "row")} with other errors. All: run.errors`)] : []),
    );
  }

  showJobs(jobs, [all, ended, stalled]) {
    const known = JSON.stringify([jobs, all, ended, stalled]);
    if (known === this.shownJobs) return;
    this.shownJobs = known;
    this.jobs.hidden = all === 0;
    this.jobs.dataset.stalled = String(stalled > 0);
    const slow = stalled ? `, ${number(stalled)} stalled` : "";
    const what = SHARD[this.desk.state.i[2]] ?? SHARD.batch;
    setText(this.jobsLabel, `${what[0].toUpperCase()}${what.slice(1)}s: ${number(ended)} of ${number(all)} ended${slow}`);
    if (stalled) this.jobs.open = true;
    const table = make("table", "mnb-run-jobs");
    const head = make("tr", "");
    head.append(...["Shard", "State", "Done", "Failed", "Rows", "Age"].map((each) => make("th", "", each)));
    const body = make("tbody", "");
    for (const [id, state, status, done, failed, rows, submitted, changed, slow, job, why] of jobs) {
      const line = make("tr", slow ? "mnb-run-stalled" : "");
      const words = state === "submitted" || state === "done" ? status.toLowerCase().replaceAll("_", " ") : "";
      const cells = [id, words || (JOB[state] ?? state), number(done), number(failed), number(rows), ""];
      line.append(...cells.map((cell) => make("td", "", String(cell))));
      if (slow) line.children[1].append(make("span", "mnb-run-tag", "stalled"));
      line.title = [job, why].filter(Boolean).join(": ");
      const age = line.lastChild;
      if (submitted) {
        age.dataset.from = submitted;
        if (state === "done") age.dataset.to = changed;
        if (slow) age.dataset.still = changed;
      }
      body.append(line);
    }
    const thead = make("thead", "");
    thead.append(head);
    table.append(thead, body);
    const hidden = all - jobs.length;
    this.jobsBody.replaceChildren(table, ...(hidden > 0 ? [make("p", "", `and ${number(hidden)} more`)] : []));
  }

  showButtons(mode) {
    const { state, over } = this.desk;
    const focused = focusedIn(this.root);
    const ending = over || state.s === "cancelling";
    if (ending) this.asking = false;
    const paused = state.s === "paused";
    setText(this.pause, paused ? "Resume" : "Pause");
    this.pause.title = {
      batch: "Create no further batch job; those at the server go on",
      online: "Send no further request; those under way end",
      queue: "Send nothing more to the queue; workers end what is there",
    }[mode];
    if (paused) this.pause.title = "Go on sending";
    this.pause.hidden = this.cancel.hidden = ending;
    this.buttons.hidden = ending || this.asking;
    this.question.hidden = !this.asking;
    const jobs = (state.j ?? []).filter(([, step]) => step === "submitted").length;
    const what = {
      batch: `Cancel the run${jobs ? " and its batch jobs at the server" : ""}?`,
      online: "Cancel the run? Nothing more is sent.",
      queue: "Cancel the run? Workers end what they have begun, and begin no more of it.",
    }[mode];
    const aside =
      mode === "online"
        ? " What was answered is kept and billed. To go on later, pause it or close the notebook."
        : " What was answered is kept and billed. To leave the jobs running, just close the notebook.";
    setText(this.questionText, what + aside);
    keepFocus(this.root, focused);
    const failed = state.c[3] ? `, ${count(state.c[3], "row")} failed` : "";
    if (this.said !== state.s) {
      this.said = state.s;
      setText(this.spoken, `Run ${state.i[0]}: ${STATUS[state.s] ?? state.s}${failed}`);
    }
  }

  // What changes with the time alone.
  tick() {
    const { state, now, lost, problem } = this.desk;
    if (!state.b) return;
    this.alert.hidden = !problem;
    setText(this.alert, problem);
    this.pause.disabled = this.cancel.disabled = lost;
    if (lost) return;
    const [begun, ended] = state.b;
    setText(this.fact.time[0], clock((ended ?? now) - begun));
    const older = state.a && begun - state.a > 60;
    setText(this.fact.time[1], older ? `begun ${about(now - state.a)} ago` : "");
    for (const age of this.jobsBody.querySelectorAll("[data-from]")) {
      const { from, to, still } = age.dataset;
      const since = still ? `, still for ${about(now - still)}` : "";
      setText(age, about((to ?? now) - from) + since);
    }
  }
}

// One call for each model.
export default () => followed(Desk, View);
