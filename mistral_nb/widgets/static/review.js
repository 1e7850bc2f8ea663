// The review of labels: shows one row at a time and takes the keys. What the views share, and the
// messages to and from the kernel, are in review_desk.js: with shared.js they are one module.
// Everything is shown as text; nothing here parses HTML.

const FEW = 9; // so many labels have a key each

// A label may be broken where its words meet.
const breakable = (label) => {
  const node = make("bdi", "");
  for (const part of label.split(/(?<=[_/])/)) node.append(part, make("wbr", ""));
  return node;
};

const fold = (text) => text.toLowerCase().replace(/[_\-.,:;/\s]+/g, " ").trim();

// The labels to choose from, in the order in which they are offered.
const offered = (row, labels, words) => {
  const all = labels.map((_, label) => label);
  if (words.length) {
    const rank = (label) => {
      const text = fold(labels[label]);
      if (!words.every((word) => text.includes(word))) return 3;
      if (text.startsWith(words[0])) return 0;
      return ` ${text}`.includes(` ${words[0]}`) ? 1 : 2;
    };
    return all
      .map((label) => [rank(label), label])
      .filter(([rank]) => rank < 3)
      .sort((a, b) => a[0] - b[0] || a[1] - b[1])
      .map(([, label]) => label);
  }
  if (labels.length <= FEW) return all;
  const likely = [row.l, ...row.o.map(([, label]) => label)].filter((label) => label >= 0);
  return [...new Set([...likely, ...all])];
};

class View {
  constructor(desk, el, signal) {
    this.desk = desk;
    this.signal = signal;
    this.shown = null; // position of the row on screen
    this.active = -1; // place of the highlighted label among those offered
    this.offer = [];
    this.options = [];
    this.build(el);
  }

  build(el) {
    const root = (this.root = make("div", "mnb-panel mnb-review"));
    root.tabIndex = 0;
    root.setAttribute("role", "group");

    const top = make("div", "mnb-review-top");
    this.progress = make("span", "mnb-review-progress");
    this.saved = make("span", "mnb-review-saved");
    top.append(this.progress, this.saved);
    this.bar = make("div", "mnb-review-meter");
    this.bar.setAttribute("role", "progressbar");
    this.bar.append(make("div", ""));

    this.sheet = make("div", "mnb-review-sheet");
    this.meta = make("div", "mnb-review-meta");
    this.name = make("span", "mnb-review-name");
    this.reason = make("span", "mnb-review-reason");
    this.meta.append(this.name, this.reason);
    this.detail = make("div", "mnb-review-detail");
    this.text = make("div", "mnb-review-text");
    this.text.dir = "auto";
    this.more = this.button("", "", () => this.whole());
    this.more.className = "mnb-review-more";
    this.context = make("dl", "mnb-review-context");
    this.filter = make("input", "mnb-review-filter");
    this.filter.type = "text";
    this.filter.autocomplete = "off";
    this.filter.spellcheck = false;
    this.scroller = make("div", "mnb-review-scroller");
    this.list = make("div", "mnb-review-labels");
    this.scroller.append(this.list);
    this.list.id = `mnb-review-${Math.random().toString(36).slice(2)}`;
    this.sheet.append(this.meta, this.detail, this.text, this.more, this.context);
    this.sheet.append(this.filter, this.scroller);

    this.end = make("div", "mnb-review-end");
    this.endText = make("p", "");
    this.againButton = this.button("", "", () => this.desk.act("again"));
    this.end.append(this.endText, this.againButton);

    this.alert = make("div", "mnb-review-alert");
    this.alert.setAttribute("role", "alert");

    const bar = make("div", "mnb-review-bar");
    this.accept = this.button("Accept", "Enter", () => this.enter());
    this.accept.classList.add("mnb-review-main");
    this.skip = this.button("Skip", "→", () => this.desk.decide(-1));
    this.back = this.button("Undo", "←", () => this.desk.undo());
    this.note = make("span", "mnb-review-note");
    this.keys = this.button("Keys", "?", () => this.help());
    this.keys.setAttribute("aria-expanded", "false");
    this.finish = this.button("Finish", "", () => this.desk.finish());
    this.finish.title = "Replace this by a summary that stays in the notebook file";
    bar.append(this.accept, this.skip, this.back, this.note, this.keys, this.finish);

    this.helpText = make("dl", "mnb-review-help");
    this.helpText.hidden = true;
    this.spoken = make("div", "mnb-panel-spoken");
    this.spoken.setAttribute("role", "status");
    root.append(top, this.bar, this.sheet, this.end, this.alert, bar, this.helpText, this.spoken);
    el.append(root);

    const { signal } = this;
    keepKeys(root, signal, (event) => this.key(event));
    root.addEventListener("click", (event) => this.focusAfter(event), { signal });
    this.filter.addEventListener("input", () => this.choose(), { signal });
  }

