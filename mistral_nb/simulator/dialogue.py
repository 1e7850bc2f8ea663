"""What the simulated model does in one round of a conversation: calls, hands over, answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mistral_nb.simulator import connectors
from mistral_nb.simulator.chat import complete
from mistral_nb.simulator.reading import last_message, plain_text
from mistral_nb.simulator.words import stems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mistral_nb.simulator.chat import Choice
    from mistral_nb.simulator.server import Core

__all__ = ["Actor", "Output", "Round", "play"]

MOST_STEPS = 8
"""Completions in one round: connectors and handoffs end somewhere."""

_UNSAFE = re.compile(r"\W+")


@dataclass(frozen=True)
class Actor:
    """Who speaks: an agent, or a model with what its conversation gave it.

    Attributes:
        model: Model that answers.
        instructions: Its system prompt.
        tools: As in the request.
        completion_args: Likewise.
        agent: The agent's own object, if it is one.
        handoffs: Agents it may hand over to.
    """

    model: str
    instructions: str | None
    tools: Sequence[Mapping[str, Any]]
    completion_args: Mapping[str, Any]
    agent: Mapping[str, Any] | None = None
    handoffs: Sequence[Mapping[str, Any]] = ()

    @property
    def signature(self) -> dict[str, Any]:
        """The fields of an entry that say who made it."""
        return {"model": self.model, "agent_id": self.agent["id"] if self.agent else None}


@dataclass(frozen=True)
class Output:
    """One entry that a round adds, with the pieces in which a stream sends it.

    Attributes:
        entry: The entry, without times.
        pieces: Content of a message or arguments of a call, piece by piece.
    """

    entry: dict[str, Any]
    pieces: Sequence[Any] = ()


@dataclass
class Round:
    """Everything one round adds to a conversation.

    Attributes:
        outputs: Entries in order.
        usage: The API's usage object.
    """

    outputs: list[Output] = field(default_factory=list)
    usage: dict[str, Any] = field(
        default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    )

    def add_usage(self, usage: Mapping[str, Any], connector: str | None) -> None:
        """Count what one completion cost, for the model or for a connector."""
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.usage[name] += usage[name]
        if connector is not None:
            used = self.usage.setdefault("connectors", {})
            used[connector] = used.get(connector, 0) + 1
            tokens = self.usage.get("connector_tokens") or 0
            self.usage["connector_tokens"] = tokens + usage["completion_tokens"]


class _Player:
    def __init__(
        self,
        core: Core,
        history: Sequence[Mapping[str, Any]],
        actor: Actor,
        args: Mapping[str, Any],
    ) -> None:
        self.core = core
        self.actor = actor
        self.args = args
        self.result = Round()
        self.messages = _as_chat(history)
        self.carried: list[dict[str, Any]] = []
        self.met = {actor.agent["id"]} if actor.agent else set()

    @property
    def prompt(self) -> str:
        return last_message(self.messages, "user")

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.core.state.new_id(prefix).replace('-', '')}"

    def add(self, prefix: str, kind: str, pieces: Sequence[Any] = (), **fields: Any) -> None:
        """Add an entry of the current speaker's."""
        entry = {"object": "entry", "type": kind, "id": self.new_id(prefix), **fields}
        if kind != "agent.handoff":
            entry |= self.actor.signature
        self.result.outputs.append(Output(entry, pieces))

    def step(self, find: Callable[[str], Actor]) -> bool:
        """Complete once; True if the model goes on by itself."""
        offers = _offers(self.actor, self.met)
        choice, usage = self._completed([offer["function"] for offer in offers.values()])
        self.result.add_usage(usage, None)
        if not choice.calls:
            self._answer(choice)
            return False
        again = False
        for call_id, name, arguments in choice.calls:
            offer = offers.get(name, {})  # a script may call what nobody offered
            if "agent" in offer:
                self._hand_over(offer["agent"], find)
                return self.args.get("handoff_execution") != "client"
            if "tool" in offer and not connectors.needs_confirmation(offer["tool"]):
                self.execute(offer["tool"], arguments, call_id)
                again = True
            else:
                self._call(call_id, name, arguments, pending="tool" in offer)
        return again and not self._waiting()

    def _waiting(self) -> bool:
        return bool(self.result.outputs[-1].entry["type"] == "function.call")

    def _completed(self, functions: Sequence[Mapping[str, Any]]) -> tuple[Choice, dict[str, Any]]:
        args = {**self.actor.completion_args, **(self.args.get("completion_args") or {})}
        args["top_p"] = args.get("top_p") or None  # 0 is allowed here, but not in a chat
        messages = self.messages
        remaining = _named_and_left(functions, messages)
        if remaining and args.get("tool_choice") != "none":
            # "Read the table, then mail it": the next tool that the request names.
            functions = remaining[:1]
            messages = [m for m in messages if m["role"] in {"user", "system"}]
            args = {**args, "tool_choice": "any"}
        system = self.actor.instructions
        body = {
            "model": self.actor.model,
            "messages": [{"role": "system", "content": system}, *messages] if system else messages,
            "tools": [{"type": "function", "function": each} for each in functions] or None,
            **{name: value for name, value in args.items() if value is not None},
        }
        number = self.core.number()
        core = self.core
        _, done = complete(
            body,
            seed=core.seed,
            number=number,
            cache=core.prompts,
            script=core.script,
            in_conversation=True,
        )
        return done.choices[0], done.usage

    def _answer(self, choice: Choice) -> None:
        pieces: list[Any] = [_thinking(each) for each in choice.thinking]
        text: Any = "".join(choice.text)
        content = text
        if choice.thinking or self.carried:
            content = [{"type": "text", "text": text}, *self.carried]
        if choice.thinking:
            content.insert(0, _thinking("".join(choice.thinking)))
        pieces += [*choice.text, *self.carried]
        self.add("msg", "message.output", pieces, role="assistant", content=content)

    def _call(self, call_id: str, name: str, arguments: str, *, pending: bool) -> None:
        from mistral_nb.simulator import tokens

        pieces = [arguments] if self.core.whole_calls else tokens.pieces(arguments)[0]
        fields: dict[str, Any] = {"confirmation_status": "pending"} if pending else {}
        # Calls of one conversation may be alike; their ids may not.
        call_id = self.core.state.new_id("call", call_id).replace("-", "")[:9]
        self.add(
            "fc",
            "function.call",
            pieces,
            tool_call_id=call_id,
            name=name,
            arguments=arguments,
            **fields,
        )

    def execute(self, tool: Mapping[str, Any], arguments: str, call_id: str) -> None:
        """Run a connector and let the model know."""
        done = connectors.execute(tool, arguments, self.prompt, self.core.state)
        name = connectors.tool_name(tool)
        self.add(
            "tool_exec",
            "tool.execution",
            [arguments],
            name=name,
            arguments=arguments,
            info=done.info,
        )
        self.carried += done.chunks
        self.messages += _used(call_id, name, arguments, done.text)
        used = {"prompt_tokens": 0, "completion_tokens": 60, "total_tokens": 60}
        self.result.add_usage(used, name)

    def _hand_over(self, target: Mapping[str, Any], find: Callable[[str], Actor]) -> None:
        assert self.actor.agent is not None
        self.add(
            "handoff",
            "agent.handoff",
            previous_agent_id=self.actor.agent["id"],
            previous_agent_name=self.actor.agent["name"],
            next_agent_id=target["id"],
            next_agent_name=target["name"],
        )
        self.met.add(target["id"])
        self.actor = find(target["id"])


