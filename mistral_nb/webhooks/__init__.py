"""Webhooks: signed news to other servers, delivered by jobs; and proof that news is true."""

from mistral_nb.webhooks.delivery import Delivery, WebhookNotifier
from mistral_nb.webhooks.receiver import Received, WebhookReceiver
from mistral_nb.webhooks.signing import Secrets, WebhookEvent, new_secret, sign, verify

__all__ = [
    "Delivery",
    "Received",
    "Secrets",
    "WebhookEvent",
    "WebhookNotifier",
    "WebhookReceiver",
    "new_secret",
    "sign",
    "verify",
]


def __dir__() -> list[str]:
    return sorted(__all__)
