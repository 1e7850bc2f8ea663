"""The verbs of ``mnb.``: each is a method of the default session, made at first use.

They have the method's arguments and words, so that ``help(mnb.stream)`` and Shift+Tab tell all
of it.
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any

from mistral_nb.session import Session, default_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.webhooks import WebhookReceiver

__all__ = [
    "Queue",
    "WebhookNotifier",
    "chat_panel",
    "conversation",
    "conversations",
    "forget",
    "label",
    "label_files",
    "process_batch",
    "resume",
    "review",
    "runs",
    "serve",
    "stream",
    "webhook_receiver",
]


def _on_default(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a method as a function on the session that is the default when it is called."""

    @wraps(method)
    def verb(*args: Any, **options: Any) -> Any:
        return method(default_session(), *args, **options)

    signature = inspect.signature(method)
    without_self = list(signature.parameters.values())[1:]
    told: Any = verb
    told.__signature__ = signature.replace(parameters=without_self)
    told.__name__ = told.__qualname__ = name
    told.__module__ = "mistral_nb"
    return verb


if TYPE_CHECKING:
    # To a type checker, and an editor, they are what they are to a person.
    _the = default_session()
    Queue = _the.queue
    WebhookNotifier = _the.webhooks
    chat_panel = _the.chat_panel
    conversation = _the.conversation
    conversations = _the.conversations
    forget = _the.forget
    label = _the.label
    label_files = _the.label_files
    process_batch = _the.process_batch
    resume = _the.resume
    review = _the.review
    runs = _the.runs
    serve = _the.serve
    stream = _the.stream
else:
    _OTHERWISE_CALLED = {"Queue": "queue", "WebhookNotifier": "webhooks"}
    for _name in __all__:
        _method = getattr(Session, _OTHERWISE_CALLED.get(_name, _name), None)
        if _method is not None:
            globals()[_name] = _on_default(_method, _name)


def webhook_receiver(secret: Any, port: int = 0, **options: Any) -> WebhookReceiver:
    """Receive webhooks on this machine, verified and shown, for lessons and tests.

    Args:
        secret: Shared with the sender.
        port: Port on this machine; 0 takes any free one.
        **options: ``scheme``, ``show``: see :class:`mistral_nb.webhooks.WebhookReceiver`.

    Returns:
        The receiver: ``receiver.url``, ``receiver.wait()``, ``receiver.events``.

    Raises:
        InputError: The secret guards nothing.
        PortTaken: Nothing can listen at the port.
    """
    from mistral_nb.webhooks import WebhookReceiver

    return WebhookReceiver(secret, port, **options)