def play(
    core: Core,
    history: Sequence[Mapping[str, Any]],
    actor: Actor,
    find: Callable[[str], Actor],
    args: Mapping[str, Any],
    allowed: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = (),
) -> Round:
    """Go on with a conversation until the model has answered or waits for someone.

    Args:
        core: The simulator.
        history: All entries so far, the new inputs among them.
        actor: Who speaks.
        find: Makes the actor of an agent's id.
        args: ``completion_args`` and ``handoff_execution`` of the request.
        allowed: Connector calls that a person has just allowed: tool and call entry.

    Returns:
        What is added, and what it cost.

    Raises:
        ApiProblem: The API would refuse it.
    """
    player = _Player(core, history, actor, args)
    for tool, call in allowed:
        player.execute(tool, str(call["arguments"]), call["tool_call_id"])
    for _ in range(MOST_STEPS):
        if not player.step(find):
            break
    return player.result


def _offers(actor: Actor, met: set[str]) -> dict[str, dict[str, Any]]:
    """Return all that the model may call by name: functions, connectors, other agents."""
    offers: dict[str, dict[str, Any]] = {}
    for tool in actor.tools:
        if tool["type"] == "function":
            offers[tool["function"]["name"]] = {"function": tool["function"]}
        else:
            function = connectors.as_function(tool)
            offers[function["name"]] = {"function": function, "tool": tool}
    for agent in actor.handoffs:
        if agent["id"] in met:
            continue
        name = "handoff_" + re.sub(r"agent|assistant", "", _UNSAFE.sub("_", agent["name"].lower()))
        function = {
            "name": name.strip("_"),
            "description": agent.get("description") or agent["name"],
            "parameters": {"type": "object", "properties": {}},
        }
        offers[function["name"]] = {"function": function, "agent": agent}
    return offers


