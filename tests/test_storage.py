"""Session storage: what a session writes below its mount path survives its sandbox, and is its own."""

import time

import pytest
from conftest import ROLE, deploy_files, invoke, session_id

AGENT = """
import json, os, pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTES = pathlib.Path("/mnt/data/notes")

class Agent(BaseHTTPRequestHandler):
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if "note" in ask:
            with NOTES.open("a") as notes:
                notes.write(ask["note"] + "\\n")
        self.answer({"notes": NOTES.read_text().split() if NOTES.exists() else []})

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", 8080))), Agent).serve_forever()
"""
MOUNTED = [{"sessionStorage": {"mountPath": "/mnt/data"}}]


@pytest.fixture
def updated(make_server, tmp_path):
    """A server, an ARN, and what updates the runtime with session storage; skips where the driver has none."""
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "notes", {"main.py": AGENT})
    control, runtime = server.control, arn.rsplit("/", 1)[1]
    artifact = control.get_agent_runtime(agentRuntimeId=runtime)["agentRuntimeArtifact"]

    def update(**more):
        more = {"filesystemConfigurations": MOUNTED, **more}
        control.update_agent_runtime(
            agentRuntimeId=runtime, roleArn=ROLE, agentRuntimeArtifact=artifact,
            networkConfiguration={"networkMode": "PUBLIC"}, **more)
        deadline = time.monotonic() + 60
        while True:
            got = control.get_agent_runtime(agentRuntimeId=runtime)
            if got["status"] != "UPDATING":
                assert got["status"] == "READY", got
                return got
            assert time.monotonic() < deadline
            time.sleep(0.05)

    try:
        assert update()["filesystemConfigurations"] == MOUNTED
    except control.exceptions.ValidationException as error:
        assert "filesystemConfigurations[0].sessionStorage" in str(error)
        pytest.skip(f"the {server.driver} driver has no session storage on this host")
    return server, arn, update


def test_storage_survives_the_sandbox_and_not_the_version(updated):
    server, arn, update = updated
    data, session = server.data, session_id()
    assert invoke(data, arn, {"note": "one"}, session)[0] == {"notes": ["one"]}
    data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    assert invoke(data, arn, {"note": "two"}, session)[0] == {"notes": ["one", "two"]}
    assert invoke(data, arn, {}, session_id())[0] == {"notes": []}, "another session has its own"
    update(hooksConfiguration={"build": {"warmup": {"action": {"httpPost": {"path": "/warm"}}}}})
    data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    assert invoke(data, arn, {}, session)[0] == {"notes": []}, "another version begins anew"


def test_other_file_systems_are_refused_by_name(updated):
    server, _, update = updated
    with pytest.raises(server.control.exceptions.ValidationException) as caught:
        update(filesystemConfigurations=[*MOUNTED, {"efsAccessPoint": {
            "accessPointArn": "arn:aws:elasticfilesystem:us-west-2:123456789012:access-point/fsap-0123456789abcdef0",
            "mountPath": "/mnt/efs"}}])
    assert "filesystemConfigurations[1].efsAccessPoint" in str(caught.value)
    assert "sessionStorage" in str(caught.value)
