"""Settings: where they come from, what is refused, and that the key stays hidden."""

from __future__ import annotations

import pickle
import sys
import types
from typing import TYPE_CHECKING

import pytest

from mistral_nb.errors import SettingsError
from mistral_nb.settings import DEFAULT_MODEL, resolve

if TYPE_CHECKING:
    from pathlib import Path

KEY = "s3cret-Key-0123456789"


def test_argument_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting takes the argument first, then its variable, then the default."""
    assert resolve().model == "mistral-small-latest"
    monkeypatch.setenv("MISTRAL_MODEL", "from-env")
    monkeypatch.setenv("MISTRAL_API_KEY", "env-key")
    assert resolve().model == "from-env"
    assert resolve(model="argument").model == "argument"
    assert resolve().api_key.get_secret_value() == "env-key"
    assert resolve(api_key=KEY).api_key.get_secret_value() == KEY


def test_no_key_and_no_server_mean_the_simulator() -> None:
    """Only the absence of both key and address chooses the simulator."""
    assert resolve().simulated
    assert not resolve(api_key=KEY).simulated
    assert not resolve(server_url="http://localhost:8000").simulated


def test_asked_for_the_simulator_answers_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With simulator=True no key, address or model is taken from the environment; none may be given."""
    for name in ("MISTRAL_API_KEY", "MISTRAL_SERVER_URL", "MISTRAL_MODEL"):
        monkeypatch.setenv(name, "https://elsewhere")
    settings = resolve(simulator=True)
    assert settings.simulated
    assert (settings.api_key, settings.server_url, settings.model) == (None, None, DEFAULT_MODEL)
    for given in ({"api_key": KEY}, {"server_url": "http://localhost:8000"}):
        with pytest.raises(SettingsError, match="simulator=True"):
            resolve(**given, simulator=True)


def test_the_key_is_in_no_repr() -> None:
    """Neither repr nor str of the settings holds the key."""
    settings = resolve(api_key=KEY)
    assert KEY not in repr(settings) + str(settings) + str(vars(settings))


def test_colab_and_kaggle_secrets_come_after_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notebook service's secret is used when nothing else gives a key."""
    module = types.ModuleType("kaggle_secrets")

    class UserSecretsClient:
        def get_secret(self, name: str) -> str:
            return f"kaggle-{name}"

    module.UserSecretsClient = UserSecretsClient
    monkeypatch.setitem(sys.modules, "kaggle_secrets", module)
    assert resolve().api_key.get_secret_value() == "kaggle-MISTRAL_API_KEY"
    monkeypatch.setenv("MISTRAL_API_KEY", "env-key")
    assert resolve().api_key.get_secret_value() == "env-key"


def test_a_pasted_key_is_stripped_and_a_wrong_one_is_not_quoted() -> None:
    """White space around a key is dropped; a key no header can carry is refused unseen."""
    assert resolve(api_key=f" {KEY}\n").api_key.get_secret_value() == KEY
    for wrong in ("two words", "line\nbreak", "ключ"):
        with pytest.raises(SettingsError, match="MISTRAL_API_KEY") as caught:
            resolve(api_key=wrong)
        assert wrong not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("http://localhost:8000/v1/", "http://localhost:8000"),
        ("https://gateway.example/mistral/", "https://gateway.example/mistral"),
        (" https://gateway.example ", "https://gateway.example"),
    ],
)
def test_an_address_is_normalised(given: str, meant: str) -> None:
    """A trailing slash or a pasted /v1 does not end up twice in the path."""
    assert resolve(server_url=given).server_url == meant


@pytest.mark.parametrize("wrong", ["localhost:8000", "ftp://host", "http://", "http://h:99999"])
def test_a_malformed_address_is_refused(wrong: str) -> None:
    """The message names the setting and what it should look like."""
    with pytest.raises(SettingsError, match=r"server_url.*http://host:port"):
        resolve(server_url=wrong)


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    """Home is the argument, MISTRAL_NB_HOME, or the platform's folder."""
    assert resolve().home == home
    assert resolve(home=tmp_path).home == tmp_path
    monkeypatch.delenv("MISTRAL_NB_HOME")
    assert resolve().home.is_absolute()


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_timeout_must_be_a_positive_number(wrong: object) -> None:
    """A limit that is no limit is refused."""
    with pytest.raises(SettingsError, match="timeout"):
        resolve(timeout=wrong)


def test_settings_are_frozen() -> None:
    """Nothing can be changed under a running connection."""
    with pytest.raises(AttributeError):
        resolve().model = "other"
    assert pickle.loads(pickle.dumps(resolve())).model == "mistral-small-latest"
