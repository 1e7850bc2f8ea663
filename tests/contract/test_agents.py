"""Agents and conversations against the API's own description and the SDK's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from mistralai.client import Mistral, models
from mistralai.client.errors import SDKError

from tests.contract.schema import component, faults, response
from tests.contract.test_openapi import agree, parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.conftest import Api

MODEL = "mistral-small-latest"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SEARCH = {"type": "web_search"}
ASKED = {**SEARCH, "tool_configuration": {"requires_confirmation": ["web_search"]}}
TALKS = {
    "text": ("Explain tides", []),
    "function call": ("Weather in Paris and Rome?", [WEATHER]),
    "web search": ("Search the web for tides", [SEARCH]),
    "code": ("Run code to calculate 12 * 12", [{"type": "code_interpreter"}]),
    "picture": ("Draw an image of a cat", [{"type": "image_generation"}]),
    "library": (
        "Look up tides in the library",
        [{"type": "document_library", "library_ids": ["a"]}],
    ),
    "connector": ("Use the github connector", [{"type": "connector", "connector_id": "github"}]),
    "consent": ("Search the web for tides", [ASKED]),
}


def talk(api: Api, inputs: Any, **options: Any) -> dict:
    body = {"model": MODEL, "inputs": inputs, **options}
    if "agent_id" in options:
        del body["model"]
    reply = api.post("/v1/conversations", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def events(api: Api, path: str, body: dict) -> list[dict]:
    """Return every event of a stream, held against the description and the SDK."""
    found = []
    with api.http.stream("POST", path, json={**body, "stream": True}) as reply:
        assert reply.status_code == 200
        for block in "".join(reply.iter_text()).split("\n\n"):
            if not block:
                continue
            head, data = block.split("\n")
            event = {"event": head.removeprefix("event: "), "data": orjson.loads(data[6:])}
            agree(event, component("ConversationEvents"), models.ConversationEvents)
            assert event["event"] == event["data"]["type"]
            found.append(event["data"])
    return found


def two_agents(api: Api) -> tuple[dict, dict]:
    body = {"model": MODEL, "name": "Finance agent", "description": "money, invoices, budgets"}
    second = api.post("/v1/agents", body).json()
    body = {"model": MODEL, "name": "Front desk", "handoffs": [second["id"]]}
    return api.post("/v1/agents", body).json(), second


@pytest.mark.parametrize("case", TALKS)
def test_a_plain_reply_is_described(api: Api, case: str) -> None:
    """Every kind of entry validates, in the reply and in the history."""
    inputs, tools = TALKS[case]
    body = talk(api, inputs, tools=tools)
    agree(body, response("POST", "/v1/conversations"), models.ConversationResponse)
    path = f"/v1/conversations/{body['conversation_id']}"
    one = "/v1/conversations/{conversation_id}"
    agree(api.get(path).json(), response("GET", one), models.ModelConversation)
    history = api.get(f"{path}/history").json()
    agree(history, response("GET", one + "/history"), models.ConversationHistory)
    messages = api.get(f"{path}/messages").json()
    agree(messages, response("GET", one + "/messages"), models.ConversationMessages)
    assert [entry["id"] for entry in history["entries"]][1:] == [e["id"] for e in body["outputs"]]


@pytest.mark.parametrize("case", TALKS)
@pytest.mark.parametrize("whole", [True, False])
def test_every_event_of_a_stream_is_described(
    make_api: Callable[..., Api], case: str, whole: bool
) -> None:
    """Each event validates, from started to done; arguments join to the call's own."""
    api = make_api(whole_calls=whole)
    inputs, tools = TALKS[case]
    found = events(api, "/v1/conversations", {"model": MODEL, "inputs": inputs, "tools": tools})
    assert found[0]["type"] == "conversation.response.started"
    assert found[-1]["type"] == "conversation.response.done"
    history = api.get(f"/v1/conversations/{found[0]['conversation_id']}/history").json()
    for entry in history["entries"]:
        sent = [event for event in found if event.get("id") == entry["id"]]
        if entry["type"] == "function.call":
            assert "".join(event["arguments"] for event in sent) == entry["arguments"]
        elif entry["type"] != "message.input":
            assert sent


