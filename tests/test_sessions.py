"""Sessions as an operator sees them: listed, shown, followed, stopped and summed up, by the command line and by requests."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import EYOT, Server, deploy_files, invoke, session_id, wait_endpoint

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
# Says a line to each stream on each call.
TALKER = PLAIN.replace(
    "        turn += 1\n",
    "        turn += 1\n"
    "        print(f'out {turn} \\x1b[31m', flush=True)\n"
    "        print(f'err {turn}', file=sys.stderr, flush=True)\n",
    1,
)
FIELDS = {
    "sessionId", "agentRuntimeArn", "endpoint", "version", "state", "reason", "createdAt", "lastActiveAt", "idleDeadline",
    "maxLifetimeDeadline",
}


class Signed:
    """Requests to a server, signed by botocore."""

    def __init__(self, server):
        env = server.env()
        self.url, self.region = env["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"], env["AWS_REGION"]
        self.credentials = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])

    def open(self, method, path, timeout=60, sign=True, **query):
        url = f"{self.url}/_eyot/{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        request = AWSRequest(method=method, url=url, data=b"")
        if sign:
            SigV4Auth(self.credentials, "bedrock-agentcore", self.region).add_auth(request)
        plain = urllib.request.Request(url, method=method, headers=dict(request.headers), data=b"" if method == "POST" else None)
        return urllib.request.urlopen(plain, timeout=timeout)

    def json(self, method, path, **query):
        with self.open(method, path, **query) as answer:
            return json.load(answer)

    def refused(self, method, path, **query):
        """The status, the exception's name and the document of a refusal."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.open(method, path, **query)
        error = caught.value
        return error.code, error.headers.get("x-amzn-errortype", "").split(":")[0], json.load(error)


def until(what, timeout=20):
    """Asks until the answer is something, and answers that."""
    deadline = time.monotonic() + timeout
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout} s"
        time.sleep(0.05)


def rows(server, kind):
    """The records of a kind as they are on disk."""
    with sqlite3.connect(f"file:{server.data_dir}/state.db?mode=ro", uri=True, timeout=20) as database:
        found = database.execute("SELECT key, value FROM records WHERE kind = ?", (kind,))
        return {key: json.loads(value)["data"] for key, value in found}