  button(label, key, action) {
    const node = make("button", "mnb-panel-button", label);
    node.type = "button";
    if (key) node.append(make("kbd", "", key));
    node.addEventListener("click", action, { signal: this.signal });
    return node;
  }

  get many() {
    return this.desk.setup?.labels.length > FEW;
  }

  get row() {
    return this.desk.rows[this.desk.queue[0]];
  }

  // What the setup decides: made once, when it comes.
  prepare(setup) {
    this.prepared = setup;
    const { root, filter, list, many } = this;
    root.setAttribute("aria-label", `Review of ${setup.field}`);
    filter.hidden = !many;
    filter.placeholder = `Type to find one of ${setup.labels.length} labels`;
    this.scroller.classList.toggle("mnb-review-many", many);
    list.setAttribute("role", many ? "listbox" : "group");
    list.setAttribute("aria-label", "Labels");
    filter.setAttribute("role", "combobox");
    filter.setAttribute("aria-label", "Find a label");
    filter.setAttribute("aria-expanded", "true");
    filter.setAttribute("aria-autocomplete", "list");
    filter.setAttribute("aria-controls", list.id);
    this.options = setup.labels.map((label, each) => {
      const option = make(many ? "div" : "button", "mnb-review-label");
      if (many) {
        option.setAttribute("role", "option");
        option.id = `${list.id}-${each}`;
      } else {
        option.type = "button";
      }
      option.append(make("kbd", ""), breakable(label), make("span", "mnb-review-tags"));
      option.addEventListener("click", () => this.desk.decide(each), { signal: this.signal });
      return option;
    });
    const lines = many
      ? [
          ["Enter", "choose the highlighted label; at first it is the proposed one"],
          ["letters", "find labels by parts of their words; Esc clears"],
          ["↑ ↓", "highlight another label"],
          ["1 – 9", "choose the label with that number"],
          ["→", "skip the row"],
          ["←", "undo: take the last decision back"],
        ]
      : [
          ["Enter or A", "accept the proposed label"],
          [setup.labels.length > 1 ? `1 – ${setup.labels.length}` : "1", "choose a label"],
          ["→ or S", "skip the row"],
          ["← or U", "undo: take the last decision back"],
        ];
    lines.push(["Page ↑ ↓", "scroll the text"], ["?", "show or hide this help"]);
    this.helpText.replaceChildren(
      ...lines.flatMap(([key, meaning]) => [make("dt", "", key), make("dd", "", meaning)]),
    );
  }

  help() {
    this.helpText.hidden = !this.helpText.hidden;
    this.keys.setAttribute("aria-expanded", String(!this.helpText.hidden));
  }

  whole() {
    this.more.disabled = true;
    this.desk.post("whole", { i: this.desk.queue[0] });
  }

