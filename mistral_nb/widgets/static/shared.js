// What the widgets have in common; it ends each one's module.

const make = (tag, className, text = "") => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
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

const toClipboard = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.body.appendChild(make("textarea", "")); // plain http, not localhost
  area.value = text;
  area.select();
  document.execCommand("copy");
  area.remove();
};
