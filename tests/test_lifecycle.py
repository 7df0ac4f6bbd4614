"""The road of a backend service, with unmodified boto3 and an agent written with the real SDK."""

import json
import re
import time
from pathlib import Path

import pytest
from conftest import EXAMPLES, PYTHON, ROLE, deploy_files, invoke, session_id, wait_endpoint, wait_gone, wait_ready


def artifact_of(control, runtime_id):
    return control.get_agent_runtime(agentRuntimeId=runtime_id)["agentRuntimeArtifact"]


def test_json_answer(shared_server, python_agent):
    answer, session = invoke(shared_server.data, python_agent, {"prompt": "hello"})
    assert answer["answer"] == "You said: hello"
    assert len(session) >= 33


def test_stream_arrives_word_by_word(shared_server, python_agent):
    reply = shared_server.data.invoke_agent_runtime(
        agentRuntimeArn=python_agent, payload=json.dumps({"prompt": "stream one two three four five six"}).encode()
    )
    assert reply["contentType"].startswith("text/event-stream")
    arrivals, words = [], []
    for line in reply["response"].iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            arrivals.append(time.monotonic())
            words.append(json.loads(line[6:])["word"])
    assert words == ["one", "two", "three", "four", "five", "six"]
    # The agent pauses 50 ms after each word; an answer that was collected first would arrive at one moment.
    assert arrivals[-1] - arrivals[0] > 0.15


def test_conversation_of_three_turns_beside_a_stranger(shared_server, python_agent):
    data, mine, other = shared_server.data, session_id(), session_id()
    for turn, text in enumerate(["my name is Ada", "I like rivers", "and islands"], start=1):
        answer, session = invoke(data, python_agent, {"prompt": f"remember {text}"}, mine)
        assert (answer["told"], session) == (turn, mine)
        stranger, _ = invoke(data, python_agent, {"prompt": "recall"}, other)
        assert stranger["memory"] == [] and stranger["disk"] == []
    recalled, _ = invoke(data, python_agent, {"prompt": "recall"}, mine)
    assert recalled["memory"] == recalled["disk"] == ["my name is Ada", "I like rivers", "and islands"]
    assert recalled["session"] == mine


def test_what_the_agent_sees(shared_server, python_agent):
    seen, _ = invoke(shared_server.data, python_agent, {"prompt": "where"})
    assert seen["region"] == "us-west-2"
    assert f"cloud.resource_id={python_agent}" in seen["resource"]
    if shared_server.driver == "container":
        assert seen["uid"] != 0


def test_stop_ends_the_session(shared_server, python_agent):
    data, session = shared_server.data, session_id()
    invoke(data, python_agent, {"prompt": "remember this"}, session)
    data.stop_runtime_session(agentRuntimeArn=python_agent, runtimeSessionId=session)
    with pytest.raises(data.exceptions.ResourceNotFoundException):
        data.stop_runtime_session(agentRuntimeArn=python_agent, runtimeSessionId=session)
    recalled, same = invoke(data, python_agent, {"prompt": "recall"}, session)
    assert same == session and recalled["memory"] == [] and recalled["disk"] == []


