"""Turns as a tree: each follows one before it, and a branch is the way to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.agents.entries import Turn
    from mistral_nb.agents.turns import TurnHandle

__all__ = ["Node", "Tree"]


@dataclass
class Node:
    """A turn's place in the tree.

    Attributes:
        last: The turn as it was last known.
        remote: The server's conversation that it ended in.
        settled: True if the server's history is known to end with it, as ours does.
        setup: Key of the setup it was asked with.
        handle: Its handle, in the kernel that sent it.
    """

    last: Turn
    remote: str = ""
    settled: bool = False
    setup: str = ""
    handle: TurnHandle | None = None

    @property
    def id(self) -> str:
        """The turn's id."""
        return self.last.id

    @property
    def parent(self) -> str | None:
        """Id of the turn before it."""
        return self.last.parent

    @property
    def turn(self) -> Turn:
        """The turn as it is now."""
        return self.last if self.handle is None else self.handle.turn


class Tree:
    """All turns of a conversation, in the order of their beginning."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._after: dict[str | None, list[str]] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: Node) -> None:
        """Put a turn into its place, or a newer state of it in the same place."""
        if node.id not in self._nodes:
            self._after.setdefault(node.parent, []).append(node.id)
        self._nodes[node.id] = node

    def get(self, name: str | None) -> Node | None:
        """Return a turn's node, or None."""
        return self._nodes.get(name) if name is not None else None

    def find(self, turn: object) -> Node:
        """Return the node of a turn, given as its id, itself or its handle.

        Raises:
            InputError: It is no turn of this conversation.
        """
        name = getattr(turn, "request_id", None) or getattr(turn, "id", None) or turn
        node = self._nodes.get(str(name))
        if node is None:
            raise InputError(f"There is no turn {name!r} in this conversation: see chat.turns.")
        return node

    def path(self, head: str | None) -> list[Node]:
        """Return the turns from the beginning to ``head``."""
        way: list[Node] = []
        node = self.get(head)
        while node is not None:
            way.append(node)
            node = self.get(node.parent)
        return way[::-1]

    def siblings(self, node: Node) -> list[Node]:
        """Return the turns that follow the same turn, the given one among them."""
        return [self._nodes[name] for name in self._after[node.parent]]

    def leaf(self, node: Node) -> Node:
        """Return the end of the branch that was begun last below a turn."""
        while after := self._after.get(node.id):
            node = self._nodes[after[-1]]
        return node

    def is_last_on(self, node: Node) -> bool:
        """Return True if nothing was added after a turn to its conversation on the server."""
        same = [each for each in self if each.remote == node.remote]
        return bool(same) and same[-1] is node
