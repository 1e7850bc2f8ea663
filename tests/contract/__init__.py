"""The simulator against the API's own description, recorded replies and the official SDK."""
