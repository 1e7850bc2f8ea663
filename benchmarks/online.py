"""Online labelling: rows a second and CPU a row, this package beside the usual ways.

    python benchmarks/online.py [--rows 2000] [--at-once 64] [--latency 0.05] [--runs 3]
                                [--only WAY ...] [--simulator]

A bare server in a process of its own answers every chat request after the latency, so that
rows / latency * at-once is the ceiling. Every way runs in a fresh process, in turn, so that
all meet the same weather; medians over the runs. Ours is the public `label`: request files,
a durable ledger (an intent before, the answer after each request), a check of every reply
against a schema and the merged table; the others only read the label. Peers are looked for
beside the package and in `.venv/foreign` (`scripts/setup foreign`); without them they are left
out, with a line. With --simulator the package's own simulator is the server, which is slower
than the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = ROOT / ".venv" / "foreign" / "bin" / "python"
MODEL = "mistral-small-latest"
LABELS = ["billing", "delivery", "other"]
FORMAT = {"type": "json_object"}


def messages(number: int) -> list[dict[str, str]]:
    """Make row ``number``'s messages."""
    text = f"Which topic? Ticket {number}: my parcel has not come and the invoice is wrong."
    return [{"role": "user", "content": text}]


def label(text: str) -> str:
    """Read a reply."""
    return str(json.loads(text)["label"])


async def in_turns(
    rows: int, at_once: int, ask: Callable[[int], Awaitable[str]]
) -> list[str | BaseException]:
    """Do it the textbook way: a task a row, and a semaphore."""
    semaphore = asyncio.Semaphore(at_once)

    async def one(number: int) -> str:
        async with semaphore:
            return label(await ask(number))

    return await asyncio.gather(*(one(number) for number in range(rows)))


# The ways: each gets the server's address and returns a function of (rows, at once)


def ours(url: str) -> Any:
    """label(mode="online"): files of requests, ledger, schema and the merged table included."""
    import pandas as pd

    import mistral_nb as mnb

    session = mnb.connect(api_key="bench", server_url=url)

    def ask(rows: int, at_once: int) -> int:
        df = pd.DataFrame({"text": [messages(number)[0]["content"] for number in range(rows)]})
        run = session.label(
            df,
            "{text}",
            labels=LABELS,
            mode="online",
            concurrency=at_once,
            reuse=False,
            show=False,
            name=f"bench-{rows}",
        )
        return int(run.result(600)["label"].notna().sum())

    return ask


def ours_list(url: str) -> Any:
    """process_batch: no ledger, but a Reply object and a checked value a row."""
    import mistral_nb as mnb

    session = mnb.connect(api_key="bench", server_url=url)

    def ask(rows: int, at_once: int) -> int:
        prompts = [messages(number)[0]["content"] for number in range(rows)]
        results = session.process_batch(prompts, at_once, labels=LABELS).result()
        return sum(result.content in LABELS for result in results)

    return ask


def sdk(url: str) -> Any:
    """The SDK's complete_async, gather and a semaphore."""
    from mistralai.client import Mistral

    async def run(rows: int, at_once: int) -> int:
        async with Mistral(api_key="bench", server_url=url) as client:

            async def ask(number: int) -> str:
                reply = await client.chat.complete_async(
                    model=MODEL, messages=messages(number), response_format=FORMAT
                )
                return reply.choices[0].message.content

            return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def plain_httpx2(url: str) -> Any:
    """Plain httpx2 with a pool as large as the concurrency."""
    import httpx2

    async def run(rows: int, at_once: int) -> int:
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        headers = {"authorization": "Bearer bench"}
        async with httpx2.AsyncClient(limits=limits, timeout=60, headers=headers) as client:

            async def ask(number: int) -> str:
                body = {
                    "model": MODEL,
                    "messages": messages(number),
                    "response_format": FORMAT,
                }
                reply = await client.post(f"{url}/v1/chat/completions", json=body)
                return str(reply.json()["choices"][0]["message"]["content"])

            return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def plain_aiohttp(url: str) -> Any:
    """Plain aiohttp with a pool as large as the concurrency."""
    import aiohttp

    async def run(rows: int, at_once: int) -> int:
        headers = {"authorization": "Bearer bench"}
        pool = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(connector=pool, headers=headers) as client:

            async def ask(number: int) -> str:
                body = {
                    "model": MODEL,
                    "messages": messages(number),
                    "response_format": FORMAT,
                }
                async with client.post(f"{url}/v1/chat/completions", json=body) as reply:
                    return str((await reply.json())["choices"][0]["message"]["content"])

            return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def openai(url: str) -> Any:
    """AsyncOpenAI against the same server."""
    from openai import AsyncOpenAI

    async def run(rows: int, at_once: int) -> int:
        async with AsyncOpenAI(api_key="bench", base_url=f"{url}/v1") as client:

            async def ask(number: int) -> str:
                reply = await client.chat.completions.create(
                    model=MODEL, messages=messages(number), response_format=FORMAT
                )
                return reply.choices[0].message.content or ""

            return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def litellm(url: str) -> Any:
    """The acompletion of litellm."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as peer

    peer.suppress_debug_info = True

    async def run(rows: int, at_once: int) -> int:
        async def ask(number: int) -> str:
            reply = await peer.acompletion(
                model=f"mistral/{MODEL}",
                messages=messages(number),
                api_base=f"{url}/v1",
                api_key="bench",
                response_format=FORMAT,
            )
            return str(reply.choices[0].message.content)

        return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def langchain_mistralai(url: str) -> Any:
    """langchain-mistralai's abatch."""
    from langchain_mistralai import ChatMistralAI

    async def run(rows: int, at_once: int) -> int:
        model = ChatMistralAI(model=MODEL, api_key="bench", endpoint=f"{url}/v1")
        replies = await model.abatch(
            [messages(number) for number in range(rows)], config={"max_concurrency": at_once}
        )
        return len([label(reply.content) for reply in replies])

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


