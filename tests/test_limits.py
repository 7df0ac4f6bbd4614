"""Limits on how fast and how much: what exceeds them is told apart, says which limit it was and when to come back."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from conftest import ROLE, deploy_files, invoke, session_id

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
RATES = "EYOT__RUNTIME__QUOTAS__RATES__"


def deployed(server, tmp_path):
    """The data client and the ARN of an agent on it."""
    return server.data, deploy_files(server, tmp_path, "plain", {"main.py": PLAIN})


def retry_after(error):
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    value = error.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]
    assert re.fullmatch(r"[1-9]\d*", value), value
    return int(value)


def test_too_many_invocations_a_second(make_server, tmp_path):
    server = make_server(driver="process", env={RATES + "INVOKE_PER_SECOND": "3"}).start()
    data, arn = deployed(server, tmp_path)
    session = session_id()
    invoke(data, arn, {}, session)
    time.sleep(1.1)

    def call(_):
        try:
            return invoke(data, arn, {}, session)
        except data.exceptions.ThrottlingException as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert 1 <= len(refused) <= 5
    for error in refused:
        assert retry_after(error) == 1
        message = error.response["Error"]["Message"]
        for part in ("InvokeAgentRuntime", "3 times a second", arn.rsplit("/", 1)[1], "runtime.quotas.rates.invoke_per_second"):
            assert part in message
    time.sleep(retry_after(refused[0]))
    invoke(data, arn, {}, session)


def test_too_many_control_calls_a_second(make_server, tmp_path):
    server = make_server(driver="process", env={RATES + "CREATE_PER_SECOND": "1"}).start()
    control = server.control
    artifact = {"codeConfiguration": {
        "code": {"s3": {"bucket": "eyot-artifacts", "prefix": "none.zip"}}, "runtime": "PYTHON_3_11", "entryPoint": ["main.py"],
    }}

    def create(number):
        return control.create_agent_runtime(
            agentRuntimeName=f"agent{number}", roleArn=ROLE, agentRuntimeArtifact=artifact,
            networkConfiguration={"networkMode": "PUBLIC"})

    with pytest.raises(control.exceptions.ThrottlingException) as caught:
        for number in range(20):
            create(number)
    assert retry_after(caught.value) == 1
    assert "runtime.quotas.rates.create_per_second" in caught.value.response["Error"]["Message"]
    time.sleep(1)
    create(100)
    control.list_agent_runtimes()  # others have limits of their own


def test_too_many_new_sessions_a_minute(make_server, tmp_path):
    server = make_server(driver="process", env={RATES + "NEW_SESSIONS_PER_MINUTE": "2"}).start()
    data, arn = deployed(server, tmp_path)
    first = session_id()
    invoke(data, arn, {}, first)
    invoke(data, arn, {}, session_id())
    with pytest.raises(data.exceptions.ThrottlingException) as caught:
        invoke(data, arn, {}, session_id())
    assert 1 <= retry_after(caught.value) <= 30
    assert "runtime.quotas.rates.new_sessions_per_minute" in caught.value.response["Error"]["Message"]
    assert invoke(data, arn, {}, first)[0]["turn"] == 2, "calls of a session that is there go on"


def test_too_many_sessions(make_server, tmp_path):
    server = make_server(driver="process", env={"EYOT__RUNTIME__SESSION__MAX_SESSIONS": "1"}).start()
    data, arn = deployed(server, tmp_path)
    first = session_id()
    invoke(data, arn, {}, first)
    with pytest.raises(data.exceptions.ServiceQuotaExceededException) as caught:
        invoke(data, arn, {}, session_id())
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 402
    data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=first)
    invoke(data, arn, {}, session_id())


def test_sdks_wait_and_try_again_by_themselves(make_server, tmp_path):
    server = make_server(driver="process", env={RATES + "INVOKE_PER_SECOND": "2"}).start()
    _, arn = deployed(server, tmp_path)
    patient = server.client("bedrock-agentcore", retries={"total_max_attempts": 8, "mode": "standard"})
    session = session_id()
    for turn in range(1, 7):
        assert invoke(patient, arn, {}, session)[0]["turn"] == turn


def test_a_runtimes_tag_shows_callers_what_its_agent_said(make_server, tmp_path):
    server = make_server(driver="process").start()
    data, arn = deployed(server, tmp_path)

    def failure():
        with pytest.raises(ClientError) as caught:
            invoke(data, arn, {"act": "status", "status": 500})
        response = caught.value.response
        assert "the agent says so" not in response["Error"]["Message"]
        return response["ResponseMetadata"]["HTTPHeaders"].get("x-eyot-agent-error")

    assert failure() is None
    server.control.tag_resource(resourceArn=arn, tags={"eyot:agent-errors": "on"})
    assert "the agent says so" in failure()
    done = server.cli("invoke", "plain", '{"act": "status", "status": 500}', check=False)
    assert done.returncode == 1 and "the agent says so" in done.stderr
    server.control.untag_resource(resourceArn=arn, tagKeys=["eyot:agent-errors"])
    assert failure() is None
    with pytest.raises(server.control.exceptions.ValidationException) as caught:
        server.control.tag_resource(resourceArn=arn, tags={"eyot:agent-errors": "maybe"})
    assert "eyot:agent-errors" in caught.value.response["Error"]["Message"]


WARMED = """
import json, os, pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {"status": "Healthy"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/warm" and os.environ.get("MODEL") != "there":
            self.answer(503, {"error": "the model is missing"})
        else:
            self.answer(200, {"path": self.path})

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", 8080))), Agent).serve_forever()
"""


def test_a_version_whose_warm_up_hook_fails_does_not_serve(make_server, tmp_path):
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "warmed", {"main.py": WARMED})
    control, data, runtime = server.control, server.data, arn.rsplit("/", 1)[1]
    made = control.get_agent_runtime(agentRuntimeId=runtime)
    hook = {"build": {"warmup": {"action": {"httpPost": {"path": "/warm"}}}}}

    def update(model):
        control.update_agent_runtime(
            agentRuntimeId=runtime, roleArn=ROLE, agentRuntimeArtifact=made["agentRuntimeArtifact"],
            networkConfiguration={"networkMode": "PUBLIC"}, hooksConfiguration=hook, environmentVariables={"MODEL": model})
        deadline = time.monotonic() + 60
        while True:
            got = control.get_agent_runtime(agentRuntimeId=runtime)
            if got["status"] != "UPDATING":
                return got
            assert time.monotonic() < deadline
            time.sleep(0.05)

    failed = update("gone")
    assert failed["status"] == "UPDATE_FAILED" and failed["hooksConfiguration"] == hook
    assert "503" in failed["failureReason"] and "the model is missing" in failed["failureReason"]
    assert invoke(data, arn, {})[0] == {"path": "/invocations"}, "the version before serves on"
    assert update("there")["status"] == "READY"
    assert control.get_agent_runtime_endpoint(agentRuntimeId=runtime, endpointName="DEFAULT")["liveVersion"] == "3"
