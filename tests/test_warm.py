"""Warm sandboxes and pausing, with the real binary: ready before anybody asks, used once, ready before a version serves."""

import re
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import deploy_files, invoke, sandbox_leftovers, session_id, signed, wait_endpoint

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()


def metric(server, name):
    """The value of a metric without labels, or the sum over its labels."""
    with urllib.request.urlopen(f"{server.url}/_eyot/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(_total)?(\{{.*\}})? ", line)]
    return sum(values)


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to be")


def report(server, session):
    return signed(server, "GET", f"/_eyot/sessions/{session}")


def test_a_new_session_finds_its_sandbox_ready(make_server, tmp_path):
    one = {"EYOT__RUNTIME__SESSION__WARM__MIN": "1", "EYOT__RUNTIME__SESSION__WARM__MAX": "1"}
    server = make_server(env=one).start()
    arn = deploy_files(server, tmp_path, "warm", {"main.py": PLAIN})
    # The endpoint served only when its warm sandbox was ready.
    assert metric(server, "eyot_warm_sandboxes") == 1
    sandboxes = set()
    for _ in range(4):
        session = session_id()
        answer, _ = invoke(server.data, arn, {}, session)
        assert answer["turn"] == 1 and answer["session"] == session
        shown = report(server, session)
        assert shown["start"]["warm"], shown
        sandboxes.add(shown["sandbox"])
        wait_for(lambda: metric(server, "eyot_warm_sandboxes") == 1)
    assert len(sandboxes) == 4, "each is used once"


def test_a_new_version_is_warm_before_it_serves(make_server, tmp_path):
    server = make_server(env={"EYOT__RUNTIME__SESSION__WARM__MIN": "1"}).start()
    arn = deploy_files(server, tmp_path, "warm", {"main.py": PLAIN})
    old = session_id()
    invoke(server.data, arn, {}, old)
    deploy_files(server, tmp_path, "warm", {"main.py": PLAIN.replace('"turn"', '"version2": True, "turn"')})
    wait_endpoint(server.control, arn.rsplit("/", 1)[1], "DEFAULT", "2")
    new = session_id()
    answer, _ = invoke(server.data, arn, {}, new)
    assert answer.get("version2") and report(server, new)["start"]["warm"]
    answer, _ = invoke(server.data, arn, {}, old)
    assert "version2" not in answer, "a running session keeps its version"


def test_after_kill_nine_nobody_gets_a_sandbox_that_another_had(make_server, tmp_path):
    server = make_server(env={"EYOT__RUNTIME__SESSION__WARM__MIN": "2"}).start()
    arn = deploy_files(server, tmp_path, "warm", {"main.py": PLAIN})
    before = session_id()
    assert invoke(server.data, arn, {}, before)[0]["turn"] == 1
    server.kill()
    server.start()
    wait_for(lambda: metric(server, "eyot_warm_sandboxes") == 2)
    for _ in range(4):
        assert invoke(server.data, arn, {}, session_id())[0]["turn"] == 1
    assert invoke(server.data, arn, {}, before)[0]["turn"] == 2
    assert server.stop() == 0
    assert sandbox_leftovers(server.data_dir) == []


def test_a_tag_sets_the_least_number(make_server, tmp_path):
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "warm", {"main.py": PLAIN})
    assert metric(server, "eyot_warm_sandboxes") == 0
    server.control.tag_resource(resourceArn=arn, tags={"eyot:warm": "2"})
    wait_for(lambda: metric(server, "eyot_warm_sandboxes") == 2)
    server.control.untag_resource(resourceArn=arn, tagKeys=["eyot:warm"])
    wait_for(lambda: metric(server, "eyot_warm_sandboxes") == 0)
    with pytest.raises(server.control.exceptions.ValidationException, match="eyot:warm"):
        server.control.tag_resource(resourceArn=arn, tags={"eyot:warm": "many"})


def test_a_paused_session_answers_as_if_nothing_had_been(make_server, tmp_path):
    server = make_server(env={"EYOT__RUNTIME__SESSION__PAUSE_AFTER": "1s"}).start()
    if server.driver != "container":
        pytest.skip("the driver in use cannot pause")
    arn = deploy_files(server, tmp_path, "rest", {"main.py": PLAIN})
    session = session_id()
    for turn in (1, 2, 3):
        assert invoke(server.data, arn, {}, session)[0]["turn"] == turn
        wait_for(lambda: report(server, session)["state"] == "PAUSED")
        # Looking does not wake it.
        time.sleep(0.5)
        assert report(server, session)["state"] == "PAUSED"
    # A paused one ends like any other, and leaves nothing.
    assert server.stop() == 0
    assert sandbox_leftovers(server.data_dir) == []