def _named_and_left(
    functions: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the tools that the request names in full and that were not used for it, in order."""
    since = max((n for n, m in enumerate(messages) if m["role"] == "user"), default=None)
    if since is None:
        return []
    words = [stems(word) for word in plain_text(messages[since].get("content")).split()]
    asked = frozenset().union(*words)
    used = {
        call["function"]["name"]
        for message in messages[since:]
        for call in message.get("tool_calls") or ()
    }
    left = [f for f in functions if f["name"] not in used and stems(f["name"])]
    named = [f for f in left if stems(f["name"]) <= asked]
    return sorted(named, key=lambda f: _place(stems(f["name"]), words))


def _place(name: frozenset[str], words: Sequence[frozenset[str]]) -> int:
    """Return where in a text the last word of a name stands first."""
    return max(
        (next(n for n, word in enumerate(words) if each in word) for each in name), default=0
    )


def _as_chat(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn entries into chat messages."""
    messages: list[dict[str, Any]] = []
    names = {e["tool_call_id"]: e["name"] for e in history if e["type"] == "function.call"}
    for entry in history:
        kind = entry["type"]
        if kind == "message.input":
            messages.append({"role": entry["role"], "content": _content(entry["content"])})
        elif kind == "message.output":
            messages.append({"role": "assistant", "content": plain_text(entry["content"])})
        elif kind == "function.call":
            messages += _called(entry)
        elif kind == "function.result":
            call_id = entry["tool_call_id"]
            name = names.get(call_id, "tool")
            messages.append(_told(call_id, name, entry["result"]))
        elif kind == "tool.execution":
            said = (entry.get("info") or {}).get("code_output") or "it was done"
            messages += _used(entry["id"][-9:], entry["name"], entry["arguments"], said)
    return messages


def _content(content: Any) -> Any:
    """Return a message's content in the chunks that a chat takes."""
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": f"[file {chunk.get('file_name') or chunk['file_id']}]"}
        if chunk["type"] == "tool_file"
        else chunk
        for chunk in content
    ]


def _called(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell of a call; one that was allowed is told of by its execution."""
    status = entry.get("confirmation_status")
    if status in {"pending", "allowed"}:
        return []
    call_id, name = entry["tool_call_id"], entry["name"]
    asked = _asked(call_id, name, entry["arguments"])
    return [asked, _told(call_id, name, "the user denied this call.")] if status else [asked]


def _asked(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    call = {"id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _told(call_id: str, name: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": name}


def _used(call_id: str, name: str, arguments: str, text: str) -> list[dict[str, Any]]:
    return [_asked(call_id, name, arguments), _told(call_id, name, text)]


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
