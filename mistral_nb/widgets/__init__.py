"""What is seen on screen: the live view of a reply and the progress of a run."""

from mistral_nb.widgets.stream_view import StreamView, show

__all__ = ["StreamView", "show"]