def instructor(url: str) -> Any:
    """Instructor over AsyncOpenAI, with a pydantic model."""
    from typing import Literal

    import instructor as peer
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    class Ticket(BaseModel):
        label: Literal["billing", "delivery", "other"]

    async def run(rows: int, at_once: int) -> int:
        async with AsyncOpenAI(api_key="bench", base_url=f"{url}/v1") as client:
            asking = peer.from_openai(client, mode=peer.Mode.JSON)

            async def ask(number: int) -> str:
                made = await asking.chat.completions.create(
                    model=MODEL, messages=messages(number), response_model=Ticket
                )
                return str(made.model_dump_json())

            return len(await in_turns(rows, at_once, ask))

    return lambda rows, at_once: asyncio.run(run(rows, at_once))


WAYS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "ours": (ours, "mistral_nb", "mnb.label, ledger and schema"),
    "process_batch": (ours_list, "mistral_nb", "mnb.process_batch, schema"),
    "aiohttp": (plain_aiohttp, "aiohttp", "aiohttp, plain"),
    "httpx2": (plain_httpx2, "httpx2", "httpx2, plain"),
    "sdk": (sdk, "mistralai", "SDK complete_async + Semaphore"),
    "openai": (openai, "openai", "openai AsyncOpenAI"),
    "litellm": (litellm, "litellm", "litellm"),
    "langchain": (langchain_mistralai, "langchain_mistralai", "langchain-mistralai abatch"),
    "instructor": (instructor, "instructor", "instructor (openai)"),
}


def measure(name: str, url: str, rows: int, at_once: int) -> None:
    """Run one way in this process and print its figures as JSON."""
    run = WAYS[name][0](url)
    run(2 * at_once, at_once)  # imports, connections, caches
    cpu, began = time.process_time(), time.perf_counter()
    answered = run(rows, at_once)
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    assert answered == rows, f"{name}: {answered} of {rows} rows answered"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": rows / seconds, "cpu": cpu / rows * 1000, "memory": memory}))


def simulate(latency: float, end: Any) -> None:
    """Answer every request with the simulator, which validates and invents."""
    from mistral_nb.simulator import Faults, start_simulator

    with tempfile.TemporaryDirectory() as home:
        simulator = start_simulator(Path(home), faults=Faults(latency=latency))
        end.send(simulator.url)
        time.sleep(3600)


def serve(latency: float, end: Any) -> None:
    """Answer every request after the latency."""
    from tests.recorder import GOOD, Arrival, Recorder, Say, refusal

    no_list = refusal(404)

    def script(_: int, arrival: Arrival) -> Say:
        return no_list if arrival.line.startswith("GET") else GOOD

    end.send(Recorder(script, latency=latency, keep=False).url)
    time.sleep(3600)


def main() -> None:
    """Measure every way in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--simulator", action="store_true", help="as the server; ours only")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.rows, options.at_once)
        return
    if options.simulator:
        options.only = ["ours", "process_batch"]
    ours_end, theirs_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=simulate if options.simulator else serve,
        args=(options.latency, theirs_end),
        daemon=True,
    )
    server.start()
    url = ours_end.recv()
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.runs):
        for name in options.only:
            if interpreter(name) is not None:
                found.setdefault(name, []).append(run_way(name, url, options))
    server.terminate()
    tell(found, options)


def interpreter(name: str) -> str | None:
    """Return the Python that has what a way needs, or None."""
    if find_spec(WAYS[name][1]) is not None:
        return sys.executable
    return str(FOREIGN) if FOREIGN.exists() else None


def run_way(name: str, url: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one way once, in a process of its own."""
    command = [interpreter(name) or sys.executable, __file__, "--measure", name, url]
    command += ["--rows", str(options.rows), "--at-once", str(options.at_once)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MISTRAL_NB_HOME": tempfile.mkdtemp()}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def tell(found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Print medians and how they compare with ours."""
    ceiling = options.at_once / options.latency
    print(
        f"{options.rows:,} rows, {options.latency * 1000:g} ms latency, {options.at_once} at once "
        f"(ceiling {ceiling:,.0f} rows/s), medians of {options.runs} runs in turn"
    )
    print(f"{'':34} {'rows/s':>7} {'CPU ms/row':>11} {'peak MB':>8} {'ours is':>9} {'by CPU':>7}")
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    base = medians.get("ours", next(iter(medians.values())))
    for name, of in medians.items():
        line = f"{WAYS[name][2]:34} {of['rate']:7,.0f} {of['cpu']:11.2f} {of['memory']:8.0f}"
        if name not in {"ours", "process_batch"}:
            line += f" {base['rate'] / of['rate']:8.1f}x {of['cpu'] / base['cpu']:6.1f}x"
        print(line)
    for name in options.only:
        if name not in found:
            print(f"{WAYS[name][2]:34} not installed, left out")


if __name__ == "__main__":
    main()
