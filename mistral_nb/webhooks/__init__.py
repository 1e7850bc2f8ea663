"""Webhooks: signed news to other servers, delivered by jobs; and proof that news is true."""
