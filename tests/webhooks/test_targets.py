"""Targets: a webhook reaches public addresses and those allowed by name, and no others."""

from __future__ import annotations

import asyncio
import socket
import threading

import anyio
import pytest

from mistral_nb.errors import InputError
from mistral_nb.webhooks import targets
from mistral_nb.webhooks.sending import Sender
from mistral_nb.webhooks.targets import LOOPBACK, check_url, is_public
from tests.replay import STALL, Replay

PRIVATE = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "192.0.2.1", "203.0.113.9",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::1", "2002:808:808::1", "2001::1",
    "2001:db8::1", "3fff::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "100::1", "5f00::1", "2606:4700::1%eth0", "", "localhost", "1", "0x7f.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "193.0.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
TRICKS = [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.1:{port}/",
    "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.0.0.1:{port}/",
    "http://017700000001:{port}/", "http://0177.0.0.1:{port}/", "http://0:{port}/",
    "http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/",
    "http://LOCALHOST:{port}/", "http://localhost.:{port}/", "http://169.254.169.254/latest/",
    "http://[fd00:ec2::254]/", "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
]  # fmt: skip


@pytest.fixture
def server():
    replay = Replay()
    replay.pieces = [b"thanks"]
    yield replay
    replay.close()


def send(url: str, allowed=()):
    return anyio.run(Sender(allowed).send, url, {"a": "b"}, b"{}")


@pytest.mark.parametrize("address", PRIVATE)
def test_special_addresses_are_not_public(address):
    """Loopback, private, reserved and embedding addresses are no place for a webhook."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address):
    """Hosts of the public internet may be sent to."""
    assert is_public(address)


@pytest.mark.parametrize("trick", TRICKS)
def test_no_spelling_of_this_machine_is_reached(trick, server):
    """However the address is written, the connection is refused and nothing arrives."""
    port = server.url.rpartition(":")[2]
    attempt = send(trick.format(port=port))
    assert attempt.verdict != "delivered"
    assert attempt.verdict == "never" or "no address" in attempt.reason
    assert server.requests == []


def test_what_is_allowed_by_name_is_reached(server):
    """This machine is reached by the names that were allowed, and by no others."""
    attempt = send(server.url, LOOPBACK)
    assert (attempt.verdict, attempt.status) == ("delivered", 200)
    assert server.requests == [{}]
    port = server.url.rpartition(":")[2]
    assert send(f"http://127.0.0.2:{port}/", LOOPBACK).verdict == "never"


def test_a_name_that_changes_its_mind_gains_nothing(server, monkeypatch):
    """The address that is checked is the one connected to, and is asked for once."""
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    reached = []

    async def connect(self, host, *args):
        reached.append(host)
        raise targets.httpcore2.ConnectError("unreachable here")

    monkeypatch.setattr(targets, "_addresses", rebinding)
    monkeypatch.setattr(targets.httpcore2.AnyIOBackend, "connect_tcp", connect)
    assert send("http://evil.test/").verdict == "again"
    assert (asked, reached) == (["evil.test"], ["8.8.8.8"])
    assert send("http://evil.test/").verdict == "never"
    assert reached == ["8.8.8.8"]


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    """A name with any address that is not public is refused before a connection."""

    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    monkeypatch.setattr(targets, "_addresses", mixed)
    attempt = send("http://evil.test/")
    assert attempt.verdict == "never"
    assert "10.0.0.1" in attempt.reason
    assert "allow=['evil.test']" in attempt.reason


def test_redirects_are_not_followed(server):
    """A redirect is the end of it, wherever it points."""
    server.status, server.headers = 302, {"location": server.url + "/inside"}
    attempt = send(server.url, LOOPBACK)
    assert attempt.verdict == "never"
    assert "Redirects are not followed" in attempt.reason
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    """An HTTP_PROXY would connect for us, unchecked."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("ALL_PROXY", server.url)
    assert send("http://10.0.0.1/").verdict == "never"
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "delivered"), (204, "delivered"), (400, "never"), (401, "never"), (404, "never"),
     (408, "again"), (410, "gone"), (425, "again"), (429, "again"), (500, "again"), (503, "again")],
)  # fmt: skip
def test_what_an_answer_asks_for(server, status, verdict):
    """2xx delivers, 410 asks for silence, what may pass is tried again, the rest is final."""
    server.status, server.headers = status, {"retry-after": "3"}
    attempt = send(server.url, LOOPBACK)
    assert (attempt.verdict, attempt.status) == (verdict, status)
    assert attempt.retry_after == (3 if verdict == "again" else None)


def test_silence_and_dead_ends_are_tried_again(server, monkeypatch):
    """No answer in time, and nobody there, may mend themselves."""
    monkeypatch.setattr("mistral_nb.webhooks.sending.TIMEOUT", 0.2)
    server.pieces = [STALL]
    attempt = send(server.url, LOOPBACK)
    assert (attempt.verdict, attempt.status) == ("again", None)
    assert "0.2 s" in attempt.reason
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert send(f"http://127.0.0.1:{port}/", LOOPBACK).verdict == "again"


def test_a_huge_answer_is_not_read(server):
    """A receiver that never ends its answer costs two kilobytes."""
    server.pieces = [b"x" * 10_000] * 2000
    assert send(server.url, LOOPBACK).verdict == "delivered"


def test_a_receiver_that_speaks_no_http():
    """Garbage instead of an answer is a failed attempt, not an exception."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        attempt = asyncio.run(
            Sender(LOOPBACK).send(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}")
        )
        thread.join()
    assert attempt.verdict == "again"
    assert "connection failed" in attempt.reason


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://host/", "file:///etc/passwd", "http://", "http:///path", "//host/",
     "http://host:0/", "http://host:99999/", "http://user:pass@host/", "http://user@host/",
     "http://host/a b", "http://host/\r\nX: y", "http://exämple.test/", "http://host\\@other/",
     "javascript:alert(1)", "http://[::1", "gopher://host/"],
)  # fmt: skip
def test_odd_urls_are_refused_before_anything_is_sent(url):
    """Only plain http and https addresses are taken, without names and passwords in them."""
    with pytest.raises(InputError):
        check_url(url)


def test_good_urls_are_taken():
    """Host and port of a plain address are read."""
    assert check_url("https://hooks.example.com/x?y=1") == ("hooks.example.com", 443)
    assert check_url("http://[2a00::1]:8080/") == ("2a00::1", 8080)