def ids(listed):
    return [session["sessionId"] for session in listed["sessions"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("sessions") / "data").start()
    yield server
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(60) == 0, server.stderr_text()


@pytest.fixture(scope="module")
def signed(server):
    return Signed(server)


@pytest.fixture(scope="module")
def arn(server, tmp_path_factory):
    return deploy_files(server, tmp_path_factory.mktemp("talker"), "talker", {"main.py": TALKER})


def runtime_id(arn):
    return arn.rsplit("/", 1)[1]


def test_a_session_is_listed_shown_stopped_and_remembered(server, signed, arn):
    session = session_id()
    invoke(server.data, arn, {}, session)
    [listed] = [s for s in signed.json("GET", "sessions", runtime="talker")["sessions"] if s["sessionId"] == session]
    assert FIELDS <= set(listed) and listed["agentRuntimeArn"] == arn and listed["endpoint"] == "DEFAULT"
    idle = until(lambda: (s := signed.json("GET", f"sessions/{session}"))["state"] == "IDLE" and s)
    assert idle["idleDeadline"] and idle["maxLifetimeDeadline"] and idle["endedAt"] is None
    assert idle["usage"]["requests"] == 1 and idle["usage"]["bytesOut"] > 0
    stopped = signed.json("POST", f"sessions/{session}/stop")
    assert (stopped["sessionId"], stopped["state"]) == (session, "TERMINATED")
    assert session not in ids(signed.json("GET", "sessions"))
    ended = until(lambda: [s for s in signed.json("GET", "sessions", ended="true")["sessions"] if s["sessionId"] == session])
    assert len(ended) == 1 and ended[0]["reason"] == "stopped" and ended[0]["endedAt"]
    assert signed.refused("POST", f"sessions/{session}/stop")[:2] == (404, "ResourceNotFoundException")
    # It can be called again, and is then another life of the same id.
    assert invoke(server.data, arn, {}, session)[0]["turn"] == 1
    assert signed.json("GET", f"sessions/{session}")["endedAt"] is None


def test_looking_neither_wakes_nor_prolongs(server, signed, arn):
    session = session_id()
    invoke(server.data, arn, {}, session)
    first = until(lambda: (s := signed.json("GET", f"sessions/{session}"))["state"] == "IDLE" and s)
    for _ in range(5):
        time.sleep(0.3)
        signed.json("GET", "sessions")
        with signed.open("GET", f"sessions/{session}/logs") as answer:
            answer.read()
        again = signed.json("GET", f"sessions/{session}")
    for field in ("lastActiveAt", "idleDeadline", "maxLifetimeDeadline"):
        assert again[field] == first[field], field
    assert again["usage"]["requests"] == 1


def test_a_call_in_flight_is_seen_as_active(server, signed, arn):
    session = session_id()
    call = threading.Thread(target=invoke, args=(server.data, arn, {"act": "sleep", "seconds": 3}, session))
    call.start()
    try:
        active = until(lambda: [
            s for s in signed.json("GET", "sessions", state="ACTIVE")["sessions"] if s["sessionId"] == session
        ])
        assert active[0]["callsInFlight"] == 1 and active[0]["idleDeadline"] is None
    finally:
        call.join()


def test_pages_add_up(server, signed, arn):
    sessions = sorted(session_id() for _ in range(5))
    for session in sessions:
        invoke(server.data, arn, {}, session)
    found, token = [], {}
    while True:
        page = signed.json("GET", "sessions", runtime=arn, maxResults="2", **token)
        assert len(page["sessions"]) <= 2
        found += ids(page)
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert len(found) == len(set(found)) and set(sessions) <= set(found)


def test_bad_requests_are_refused_by_name(signed):
    code, kind, document = signed.refused("GET", "sessions", colour="red", state="asleep", maxResults="0")
    assert (code, kind) == (400, "ValidationException")
    assert {field["name"] for field in document["fieldList"]} == {"colour", "state", "maxResults"}
    code, kind, document = signed.refused("POST", "sessions/stop")
    assert (code, kind) == (400, "ValidationException") and "all" in document["message"]
    assert signed.refused("GET", f"sessions/{session_id()}")[:2] == (404, "ResourceNotFoundException")
    assert signed.refused("GET", "sessions", sign=False)[0] == 403
    assert signed.refused("POST", "sessions/stop", sign=False, all="true")[0] == 403


def test_an_id_on_two_endpoints_must_be_named(server, signed, arn):
    server.control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id(arn), name="second", agentRuntimeVersion="1")
    wait_endpoint(server.control, runtime_id(arn), "second", "1")
    session = session_id()
    invoke(server.data, arn, {}, session)
    invoke(server.data, arn, {}, session, qualifier="second")
    code, kind, document = signed.refused("GET", f"sessions/{session}")
    assert (code, kind) == (409, "ConflictException")
    assert "endpoint=DEFAULT" in document["message"] and "endpoint=second" in document["message"]
    assert signed.json("GET", f"sessions/{session}", endpoint="second")["endpoint"] == "second"
    done = server.cli("sessions", "show", session, check=False)
    assert done.returncode == 1 and "--endpoint" in done.stderr and done.stdout == ""
    done = server.cli("sessions", "stop", session, "--endpoint", "second")
    assert done.stdout.split() == [session]
    assert signed.json("GET", f"sessions/{session}")["endpoint"] == "DEFAULT"


def test_logs_have_time_stream_and_request(server, signed, arn):
    session = session_id()
    reply = server.data.invoke_agent_runtime(agentRuntimeArn=arn, runtimeSessionId=session, payload=b"{}")
    reply["response"].read()
    request = reply["ResponseMetadata"]["RequestId"]

    def read():
        with signed.open("GET", f"sessions/{session}/logs") as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            lines = [json.loads(line) for line in answer]
        return lines if {"out 1 \x1b[31m", "err 1"} <= {line["text"] for line in lines} else None

    lines = {line["text"]: line for line in until(read)}
    out, err = lines["out 1 \x1b[31m"], lines["err 1"]
    assert (out["stream"], err["stream"]) == ("stdout", "stderr")
    assert abs(datetime.fromisoformat(out["time"][:19] + "+00:00").timestamp() - time.time()) < 60
    assert out["requestId"] == err["requestId"] == request
    with signed.open("GET", f"sessions/{session}/logs", tail="1") as answer:
        assert len(answer.readlines()) == 1
    shown = server.cli("sessions", "logs", session).stdout
    assert "stderr err 1" in shown and "\x1b" not in shown