def test_versions_endpoints_and_roll_back(shared_server, python_agent):
    """Create by API, second version, custom endpoint, roll back, delete: as the AgentCore documentation shows."""
    control, data = shared_server.control, shared_server.data
    artifact = artifact_of(control, python_agent.rsplit("/", 1)[1])
    made = control.create_agent_runtime(
        agentRuntimeName="versions",
        agentRuntimeArtifact=artifact,
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        environmentVariables={"AGENT_VERSION": "1"},
        description="first",
        tags={"team": "islands"},
    )
    assert made["status"] == "CREATING" and made["agentRuntimeVersion"] == "1"
    arn, runtime_id = made["agentRuntimeArn"], made["agentRuntimeId"]
    assert re.fullmatch(r"arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/versions-[a-zA-Z0-9]{10}", arn)
    got = wait_ready(control, runtime_id)
    assert got["lifecycleConfiguration"] == {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800}
    assert got["description"] == "first"
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "islands"}

    old = session_id()
    assert invoke(data, arn, {"prompt": "hi"}, old)[0]["version"] == "1"

    control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod", agentRuntimeVersion="1")
    wait_endpoint(control, runtime_id, "prod", "1")

    updated = control.update_agent_runtime(
        agentRuntimeId=runtime_id,
        agentRuntimeArtifact=artifact,
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        environmentVariables={"AGENT_VERSION": "2"},
    )
    assert updated["agentRuntimeVersion"] == "2" and updated["status"] == "UPDATING"
    wait_ready(control, runtime_id)
    wait_endpoint(control, runtime_id, "DEFAULT", "2")

    # DEFAULT follows, the custom endpoint does not, and a running session keeps its version.
    assert invoke(data, arn, {"prompt": "hi"})[0]["version"] == "2"
    assert invoke(data, arn, {"prompt": "hi"}, qualifier="prod")[0]["version"] == "1"
    assert invoke(data, arn, {"prompt": "hi"}, old)[0]["version"] == "1"

    control.update_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod", agentRuntimeVersion="2")
    wait_endpoint(control, runtime_id, "prod", "2")
    assert invoke(data, arn, {"prompt": "hi"}, qualifier="prod")[0]["version"] == "2"
    control.update_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod", agentRuntimeVersion="1")
    wait_endpoint(control, runtime_id, "prod", "1")
    assert invoke(data, arn, {"prompt": "hi"}, qualifier="prod")[0]["version"] == "1"

    versions = control.list_agent_runtime_versions(agentRuntimeId=runtime_id)["agentRuntimes"]
    assert sorted(v["agentRuntimeVersion"] for v in versions) == ["1", "2"]
    endpoints = control.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)["runtimeEndpoints"]
    assert {e["name"]: e["liveVersion"] for e in endpoints} == {"DEFAULT": "2", "prod": "1"}
    names = [r["agentRuntimeName"] for page in control.get_paginator("list_agent_runtimes").paginate(maxResults=1)
             for r in page["agentRuntimes"]]
    assert "versions" in names and len(names) == len(set(names))

    # By id and account, as the data plane also allows.
    reply = data.invoke_agent_runtime(agentRuntimeArn=runtime_id, accountId="123456789012", payload=b'{"prompt":"x"}')
    assert json.loads(reply["response"].read())["version"] == "2"

    with pytest.raises(control.exceptions.ConflictException):
        control.delete_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="1")
    control.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod")
    wait_gone(
        lambda: control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod"),
        control.exceptions.ResourceNotFoundException,
    )
    assert control.delete_agent_runtime(agentRuntimeId=runtime_id)["status"] == "DELETING"
    wait_gone(lambda: control.get_agent_runtime(agentRuntimeId=runtime_id), control.exceptions.ResourceNotFoundException)
    with pytest.raises(data.exceptions.ResourceNotFoundException):
        invoke(data, arn, {"prompt": "hi"}, old)


def test_client_token_replays(shared_server, python_agent):
    control = shared_server.control
    artifact = artifact_of(control, python_agent.rsplit("/", 1)[1])
    token = "token-" + "x" * 40
    ask = dict(agentRuntimeName="tokens", agentRuntimeArtifact=artifact, roleArn=ROLE,
               networkConfiguration={"networkMode": "PUBLIC"}, clientToken=token)
    first = control.create_agent_runtime(**ask)
    again = control.create_agent_runtime(**ask)
    assert again["agentRuntimeArn"] == first["agentRuntimeArn"]
    with pytest.raises(control.exceptions.ConflictException):
        control.create_agent_runtime(**{**ask, "description": "other"})
    wait_ready(control, first["agentRuntimeId"])
    control.delete_agent_runtime(agentRuntimeId=first["agentRuntimeId"])


def test_second_deploy_updates(shared_server, tmp_path):
    """`eyot deploy` of the same name publishes a new version of the same runtime."""
    source = str(EXAMPLES / "python-agent")
    arns = set()
    for number in ("1", "2"):
        done = shared_server.cli("deploy", source, "--name", "twice", "--runtime", PYTHON, "--env", f"AGENT_VERSION={number}")
        arns.add(re.search(r"arn:aws:bedrock-agentcore:\S+runtime/twice-\w{10}", done.stdout).group(0))
        answer = shared_server.cli("invoke", "twice", '{"prompt":"hi"}')
        assert json.loads(answer.stdout)["version"] == number
    assert len(arns) == 1


def test_entry_points_of_other_shapes(shared_server, tmp_path):
    """A script further down imports from the package's root; a console script of the package runs the agent."""
    plain = (Path(__file__).parent / "agents/plain/main.py").read_text()
    files = {"src/app.py": "import core\ncore.main()\n", "core.py": plain.removesuffix("main()\n")}
    arn = deploy_files(shared_server, tmp_path, "deeper", files, "--entry-point", "src/app.py")
    assert invoke(shared_server.data, arn, {})[0]["turn"] == 1
    script = "#!/usr/bin/env python3\nimport runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    files = {"bin/instrument": script, "main.py": plain}
    arn = deploy_files(shared_server, tmp_path, "wrapped", files, "--entry-point", "instrument", "--entry-point", "main.py")
    assert invoke(shared_server.data, arn, {})[0]["turn"] == 1