def test_a_handoff_is_described(api: Api) -> None:
    """Another agent takes over, and stays the one who speaks."""
    desk, finance = two_agents(api)
    asked = {"agent_id": desk["id"], "inputs": "Ask finance about my invoice"}
    found = events(api, "/v1/conversations", asked)
    kinds = [event["type"] for event in found]
    assert kinds[1:3] == ["agent.handoff.started", "agent.handoff.done"]
    assert found[3]["agent_id"] == finance["id"]
    path = f"/v1/conversations/{found[0]['conversation_id']}"
    again = api.post(path, {"inputs": "Thank you"}).json()
    agree(
        again, response("POST", "/v1/conversations/{conversation_id}"), models.ConversationResponse
    )
    assert again["outputs"][0]["agent_id"] == finance["id"]
    where = response("GET", "/v1/conversations/{conversation_id}")
    agree(api.get(path).json(), where, models.AgentConversation)


def test_agents_are_described(api: Api) -> None:
    """Create, read, list, change, versions, aliases and delete validate."""
    desk, finance = two_agents(api)
    agree(desk, response("POST", "/v1/agents"), models.Agent)
    path = f"/v1/agents/{desk['id']}"
    one = "/v1/agents/{agent_id}"
    changed = api.http.patch(path, json={"instructions": "Be brief", "tools": [SEARCH]}).json()
    agree(changed, response("PATCH", one), models.Agent)
    assert (changed["version"], changed["name"]) == (1, "Front desk")
    agree(api.get(path).json(), response("GET", one), models.Agent)
    listed = api.get("/v1/agents").json()
    assert faults(listed, response("GET", "/v1/agents")) == []
    assert {each["id"] for each in listed} == {desk["id"], finance["id"]}
    page = api.get("/v1/agents/pages", page_size=1).json()
    agree(page, response("GET", "/v1/agents/pages"), models.AgentListPage)
    rest = api.get("/v1/agents/pages", page_size=1, page_token=page["next_page_token"]).json()
    assert (len(rest["data"]), rest["next_page_token"]) == (1, None)
    alias = api.http.put(f"{path}/aliases?alias=stable&version=0").json()
    agree(alias, response("PUT", one + "/aliases"), models.AgentAliasResponse)
    assert api.get(f"{path}/aliases").json() == [alias]
    assert api.get(path, agent_version="stable").json()["version"] == 0
    assert [v["version"] for v in api.get(f"{path}/versions").json()] == [1, 0]
    agree(api.get(f"{path}/versions/0").json(), response("GET", one), models.Agent)
    back = api.http.patch(f"{path}/version?version=0").json()
    assert (back["version"], back["versions"]) == (0, [0, 1])
    assert api.http.delete(f"{path}/aliases?alias=stable").status_code == 204
    assert api.http.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert api.get(f"{path}/versions").status_code == 404


def test_missing_results_are_refused_as_seen_live(api: Api) -> None:
    """400 with code 3001 names the calls; their results alone let the conversation go on."""
    first = talk(api, "Weather in Paris?", tools=[WEATHER])
    call = first["outputs"][0]["tool_call_id"]
    path = f"/v1/conversations/{first['conversation_id']}"
    refused = api.post(path, {"inputs": "Never mind"})
    assert (refused.status_code, refused.json()) == (
        400,
        {
            "object": "Error",
            "message": "Cannot append other inputs while function results are still missing. "
            f"Provide function results first for: ['{call}']",
            "type": "invalid_request_error",
            "code": 3001,
        },
    )
    result = {"type": "function.result", "tool_call_id": call, "result": "Sunny, 22C"}
    wrong = {**result, "tool_call_id": "nobody"}
    assert api.post(path, {"inputs": [result, wrong]}).status_code == 400
    after = api.post(path, {"inputs": [result]}).json()
    assert "Sunny, 22C" in after["outputs"][0]["content"]


