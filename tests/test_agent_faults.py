"""An agent that fails is told apart from a platform that fails, and the caller learns which fault it was."""

import json
import time

import pytest
from conftest import deploy_files, invoke, session_id
from pathlib import Path
from urllib.parse import unquote

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()


@pytest.fixture(scope="module")
def plain(shared_server, tmp_path_factory):
    arn = deploy_files(shared_server, tmp_path_factory.mktemp("plain"), "plain", {"main.py": PLAIN})
    show_agent_errors(shared_server, arn)
    return arn


@pytest.fixture(scope="module")
def quick_server(tmp_path_factory):
    """A server that loses patience quickly."""
    from conftest import Server, sandbox_leftovers
    env = {
        "EYOT__RUNTIME__SESSION__START_DEADLINE": "3s",
        "EYOT__RUNTIME__SESSION__FIRST_ANSWER_DEADLINE": "2s",
        "EYOT__RUNTIME__SESSION__PING_INTERVAL": "300ms",
    }
    server = Server(tmp_path_factory.mktemp("quick") / "data", env=env).start()
    yield server
    assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


def agent_error(server, arn, payload, session=None):
    """What the caller is told, and what the agent said, where its owner lets callers know."""
    data = server.data
    with pytest.raises(data.exceptions.RuntimeClientError) as caught:
        invoke(data, arn, payload, session)
    metadata = caught.value.response["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 424
    return caught.value.response["Error"]["Message"], unquote(metadata["HTTPHeaders"].get("x-eyot-agent-error", ""))


def show_agent_errors(server, arn):
    server.control.tag_resource(resourceArn=arn, tags={"eyot:agent-errors": "on"})


@pytest.mark.parametrize("status", [400, 404, 418, 500, 503])
def test_an_error_answer_is_the_agents(shared_server, plain, status):
    message, said = agent_error(shared_server, plain, {"act": "status", "status": status})
    assert f"Received error ({status}) from runtime." in message
    assert "the agent says so" in said and "the agent says so" not in message


def test_a_crash_says_the_exit_code_and_the_next_call_works(shared_server, plain):
    session = session_id()
    message, _ = agent_error(shared_server, plain, {"act": "exit", "code": 7}, session)
    assert "7" in message
    deadline = time.monotonic() + 10
    while True:
        try:
            answer, _ = invoke(shared_server.data, plain, {}, session)
            break
        except shared_server.data.exceptions.RetryableConflictException:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert answer["turn"] == 1


def test_a_stream_that_dies_does_not_end_cleanly(shared_server, plain):
    reply = shared_server.data.invoke_agent_runtime(agentRuntimeArn=plain, payload=b'{"act":"break"}')
    with pytest.raises(Exception) as caught:
        reply["response"].read()
    assert "IncompleteRead" in repr(caught.value) or "Connection" in repr(caught.value) or "chunk" in repr(caught.value).lower()


@pytest.mark.parametrize(
    "name, env, told, wrote",
    [
        ("dies_at_start", ["AGENT_EXIT_AT_START=9"], ["9"], "the moon is full"),
        ("wrong_port", ["AGENT_PORT=3000"], ["8080", "3000"], ""),
        ("never_listens", ["AGENT_NEVER_LISTENS=1"], ["8080"], ""),
    ],
)
def test_a_start_that_fails_says_how(quick_server, tmp_path, name, env, told, wrote):
    flags = [part for value in env for part in ("--env", value)]
    arn = deploy_files(quick_server, tmp_path, name, {"main.py": PLAIN}, *flags)
    show_agent_errors(quick_server, arn)
    message, said = agent_error(quick_server, arn, {})
    for part in told:
        assert part in message, message
    assert wrote in said and (not wrote or wrote not in message)


def test_no_answer_in_time_is_504(quick_server, tmp_path):
    arn = deploy_files(quick_server, tmp_path, "slow", {"main.py": PLAIN})
    data = quick_server.data
    with pytest.raises(data.exceptions.ClientError) as caught:
        invoke(data, arn, {"act": "sleep", "seconds": 30})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 504


def test_a_sick_agent_is_ended(quick_server, tmp_path):
    arn = deploy_files(quick_server, tmp_path, "sick", {"main.py": PLAIN})
    session = session_id()
    first, _ = invoke(quick_server.data, arn, {"act": "hello"}, session)
    invoke(quick_server.data, arn, {"act": "sick"}, session)
    data, deadline = quick_server.data, time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
        except data.exceptions.ResourceNotFoundException:
            return  # it had been ended already
        except data.exceptions.RetryableConflictException:
            time.sleep(0.1)
            continue
        # Stopped by us rather than by its ill health: give the next session more time.
        invoke(data, arn, {"act": "sick"}, session)
        time.sleep(4)
    pytest.fail("a session whose /ping fails was not ended")


def test_memory_limit_is_named(make_server, tmp_path):
    server = make_server(env={"EYOT__RUNTIME__SESSION__LIMITS__MEMORY": str(256 << 20)}).start()
    if server.driver != "container":
        pytest.skip("only the container driver limits memory")
    arn = deploy_files(server, tmp_path, "hog", {"main.py": PLAIN})
    assert "memory" in agent_error(server, arn, {"act": "memory"})[0]


def test_a_client_that_leaves_cancels_its_call_and_keeps_the_session(shared_server, plain):
    session = session_id()
    reply = shared_server.data.invoke_agent_runtime(
        agentRuntimeArn=plain, runtimeSessionId=session, payload=b'{"act":"drip","count":600,"pause":0.05}'
    )
    assert next(reply["response"].iter_lines(chunk_size=1)).startswith(b"data:")
    reply["response"].close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer, _ = invoke(shared_server.data, plain, {"act": "cancelled"}, session)
        if answer["cancelled"] == 1:
            return
        time.sleep(0.1)
    pytest.fail("the agent's call went on after its client had left")


def test_headers_that_reach_the_agent(shared_server, plain):
    """Session, request id, trace and content headers; nothing else."""
    session = session_id()
    reply = shared_server.data.invoke_agent_runtime(
        agentRuntimeArn=plain, runtimeSessionId=session, payload=b'{"act": "raw"}', contentType="application/json",
        accept="application/json", traceId="Root=1-2-3", traceParent="00-a-b-01", baggage="k=v", runtimeUserId="someone",
    )
    assert reply["runtimeSessionId"] == session
    seen = json.loads(reply["response"].read())
    headers = seen["headers"]
    assert seen["raw"] == '{"act": "raw"}'
    assert headers["x-amzn-bedrock-agentcore-runtime-session-id"] == session
    assert headers["x-amzn-bedrock-agentcore-runtime-request-id"]
    assert (headers["x-amzn-trace-id"], headers["traceparent"], headers["baggage"]) == ("Root=1-2-3", "00-a-b-01", "k=v")
    allowed = {
        "host", "content-length", "transfer-encoding", "content-type", "accept", "x-amzn-trace-id", "traceparent", "baggage",
        "x-amzn-bedrock-agentcore-runtime-session-id", "x-amzn-bedrock-agentcore-runtime-request-id",
    }
    assert set(headers) <= allowed


def test_allow_listed_headers(shared_server, tmp_path):
    from conftest import ROLE, wait_ready
    control, data = shared_server.control, shared_server.data
    arn = deploy_files(shared_server, tmp_path, "headers", {"main.py": PLAIN})
    runtime_id = arn.rsplit("/", 1)[1]
    artifact = control.get_agent_runtime(agentRuntimeId=runtime_id)["agentRuntimeArtifact"]
    control.update_agent_runtime(
        agentRuntimeId=runtime_id, agentRuntimeArtifact=artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"},
        requestHeaderConfiguration={"requestHeaderAllowlist": ["X-Tenant", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Colour"]},
    )
    wait_ready(control, runtime_id)

    def add(request, **_):
        request.headers.add_header("X-Tenant", "north")
        request.headers.add_header("X-Other", "secret")
        request.headers.add_header("X-Amzn-Bedrock-AgentCore-Runtime-Custom-Colour", "green")

    data.meta.events.register("before-sign.bedrock-agentcore.InvokeAgentRuntime", add)
    headers = invoke(data, arn, {"act": "raw"})[0]["headers"]
    assert headers["x-tenant"] == "north"
    assert headers["x-amzn-bedrock-agentcore-runtime-custom-colour"] == "green"
    assert "x-other" not in headers and "authorization" not in headers


def test_idle_busy_and_lifetime(make_server, tmp_path):
    """The shortest idle time that the API allows, once: an idle session ends, a busy one does not."""
    from conftest import ROLE, wait_ready
    server = make_server().start()
    control, data = server.control, server.data
    arn = deploy_files(server, tmp_path, "idle", {"main.py": PLAIN})
    runtime_id = arn.rsplit("/", 1)[1]
    artifact = control.get_agent_runtime(agentRuntimeId=runtime_id)["agentRuntimeArtifact"]
    control.update_agent_runtime(
        agentRuntimeId=runtime_id, agentRuntimeArtifact=artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"},
        lifecycleConfiguration={"idleRuntimeSessionTimeout": 60, "maxLifetime": 90},
    )
    wait_ready(control, runtime_id)
    idle, busy = session_id(), session_id()
    started = time.monotonic()
    invoke(data, arn, {}, idle)
    invoke(data, arn, {"act": "busy", "busy": True}, busy)

    def ended(session):
        try:
            data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
            return False
        except data.exceptions.ResourceNotFoundException:
            return True

    time.sleep(max(0, started + 78 - time.monotonic()))
    assert ended(idle), "an idle session outlived its idle timeout by more than 15 s"
    assert invoke(data, arn, {}, busy)[0]["turn"] == 2, "a busy session was ended as idle"
    time.sleep(max(0, started + 108 - time.monotonic()))
    assert ended(busy), "a session outlived maxLifetime by more than 15 s"
