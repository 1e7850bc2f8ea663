// The live view's page: shows blocks of HTML with few changes, and keeps their end in sight.

const template = document.createElement("template"); // inert: runs and loads nothing

// Make `old` like `fresh` and touch as little as possible: a selection, an opened image and
// the sideways scroll of a code block stay as the reader left them.
const morph = (old, fresh) => {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (fresh.data.startsWith(old.data)) {
      if (fresh.length > old.length) old.appendData(fresh.data.slice(old.length));
    } else {
      old.data = fresh.data;
    }
  } else {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (!old.querySelector(":scope > img.mnb-loaded")) morphAll(old, old.firstChild, fresh);
  }
};

// The same for the children of `parent` from `start` on.
const morphAll = (parent, start, fresh) => {
  let old = start;
  for (const node of [...fresh.childNodes]) {
    const next = old?.nextSibling ?? null;
    if (old) morph(old, node);
    else parent.append(node);
    old = next;
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
};

// Shows a list of HTML blocks as the children of one element; `prepare` gets what is new.
class Blocks {
  constructor(parent, prepare) {
    this.parent = parent;
    this.prepare = prepare;
    this.shown = []; // HTML of each block
    this.sizes = []; // number of child nodes of each block
  }

  show(blocks) {
    let first = 0;
    let start = 0;
    while (first < this.shown.length && this.shown[first] === blocks[first]) {
      start += this.sizes[first++];
    }
    if (first === blocks.length && first === this.shown.length) return;
    const fresh = document.createDocumentFragment();
    this.sizes.length = first;
    for (const html of blocks.slice(first)) {
      template.innerHTML = html;
      this.sizes.push(template.content.childNodes.length);
      fresh.append(template.content);
    }
    this.shown = blocks.slice();
    this.prepare(fresh);
    morphAll(this.parent, this.parent.childNodes[start] ?? null, fresh);
  }
}

// True if a part of it shows: it is neither scrolled away nor hidden.
const isSeen = (node) => {
  const { top, bottom, height } = node.getBoundingClientRect();
  if (!height || bottom < 0 || top > innerHeight) return false;
  // What a body hides is the window's edge, which was looked at.
  const all = document.body;
  for (let outer = node.parentElement; outer && outer !== all; outer = outer.parentElement) {
    if (getComputedStyle(outer).overflowY === "visible") continue;
    const edge = outer.getBoundingClientRect();
    if (bottom < edge.top || top > edge.bottom) return false;
  }
  return true;
};

// Keeps the view's end in sight while it grows, until the reader scrolls up or types elsewhere;
// it goes on when the reader comes back to the end. `bar` is the view's last line. Whatever lets
// the view grow goes through the function that is returned.
const follow = (root, bar, signal) => {
  let inSight = false;
  let held = false;
  const look = () => {
    const now = isSeen(bar);
    if (now && !inSight) held = false;
    inSight = now;
  };
  const watch = new IntersectionObserver(look);
  watch.observe(bar);
  signal.addEventListener("abort", () => watch.disconnect());
  const hold = (event) => {
    const notebook = event.target.closest?.(".jp-Notebook");
    if (!notebook || notebook.contains(root)) held = true;
  };
  const listen = (type, leaves) => {
    const options = { signal, capture: true, passive: true };
    document.addEventListener(type, (event) => leaves(event) && hold(event), options);
  };
  listen("wheel", (event) => event.deltaY < 0);
  listen("touchmove", () => true);
  listen("pointerdown", (event) => event.offsetX >= event.target.clientWidth); // a scrollbar
  const away = ["PageUp", "Home", "ArrowUp"];
  listen("keydown", ({ key, target }) =>
    root.contains(target) ? away.includes(key) : away.includes(key) || key.length === 1,
  );
  return (grow) => {
    look(); // the observer comes later, when more text may have pushed the end away again
    grow();
    if (inSight && !held) bar.scrollIntoView({ block: "nearest" });
  };
};