  // Keys

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (this.handle(event)) event.preventDefault();
  }

  handle(event) {
    const { key, target } = event;
    const typing = target === this.filter && this.filter.value !== "";
    const pressed = target.tagName === "BUTTON" && (key === "Enter" || key === " ");
    if (pressed || event.shiftKey && key === "Enter") return false;
    if (key === "?") return this.help(), true;
    if (key === "ArrowLeft" && !typing) return this.desk.undo(), true;
    if (!this.row) {
      if (!this.many && key.toLowerCase() === "u") this.desk.undo();
      return false;
    }
    if (key === "ArrowRight" && !typing) return this.desk.decide(-1), true;
    if (key === "Enter") return this.enter(), true;
    if (/^[1-9]$/.test(key)) return this.pick(Number(key) - 1), true;
    if (key === "PageUp" || key === "PageDown") {
      this.text.scrollBy({ top: (key === "PageUp" ? -0.8 : 0.8) * this.text.clientHeight });
      return true;
    }
    return this.many ? this.handleMany(event) : this.handleFew(key.toLowerCase());
  }

  handleFew(key) {
    if (key === "a") this.enter();
    else if (key === "s") this.desk.decide(-1);
    else if (key === "u") this.desk.undo();
    else return false;
    return true;
  }

  handleMany({ key, target }) {
    if (key === "ArrowDown" || key === "ArrowUp") {
      const step = key === "ArrowDown" ? 1 : -1;
      this.highlight(Math.min(Math.max(this.active + step, 0), this.offer.length - 1));
      return true;
    }
    if (key === "Escape" && this.filter.value) {
      this.filter.value = "";
      this.choose();
      return true;
    }
    // Typing anywhere is typing into the filter: it has the focus before the letter comes.
    if ((key.length === 1 && key !== " ") || key === "Backspace") {
      if (target !== this.filter) this.filter.focus({ preventScroll: true });
    }
    return false;
  }

  enter() {
    if (!this.row) return;
    const choice = this.many ? (this.offer[this.active] ?? -1) : this.row.l;
    if (choice >= 0) this.desk.decide(choice);
    else this.say("There is no label to accept: choose one, or skip the row.");
  }

  pick(place) {
    if (place < this.offer.length) this.desk.decide(this.offer[place]);
  }

  say(words) {
    this.note.textContent = words;
    this.spoken.textContent = words;
  }

  // After a click with the mouse the keys go on working; who tabs through stays where they are.
  focusAfter(event) {
    if (event.detail === 0 || String(getSelection()) || event.target === this.filter) return;
    this.rest();
  }

  rest() {
    (this.many && this.row ? this.filter : this.root).focus({ preventScroll: true });
  }

  // Showing

  show() {
    const { desk } = this;
    if (!desk.setup) return;
    if (this.prepared !== desk.setup) this.prepare(desk.setup);
    const { row } = this;
    const focused = this.root.contains(document.activeElement);
    this.showProgress(desk);
    const ended = !row && !desk.waiting && desk.queue.length === 0;
    this.root.setAttribute("aria-busy", String(!row && !ended));
    this.end.hidden = !ended;
    this.sheet.hidden = this.accept.hidden = this.skip.hidden = ended;
    this.finish.classList.toggle("mnb-review-main", ended);
    this.back.disabled = desk.counts.done === 0;
    this.alert.hidden = !desk.problem;
    if (this.alert.textContent !== desk.problem) this.alert.textContent = desk.problem;
    this.note.textContent = desk.note;
    if (row && (this.shown !== row || this.wholeShown !== row.whole)) this.showRow(row);
    else if (ended) this.showEnd(desk);
    if (focused && document.activeElement?.closest(".mnb-review") !== this.root) this.rest();
    else if (focused && document.activeElement.hidden) this.rest();
  }

  showProgress({ counts, setup, waiting }) {
    const { done, total, corrected, skipped } = counts;
    const parts = [`${number(done)} of ${number(total)}`];
    if (corrected) parts.push(`${number(corrected)} corrected`);
    if (skipped) parts.push(`${number(skipped)} skipped`);
    this.progress.textContent = parts.join(", ");
    this.bar.setAttribute("aria-valuemax", total);
    this.bar.setAttribute("aria-valuenow", done);
    this.bar.setAttribute("aria-label", "Rows reviewed");
    this.bar.firstChild.style.width = `${total ? (100 * done) / total : 100}%`;
    const idle = setup.saved ? (done ? "Saved" : "") : "Not kept on disk";
    this.saved.textContent = waiting ? "Saving…" : idle;
    if (setup.strangers && !done && !waiting) {
      this.saved.textContent = `${number(setup.strangers)} kept decisions are about other rows`;
    }
  }

  showRow(row) {
    const same = this.shown === row;
    this.shown = row;
    this.wholeShown = row.whole;
    this.name.textContent = `Row ${row.k}`;
    this.reason.textContent = row.y;
    this.reason.hidden = !row.y;
    this.reason.dataset.kind = row.l < 0 ? "error" : "";
    this.detail.textContent = row.d;
    this.detail.hidden = !row.d;
    this.text.textContent = row.t || "(empty)";
    this.text.classList.toggle("mnb-review-empty", !row.t);
    if (!same) this.text.scrollTop = 0;
    const cut = row.t.length < row.m;
    this.more.hidden = !cut;
    this.more.disabled = Boolean(row.whole);
    this.more.textContent = row.whole
      ? `Cut: ${number(row.m)} characters are too many to show`
      : `Show all ${number(row.m)} characters`;
    // A long text can be scrolled by keys once it has the focus.
    if (this.text.scrollHeight > this.text.clientHeight) this.text.tabIndex = 0;
    else this.text.removeAttribute("tabindex");
    this.context.hidden = row.c.length === 0;
    this.context.replaceChildren(
      ...row.c.flatMap(([name, value]) => {
        const cell = make("dd", "", value);
        cell.dir = "auto";
        return [make("dt", "", name), cell];
      }),
    );
    if (same) return;
    this.filter.value = "";
    this.choose();
    const label = row.l < 0 ? "no label" : `label ${this.desk.setup.labels[row.l]}`;
    this.spoken.textContent =
      `${this.desk.note ? `${this.desk.note}. ` : ""}Row ${row.k}, ${label}. ` +
      `${row.y ? `${row.y}. ` : ""}${row.t.slice(0, 300)}`;
  }

  showEnd({ counts }) {
    this.shown = null;
    const all = counts.total === 1 ? "The row is reviewed." : `All ${number(counts.total)} rows are reviewed.`;
    this.endText.textContent = counts.total ? all : "There is nothing to review.";
    this.againButton.hidden = counts.skipped === 0;
    this.againButton.textContent = `Go through the skipped (${number(counts.skipped)})`;
    this.spoken.textContent = this.endText.textContent;
  }

  // Offer the labels that fit the row and what is typed.
  choose() {
    const { row, many, list } = this;
    if (!row) return;
    const words = many ? fold(this.filter.value).split(" ").filter(Boolean) : [];
    this.offer = offered(row, this.desk.setup.labels, words);
    this.offer.forEach((label, place) => {
      const option = this.options[label];
      const [key, , tags] = option.children;
      key.textContent = place < 9 ? String(place + 1) : "";
      const who = row.o.filter(([, said]) => said === label).map(([name]) => name);
      if (label === row.l) who.unshift("proposed");
      tags.textContent = who.join(", ");
      option.dataset.proposed = String(label === row.l);
      if (!many) option.setAttribute("aria-keyshortcuts", key.textContent);
    });
    const options = this.offer.map((label) => this.options[label]);
    list.replaceChildren(...options);
    if (!options.length) list.append(make("p", "mnb-review-none", "No label fits."));
    this.scroller.scrollTop = 0;
    this.highlight(many && (words.length || row.l >= 0) ? 0 : -1);
  }

  highlight(place) {
    for (const option of this.list.querySelectorAll("[aria-selected]")) {
      option.removeAttribute("aria-selected");
    }
    this.active = place;
    const { row, many } = this;
    const choice = many ? (this.offer[place] ?? -1) : row.l;
    this.accept.disabled = choice < 0;
    this.accept.firstChild.data = choice === row.l ? "Accept" : "Choose";
    const option = this.options[this.offer[place]];
    if (option) {
      option.setAttribute("aria-selected", "true");
      this.filter.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else {
      this.filter.removeAttribute("aria-activedescendant");
    }
  }
}

// One call for each model: the desk outlives the views.
export default () => {
  let desk = null;
  return {
    // Messages sent before a view exists must not be missed, so listening starts here.
    initialize({ model }) {
      desk = new Desk(model);
      model.on("msg:custom", (message) => desk.take(message));
      desk.ready();
    },

    render({ el }) {
      const closing = new AbortController();
      const view = new View(desk, el, closing.signal);
      desk.views.add(view);
      view.show();
      return () => {
        closing.abort();
        desk.leave(view);
      };
    },
  };
};
