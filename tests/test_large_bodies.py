"""100,000,000 bytes each way, and not one more; the server's memory does not grow with the payload."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from conftest import deploy_files

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
LIMIT = 100_000_000


def peak_memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


def reset_peak(server):
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    from conftest import Server, session_id, invoke
    server = Server(tmp_path_factory.mktemp("large") / "data").start()
    arn = deploy_files(server, tmp_path_factory.mktemp("large-source"), "large", {"main.py": PLAIN})
    session = session_id()
    for _ in range(20):
        invoke(server.data, arn, {}, session)
    yield server, arn, session
    assert server.stop() == 0


def test_down(warm):
    server, arn, session = warm
    reset_peak(server)
    before, digest, size = peak_memory(server), hashlib.sha256(), 0
    reply = server.data.invoke_agent_runtime(
        agentRuntimeArn=arn, runtimeSessionId=session, payload=b'{"act":"bytes","bytes":%d}' % LIMIT
    )
    for block in reply["response"].iter_chunks(1 << 20):
        digest.update(block)
        size += len(block)
    assert size == LIMIT and digest.hexdigest() == hashlib.sha256(b"\xab" * LIMIT).hexdigest()
    growth = peak_memory(server) - before
    assert growth < 16 << 20, f"the server's peak memory grew by {growth} bytes"


def test_up(warm):
    server, arn, session = warm
    payload = bytes(range(256)) * (LIMIT // 256)
    payload += b"x" * (LIMIT - len(payload))
    reset_peak(server)
    before = peak_memory(server)
    reply = server.data.invoke_agent_runtime(
        agentRuntimeArn=arn, runtimeSessionId=session, contentType="application/octet-stream", payload=payload
    )
    answer = json.loads(reply["response"].read())
    assert answer == {"size": LIMIT, "sha256": hashlib.sha256(payload).hexdigest()}
    growth = peak_memory(server) - before
    assert growth < 16 << 20, f"the server's peak memory grew by {growth} bytes"


def test_one_byte_more_is_refused_before_the_agent_sees_it(warm):
    server, arn, session = warm
    from conftest import invoke
    data = server.data
    turn = invoke(data, arn, {}, session)[0]["turn"]
    for client in (data, server.client("bedrock-agentcore", parameter_validation=False)):
        with pytest.raises(Exception) as caught:
            client.invoke_agent_runtime(agentRuntimeArn=arn, runtimeSessionId=session, payload=b"x" * (LIMIT + 1))
    assert caught.value.response["Error"]["Code"] == "ValidationException", caught.value
    assert "100000000" in caught.value.response["Error"]["Message"].replace(",", "")
    assert invoke(data, arn, {}, session)[0]["turn"] == turn + 1
