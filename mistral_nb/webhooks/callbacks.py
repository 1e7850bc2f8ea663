"""A webhook at the end of work that this process waits for: a stream, or a labelling run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import MistralNbError
from mistral_nb.webhooks.targets import check_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.portal import Portal
    from mistral_nb.webhooks.delivery import WebhookNotifier

__all__ = ["call_back"]

log = logging.getLogger(__name__)


def call_back(
    portal: Portal,
    notifier: WebhookNotifier,
    url: str,
    work: Any,
    kind: str,
    describe: Callable[[], dict[str, Any]],
) -> None:
    """Tell a receiver when some work has ended: ``<kind>.completed`` or ``<kind>.failed``.

    The end is heard of by this process only; from there on the delivery is a job and safe.

    Args:
        portal: The toolkit's loop.
        notifier: Signs and delivers.
        url: The receiver.
        work: A handle to wait for.
        kind: First part of the event's name.
        describe: Gives what is told besides the error; called after the end.

    Raises:
        InputError: The address is none.
    """
    check_url(url)

    async def tell() -> None:
        error: BaseException | None = None
        try:
            await work
        except (Exception, asyncio.CancelledError) as failure:
            error = failure
        event = f"{kind}.completed" if error is None else f"{kind}.failed"
        data = describe() if error is None else {**describe(), "error": str(error)}
        try:
            await asyncio.to_thread(notifier.notify, url, event, data)
        except MistralNbError as refused:
            log.warning("The callback to %s cannot be delivered: %s", url, refused)

    portal.spawn(tell)