def test_logs_are_followed_until_the_session_ends(server, arn):
    session = session_id()
    invoke(server.data, arn, {}, session)
    follow = subprocess.Popen(
        [EYOT, "sessions", "logs", session, "--follow", "--output", "json"],
        env={**os.environ, **server.env()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    texts = []
    reader = threading.Thread(target=lambda: texts.extend(json.loads(line)["text"] for line in follow.stdout))
    reader.start()
    try:
        until(lambda: "err 1" in texts)
        invoke(server.data, arn, {}, session)
        # While it is still followed: lines are not held back.
        until(lambda: "err 2" in texts)
        assert follow.poll() is None
        server.cli("sessions", "stop", session)
        assert follow.wait(20) == 0, follow.stderr.read()
    finally:
        follow.kill()
        reader.join()


def test_ctrl_c_ends_following(server, arn):
    session = session_id()
    invoke(server.data, arn, {}, session)
    follow = subprocess.Popen(
        [EYOT, "sessions", "logs", session, "-f", "-n", "1"],
        env={**os.environ, **server.env()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        assert follow.stdout.readline()
        follow.send_signal(signal.SIGINT)
        assert follow.wait(10) == 0 and follow.stderr.read() == ""
    finally:
        follow.kill()


def test_an_agent_that_died_leaves_its_last_lines(server, signed, arn):
    session = session_id()
    with pytest.raises(server.data.exceptions.ClientError):
        invoke(server.data, arn, {"act": "exit", "code": 7}, session)
    ended = until(lambda: (s := signed.json("GET", f"sessions/{session}"))["state"] == "TERMINATED" and s)
    assert ended["reason"] == "agent_exited" and ended["exit"]["code"] == 7
    assert "leaving because I was told to" in ended["logTail"]
    with signed.open("GET", f"sessions/{session}/logs", follow="true") as answer:
        lines = [json.loads(line) for line in answer]
    assert "leaving because I was told to" in [line["text"] for line in lines]
    assert lines[-1]["stream"] == "eyot" and "agent_exited" in lines[-1]["text"]
    shown = server.cli("sessions", "show", session).stdout
    assert "code 7" in shown and "leaving because I was told to" in shown


def test_the_command_line_lists_for_people_and_for_scripts(server, signed, arn):
    session = session_id()
    invoke(server.data, arn, {}, session)
    table = server.cli("sessions", "list", "--runtime", "talker").stdout.splitlines()
    assert table[0].split()[:4] == ["SESSION", "RUNTIME", "ENDPOINT", "VERSION"]
    [row] = [line for line in table if session in line]
    assert runtime_id(arn) in row and table[0].index("RUNTIME") == row.index(runtime_id(arn))
    document = json.loads(server.cli("sessions", "list", "--output", "json").stdout)
    assert session in ids(document) and FIELDS <= set(document["sessions"][0])
    assert json.loads(server.cli("sessions", "show", session, "--output", "json").stdout)["sessionId"] == session
    none = server.cli("sessions", "list", "--runtime", "no_such_runtime")
    assert none.stdout == "" and "no living sessions" in none.stderr
    wrong = server.cli("sessions", "list", "--state", "asleep", check=False)
    assert wrong.returncode == 1 and wrong.stdout == "" and "PAUSED" in wrong.stderr
    assert server.cli("sessions", "stop", check=False).returncode == 2
    done = server.cli("sessions", "stop", session, session_id(), check=False)
    assert done.returncode == 1 and done.stdout.split() == [session] and "no session" in done.stderr


def test_all_that_fit_are_stopped_and_no_others(server, tmp_path):
    arns = [deploy_files(server, tmp_path, name, {"main.py": PLAIN}) for name in ("stop_these", "keep_these")]
    sessions = {arn: [session_id() for _ in range(3)] for arn in arns}
    for arn, some in sessions.items():
        for session in some:
            invoke(server.data, arn, {}, session)
    done = server.cli("sessions", "stop", "--all", "--runtime", "stop_these", "--output", "json")
    document = json.loads(done.stdout)
    assert document["failed"] == []
    assert {one["sessionId"] for one in document["stopped"]} == set(sessions[arns[0]])
    left = json.loads(server.cli("sessions", "list", "--runtime", arns[1], "--output", "json").stdout)
    assert set(ids(left)) == set(sessions[arns[1]])


def test_usage_is_summed_by_runtime_and_day(server, signed, tmp_path):
    arn = deploy_files(server, tmp_path, "frugal", {"main.py": PLAIN})
    before = datetime.now(timezone.utc).date().isoformat()
    for calls in (1, 2):
        session = session_id()
        for _ in range(calls):
            invoke(server.data, arn, {}, session)
        server.cli("sessions", "stop", session)
    usage = json.loads(server.cli("sessions", "usage", "--runtime", arn, "--output", "json").stdout)
    total = usage["total"]
    assert (total["sessions"], total["requests"]) == (2, 3) and total["bytesOut"] > 0 and total["cpuSeconds"] > 0
    assert all(day["agentRuntimeArn"] == arn and day["day"] >= before for day in usage["usage"])
    assert "frugal-" in server.cli("sessions", "usage", "--runtime", "frugal").stdout
    assert signed.json("GET", "usage", runtime="frugal", to="2020-01-01")["usage"] == []
    with urllib.request.urlopen(f"{server.url}/_eyot/metrics", timeout=20) as answer:
        metrics = answer.read().decode()
    counted = {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines() if not line.startswith("#")}
    assert counted["eyot_session_requests_total"] >= 3 and counted["eyot_session_cpu_seconds_total"] > 0
    assert counted['eyot_session_bytes_total{direction="out"}'] > 0
    assert "session-" not in metrics and "frugal" not in metrics, "no id is a label"


def test_history_and_usage_outlive_the_server_and_kill_nine_counts_once(make_server, tmp_path):
    server = make_server(name="history").start()
    arn = deploy_files(server, tmp_path, "counted", {"main.py": PLAIN})
    stopped, running = session_id(), session_id()
    invoke(server.data, arn, {}, stopped)
    server.cli("sessions", "stop", stopped)
    invoke(server.data, arn, {}, running)
    until(lambda: rows(server, "session-lease"))
    server.kill()
    # What was not written of the living one is lost with the process; what was is counted, once.
    [row] = rows(server, "session-lease").values()
    assert row["sessionId"] == running
    server.start()
    signed = Signed(server)
    assert signed.json("GET", f"sessions/{stopped}")["reason"] == "stopped"
    here = signed.json("GET", f"sessions/{running}")
    if here["endedAt"] is None:
        signed.json("POST", f"sessions/{running}/stop")
    total = until(lambda: (t := signed.json("GET", "usage", runtime="counted")["total"])["sessions"] == 2 and t)
    assert total["requests"] == 1 + row["usage"]["requests"]
    assert rows(server, "session-lease") == {}
    listed = ids(signed.json("GET", "sessions", ended="true"))
    assert sorted(listed) == sorted([stopped, running])


def test_a_server_whose_node_was_taken_over_stops_at_once(make_server):
    server = make_server(name="taken").start()
    [(key, lease)] = rows(server, "lease").items()
    # What a second server does that does not see the lock: it takes the lease with a higher epoch.
    lease["epoch"] += 1
    with sqlite3.connect(server.data_dir / "state.db", timeout=20) as database:
        database.execute(
            "UPDATE records SET value = ?, revision = revision + 1000 WHERE kind = 'lease' AND key = ?",
            (json.dumps({"schema": 1, "data": lease}).encode(), key),
        )
    # It asks every ten seconds, and drains nothing.
    assert server.process.wait(25) == 1
    assert "another server has taken over node" in server.stderr_text()
