"""Finds text that is hard to read against its ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

__all__ = ["low_contrast"]

_CONTRAST = """root => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const paint = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    for (const node of root.querySelectorAll("*")) {
        const own = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!own || !node.getClientRects().length || node.closest(":disabled, .mnb-panel-spoken")) continue;
        const grounds = [];
        for (let each = node; each; each = each.parentElement) grounds.unshift(getComputedStyle(each).backgroundColor);
        const [a, b] = [paint(grounds), paint([...grounds, getComputedStyle(node).color])].map(light);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.push([node.textContent, Number(ratio.toFixed(2))]);
    }
    return found;
}"""


def low_contrast(view: Locator) -> list[list[object]]:
    """Return the texts of a view, with their contrast, where that is below 4.5 to 1."""
    found: list[list[object]] = view.evaluate(_CONTRAST)
    return found
