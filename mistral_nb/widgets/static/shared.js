// What the widgets have in common; it ends each one's module.

const make = (tag, className, text = "") => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
};

const setText = (node, value) => {
  if (node.textContent !== value) node.textContent = value;
};

const number = (value) => value.toLocaleString("en-US");

const isSave = (event) =>
  (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "s";

// Keep keys pressed in `root` from JupyterLab's and other notebooks' shortcuts, but for Ctrl+S,
// which saves the notebook also from here; `handle` gets all others.
const keepKeys = (root, signal, handle) => {
  root.dataset.lmSuppressShortcuts = "true";
  const letThrough = (event) => {
    if (!isSave(event) || !root.contains(event.target)) return;
    delete root.dataset.lmSuppressShortcuts;
    setTimeout(() => (root.dataset.lmSuppressShortcuts = "true"));
  };
  window.addEventListener("keydown", letThrough, { signal, capture: true });
  const keep = (event) => {
    if (isSave(event)) return;
    event.stopPropagation();
    handle(event);
  };
  root.addEventListener("keydown", keep, { signal });
};

const focusedIn = (root) => (root.contains(document.activeElement) ? document.activeElement : null);

// Where what had the focus has gone, `root` takes it: the next key is not for the notebook.
const keepFocus = (root, focused) => {
  if (!focused || (focused.isConnected && !focused.closest("[hidden]"))) return;
  if (!root.hasAttribute("tabindex")) root.tabIndex = -1;
  root.focus({ preventScroll: true });
};

const toClipboard = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const focused = document.activeElement;
  const area = document.body.appendChild(make("textarea", "")); // plain http, not localhost
  area.value = text;
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus({ preventScroll: true });
  if (!copied) throw new Error("The browser does not allow it.");
};

// A widget whose desk outlives its views: the desk takes the kernel's frames, and the views tick
// each second until it is over.
const followed = (Desk, View) => {
  let desk = null;
  return {
    // Messages sent before a view exists must not be missed, so listening starts here.
    initialize({ model }) {
      desk = new Desk(model);
      model.on("msg:custom", (frame) => desk.take(frame));
      model.on("comm_live_update", () => desk.disconnected());
      desk.greet();
    },

    render({ el }) {
      const closing = new AbortController();
      const view = new View(desk, el, closing.signal);
      desk.views.add(view);
      view.show();
      const ticking = setInterval(() => !desk.over && view.tick(), 1000);
      return () => {
        closing.abort();
        clearInterval(ticking);
        desk.views.delete(view);
      };
    },
  };
};