@pytest.mark.parametrize("answer", ["allow", "deny"])
def test_a_connector_waits_for_its_confirmation(api: Api, answer: str) -> None:
    """Pending calls run once they are allowed, never when denied, and nothing else before."""
    first = talk(api, "Search the web for tides", tools=[ASKED])
    call = first["outputs"][0]
    assert call["confirmation_status"] == "pending"
    path = f"/v1/conversations/{first['conversation_id']}"
    assert api.post(path, {"inputs": "Go on"}).json()["code"] == 3001
    said = {"tool_confirmations": [{"tool_call_id": call["tool_call_id"], "confirmation": answer}]}
    kinds = {event["type"] for event in events(api, path, said)}
    assert ("tool.execution.done" in kinds) == (answer == "allow")
    history = api.get(f"{path}/history").json()["entries"]
    assert history[1]["confirmation_status"] == {"allow": "allowed", "deny": "denied"}[answer]


def test_a_file_that_a_connector_made_is_downloaded(api: Api) -> None:
    """The chunk's file_id leads to a PNG in the Files API."""
    chunk = talk(api, "Draw an image of a cat", tools=[{"type": "image_generation"}])["outputs"][
        -1
    ]["content"][-1]
    assert chunk["type"] == "tool_file"
    content = api.get(f"/v1/files/{chunk['file_id']}/content").content
    assert content.startswith(b"\x89PNG")


def test_a_restart_is_a_conversation_of_its_own(api: Api) -> None:
    """It begins with the old one's entries up to the one named; the old one stays."""
    first = talk(api, "Say: one")
    path = f"/v1/conversations/{first['conversation_id']}"
    api.post(path, {"inputs": "Say: two"})
    asked = {"inputs": "Say: three", "from_entry_id": first["outputs"][0]["id"]}
    branch = api.post(f"{path}/restart", asked).json()
    where = response("POST", "/v1/conversations/{conversation_id}/restart")
    agree(branch, where, models.ConversationResponse)

    def said(name: str) -> list[str]:
        found = api.get(f"/v1/conversations/{name}/history").json()["entries"]
        return [entry["content"] for entry in found]

    assert said(branch["conversation_id"]) == ["Say: one", "one", "Say: three", "three"]
    assert said(first["conversation_id"]) == ["Say: one", "one", "Say: two", "two"]
    gone = api.post(f"{path}/restart", {**asked, "from_entry_id": "msg_nobody"})
    assert gone.status_code == 404


def test_a_history_can_be_given_whole(api: Api) -> None:
    """A conversation that starts with entries of every kind goes on from them."""
    entries = [
        {"role": "user", "content": "Weather in Paris?"},
        {"type": "function.call", "tool_call_id": "a", "name": "get_weather", "arguments": "{}"},
        {"type": "function.result", "tool_call_id": "a", "result": "Sunny"},
        {"type": "message.output", "content": [{"type": "text", "text": "Sunny."}]},
        {"type": "tool.execution", "name": "web_search", "arguments": "{}"},
        {"type": "message.input", "role": "user", "content": "Say: hello"},
    ]
    assert talk(api, entries, tools=[WEATHER])["outputs"][0]["content"] == "hello"


def test_an_entry_without_a_type_is_what_it_can_be(api: Api) -> None:
    """What only a reply can cite makes an entry a reply; what nothing can hold is refused."""
    cited = {"role": "assistant", "content": [{"tool": "web_search", "title": "Tides"}]}
    asked = {"role": "user", "content": "Explain tides"}
    first = talk(api, [cited, asked])
    history = api.get(f"/v1/conversations/{first['conversation_id']}/history").json()["entries"]
    assert [each["type"] for each in history[:2]] == ["message.output", "message.input"]
    wrong = {**cited, "content": [{"odd": 1}]}
    refused = api.post("/v1/conversations", {"model": MODEL, "inputs": [wrong]})
    assert refused.status_code == 422
    assert "message.input" in refused.json()["detail"][1]["loc"]


