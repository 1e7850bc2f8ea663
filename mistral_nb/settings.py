"""Frozen settings from arguments, the environment and defaults; the key stays hidden."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
from pydantic import SecretStr

from mistral_nb.errors import SettingsError

__all__ = ["DEFAULT_MODEL", "Settings", "is_http_address", "resolve"]

DEFAULT_MODEL = "mistral-small-latest"
LIVE_URL = "https://api.mistral.ai"


@dataclass(frozen=True)
class Settings:
    """How to reach a server and where to keep files.

    Attributes:
        api_key: The key, hidden in every repr; None means the built-in simulator, or a
            server of your own that asks for none.
        server_url: Base address without ``/v1``; None means Mistral's own, or the
            simulator when there is no key either.
        model: Model used when a call names none.
        home: Folder for the ledger, histories and simulator files.
        simulator: True means the built-in simulator in any case.
        timeout: Longest silence of a server, in seconds, before a request has stalled.
        connect_timeout: Longest wait for a connection, in seconds.
        connections: Most connections kept open at once.
    """

    api_key: SecretStr | None
    server_url: str | None
    model: str
    home: Path
    simulator: bool = False
    timeout: float = 120.0
    connect_timeout: float = 10.0
    connections: int = 100

    @property
    def simulated(self) -> bool:
        """True when the simulator answers: asked for, or because there is no key or server."""
        return self.simulator or (self.api_key is None and self.server_url is None)

    @property
    def base_url(self) -> str:
        """Address requests go to; the simulator's is known only once it runs."""
        return self.server_url or LIVE_URL


def resolve(
    api_key: str | None = None,
    server_url: str | None = None,
    model: str | None = None,
    home: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    *,
    simulator: bool = False,
) -> Settings:
    """Work out the settings: argument first, then environment, then default.

    Args:
        api_key: Mistral API key; else ``MISTRAL_API_KEY``, else a Colab or Kaggle secret
            of that name.
        server_url: Any server that speaks Mistral's API; else ``MISTRAL_SERVER_URL``.
        model: Default model; else ``MISTRAL_MODEL``, else ``mistral-small-latest``.
        home: Folder for local files; else ``MISTRAL_NB_HOME``, else the platform's user
            data folder.
        timeout: Longest silence of a server in seconds; default 120.
        simulator: The built-in simulator answers, whatever keys, servers and models the
            environment names; they are not looked at.

    Returns:
        Frozen settings.

    Raises:
        SettingsError: A value is malformed; the message names the setting.
    """
    if simulator and (api_key or server_url):
        raise SettingsError(
            "simulator=True asks the built-in simulator, which takes no api_key and no "
            "server_url. Leave out the one or the other."
        )
    seconds = _seconds(timeout)
    for name, value in {"server_url": server_url, "model": model}.items():
        if value is not None and not isinstance(value, str):
            raise SettingsError(f"{name} must be a text, not {value!r}.")
    if home is not None and not isinstance(home, str | os.PathLike):
        raise SettingsError(f"home must be the path of a folder, not {home!r}.")
    env = {} if simulator else os.environ
    if not simulator:
        api_key = api_key or env.get("MISTRAL_API_KEY") or _notebook_secret()
    return Settings(
        api_key=_clean_key(api_key),
        server_url=_clean_url(server_url or env.get("MISTRAL_SERVER_URL")),
        model=model or env.get("MISTRAL_MODEL") or DEFAULT_MODEL,
        home=_home(home or os.environ.get("MISTRAL_NB_HOME")),
        simulator=simulator,
        timeout=seconds,
    )


def _seconds(timeout: float | None) -> float:
    try:
        seconds = 120.0 if timeout is None else float(timeout)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise SettingsError(f"timeout must be a finite number of seconds above 0, not {timeout!r}.")
    return seconds


def _home(named: str | os.PathLike[str] | None) -> Path:
    """Return the home folder: the one that was named, or the platform's for user data."""
    try:
        return Path(named or platformdirs.user_data_dir("mistral_nb")).expanduser()
    except RuntimeError as error:  # a container's user that the system does not know
        raise SettingsError(
            "No folder for local files is known: this user has no home directory. "
            "Set MISTRAL_NB_HOME, or home= of mnb.connect, to a folder that can be written."
        ) from error


def _clean_key(key: str | None) -> SecretStr | None:
    """Strip a pasted key; refuse what no HTTP header can carry, without quoting it."""
    if key is not None and not isinstance(key, str):
        raise SettingsError(f"api_key must be a text, not of type {type(key).__name__}.")
    key = (key or "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            "The API key holds spaces, line breaks or characters that no key has. "
            "Check api_key or MISTRAL_API_KEY: was something else pasted with it?"
        )
    return SecretStr(key)


def _clean_url(url: str | None) -> str | None:
    """Normalise a base address; the SDK adds ``/v1`` itself, so a pasted one is dropped."""
    url = (url or "").strip()
    if not url:
        return None
    if not is_http_address(url):
        raise SettingsError(
            f"server_url (or MISTRAL_SERVER_URL) must look like http://host:port, not {url!r}."
        )
    return url.rstrip("/").removesuffix("/v1")


def is_http_address(url: object) -> bool:
    """Return True for a text that names a server to speak HTTP with.

    Args:
        url: e.g. ``"https://host:8000/path"``.
    """
    if not isinstance(url, str) or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False


def _notebook_secret() -> str | None:
    """Return the secret MISTRAL_API_KEY of Colab or Kaggle, where their modules exist."""
    for read in (_colab_secret, _kaggle_secret):
        with suppress(Exception):  # not there, no such secret, or access to it denied
            if key := read():
                return key
    return None


def _colab_secret() -> str | None:
    from google.colab import userdata

    return str(userdata.get("MISTRAL_API_KEY") or "")


def _kaggle_secret() -> str | None:
    from kaggle_secrets import UserSecretsClient

    return str(UserSecretsClient().get_secret("MISTRAL_API_KEY") or "")
