"""The SSE relay: chats and jobs for browsers and other programs, over plain HTTP."""

from mistral_nb.relay.server import Relay

__all__ = ["Relay"]
