// The cards of the chat panel's turns: questions, answers, calls, handoffs. `view` is the panel's
// view, `turn` the id of the card's turn; what a card shows is listed in chat_panel_desk.js.

const STATES = {
  arriving: "is being asked for",
  waiting: "asks for your consent",
  running: "runs",
  failed: "failed",
  denied: "denied",
  stopped: "stopped",
  allowed: "approved",
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
    // Answered once: the second half of a double click is no answer. What does not fit is mended.
    const answer = (action, t) => {
      for (const each of [allow, deny]) each.disabled = true;
      this.view.rest();
      desk.act(action, { ...about, t }, () => {
        for (const each of [allow, deny]) each.disabled = false;
        (w.server ? allow : edit).focus();
      });
    };
    const allow = button("Approve", "Let this call run", () => answer("allow", changed()), signal);
    allow.classList.add("mnb-chat-main");
    const deny = button("Deny", "Keep this call from running", () => answer("deny", why.value), signal);
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
      this.view.rest();
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