def test_a_forgotten_conversation_is_not_found(api: Api) -> None:
    """POST /simulator/forget loses one or all of them; whoever goes on gets 404."""
    kept, lost = talk(api, "Say: one"), talk(api, "Say: two")
    told = api.post("/simulator/forget", {"conversation_id": lost["conversation_id"]}).json()
    assert told == {"forgotten": [lost["conversation_id"]]}
    assert (
        api.post(f"/v1/conversations/{lost['conversation_id']}", {"inputs": "a"}).status_code == 404
    )
    assert api.get(f"/v1/conversations/{kept['conversation_id']}").status_code == 200
    assert [each["id"] for each in api.get("/v1/conversations").json()] == [kept["conversation_id"]]
    assert api.http.delete(f"/v1/conversations/{kept['conversation_id']}").status_code == 204
    assert api.get("/v1/conversations").json() == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/conversations", {"inputs": "a"}, 422),
        ("/v1/conversations", {"inputs": "a", "model": MODEL, "agent_id": "b"}, 422),
        ("/v1/conversations", {"inputs": "a", "model": "nobody"}, 400),
        ("/v1/conversations", {"inputs": "a", "agent_id": "ag_nobody"}, 404),
        ("/v1/conversations", {"inputs": [{"type": "moon"}], "model": MODEL}, 422),
        ("/v1/conversations", {"inputs": [], "model": MODEL}, 400),
        ("/v1/conversations/conv_nobody", {"inputs": "a"}, 404),
        ("/v1/agents", {"name": "a"}, 422),
        ("/v1/agents", {"name": "a", "model": "nobody"}, 400),
        ("/v1/agents", {"name": "a", "model": MODEL, "handoffs": ["ag_nobody"]}, 404),
    ],
)
def test_what_is_wrong_is_refused(api: Api, path: str, body: dict, status: int) -> None:
    """422 for a malformed body, 404 for what nobody has, 400 for the rest."""
    assert api.post(path, body).status_code == status


def test_a_run_of_tools_named_in_order_is_followed(api: Api) -> None:
    """The request names two tools: the second is called once the first has answered."""
    mail = {
        "type": "function",
        "function": {
            "name": "send_mail",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
        },
    }
    first = talk(api, "Get the weather in Paris, then send a mail", tools=[WEATHER, mail])
    path = f"/v1/conversations/{first['conversation_id']}"
    called = []
    for _ in range(3):
        output = first["outputs"][0]
        if output["type"] != "function.call":
            break
        called.append(output["name"])
        result = {
            "type": "function.result",
            "tool_call_id": output["tool_call_id"],
            "result": "done",
        }
        first = api.post(path, {"inputs": [result]}).json()
    assert sorted(called) == ["get_weather", "send_mail"]
    assert [part for part in parts(first) if part is None] == []


def test_the_sdk_follows_a_conversation(api: Api) -> None:
    """Unchanged but for the address: start, call, result, answer, history, list, delete."""
    with Mistral(api_key="k", server_url=api.simulator.url, timeout_ms=20_000) as sdk:
        conversations = sdk.beta.conversations
        asked: dict[str, Any] = {"model": MODEL, "inputs": "Weather in Paris?", "tools": [WEATHER]}
        with conversations.start_stream(**asked) as stream:
            found = [event.data for event in stream]
        assert [part for part in parts(found) if "Unknown" in type(part).__name__] == []
        name, call = found[0].conversation_id, found[1].tool_call_id
        result = models.FunctionResultEntry(tool_call_id=call, result="Sunny, 22C")
        with conversations.append_stream(conversation_id=name, inputs=[result]) as stream:
            said = [e.data.content for e in stream if e.event == "message.output.delta"]
        assert "".join(said) == "Here is what I found: Sunny, 22C"
        history = conversations.get_history(conversation_id=name)
        assert [type(entry) for entry in history.entries] == [
            models.MessageInputEntry,
            models.FunctionCallEntry,
            models.FunctionResultEntry,
            models.MessageOutputEntry,
        ]
        assert [each.id for each in conversations.list()] == [name]
        conversations.delete(conversation_id=name)
        with pytest.raises(SDKError) as caught:
            conversations.get(conversation_id=name)
        assert caught.value.status_code == 404
