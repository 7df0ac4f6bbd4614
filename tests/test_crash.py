"""kill -9 of the server at any moment, a hundred times: no record is half-made, sessions go on, and nothing is left over."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import ROLE, deploy_files, invoke, sandbox_leftovers, session_id, signed
from survival import alive, call_until_answered, describe, living, nobodys

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
SETTLED = {"READY", "CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED"}


def marked_processes(mark):
    """Processes whose environment carries the mark: the agents of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def cgroups_named(names):
    """Directories of these names below any cgroup hierarchy."""
    return {os.path.join(root, d) for root, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs if d in names}


def cgroup_names(processes):
    """The names that a server's driver gave to the cgroups of these processes, its own group's and theirs."""
    names = set()
    for process in processes:
        text = Path(f"/proc/{process}/cgroup").read_text()
        names |= {part for line in text.splitlines() for part in line.split("/") if part.startswith("eyot-")}
    return names


class Storm:
    """Clients that create, update, invoke and delete until the server dies under them."""

    def __init__(self, server, arn, mark):
        self.server, self.mark, self.stopping = server, mark, False
        self.arn, self.runtime_id = arn, arn.rsplit("/", 1)[1]
        config = dict(read_timeout=5, connect_timeout=2)
        self.control = server.client("bedrock-agentcore-control", **config)
        self.data = server.client("bedrock-agentcore", **config)
        self.artifact = self.control.get_agent_runtime(agentRuntimeId=self.runtime_id)["agentRuntimeArtifact"]
        self.settings = dict(
            agentRuntimeArtifact=self.artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"},
            environmentVariables={"EYOT_TEST_MARK": mark},
        )
        self.threads = [threading.Thread(target=self.loop, args=(step,)) for step in (self.create, self.update, self.call)]
        for thread in self.threads:
            thread.start()

    def loop(self, step):
        while not self.stopping:
            try:
                step()
            except Exception:  # the server is being killed: any failure is fine here, the records are checked later
                time.sleep(0.01)

    def create(self):
        made = self.control.create_agent_runtime(agentRuntimeName=f"storm{random.getrandbits(40)}", **self.settings)
        time.sleep(random.random() * 0.05)
        self.control.delete_agent_runtime(agentRuntimeId=made["agentRuntimeId"])

    def update(self):
        self.control.update_agent_runtime(agentRuntimeId=self.runtime_id, **self.settings)
        time.sleep(random.random() * 0.1)

    def call(self):
        invoke(self.data, self.arn, {}, session_id())

    def end(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def settle(control, deadline=60):
    """Waits until no record is between two states; answers all runtimes."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        runtimes = [r for page in control.get_paginator("list_agent_runtimes").paginate() for r in page["agentRuntimes"]]
        if all(r["status"] in SETTLED for r in runtimes):
            return runtimes
        time.sleep(0.05)
    raise AssertionError(f"half-made after {deadline} s: {[(r['agentRuntimeName'], r['status']) for r in runtimes]}")


def stop_all(server, deadline=30):
    """Ends every session, also those that were still starting when their server was killed."""
    end = time.monotonic() + deadline
    while living(server):
        assert time.monotonic() < end, living(server)
        signed(server, "POST", "/_eyot/sessions/stop?all=true")


@pytest.mark.parametrize("driver, rounds", [("auto", 70), ("process", 30)])
def test_kill_nine_a_hundred_times(make_server, tmp_path, driver, rounds):
    mark = f"mark-{random.getrandbits(64):x}"
    server = make_server(driver=driver, env={"EYOT__RUNTIME__SESSION__STOP_GRACE": "1s"}).start()
    arn = deploy_files(server, tmp_path, "storm", {"main.py": PLAIN}, "--env", f"EYOT_TEST_MARK={mark}")
    runtime_id = arn.rsplit("/", 1)[1]
    random.seed(20261122)
    for number in range(rounds):
        kept = session_id()
        assert call_until_answered(server.data, arn, kept, 60)["turn"] == 1
        storm = Storm(server, arn, mark)
        time.sleep(random.random() * 0.5)
        server.kill()
        storm.end()
        before = marked_processes(mark)
        server.start()
        control = server.control
        for runtime in settle(control):
            got = control.get_agent_runtime(agentRuntimeId=runtime["agentRuntimeId"])
            if got["agentRuntimeName"] != "storm" and got["status"] == "READY":
                assert got["agentRuntimeVersion"] == "1"
                control.delete_agent_runtime(agentRuntimeId=runtime["agentRuntimeId"])
        # What runs on from before the kill is a session's that the server knows, with its state.
        assert nobodys(server, before) == [], f"round {number}: agents of before the kill are nobody's"
        assert call_until_answered(server.data, arn, kept, 10)["turn"] == 2, f"round {number}: a session lost its state"
        stop_all(server)
        left = [describe(pid) for pid in before if alive(pid)]
        assert left == [], f"round {number}: agents of before the kill outlive their sessions"
        versions = [
            int(v["agentRuntimeVersion"])
            for page in control.get_paginator("list_agent_runtime_versions").paginate(agentRuntimeId=runtime_id)
            for v in page["agentRuntimes"]
        ]
        assert sorted(versions) == list(range(1, len(versions) + 1)), "versions have a gap or a double"
        answer, _ = invoke(server.data, arn, {}, session_id())
        assert answer["turn"] == 1
    groups = cgroup_names(marked_processes(mark))
    if server.driver == "container" and os.geteuid() == 0:
        assert groups and cgroups_named(groups), "the agents should run in cgroups of ours"
    assert server.stop() == 0, server.stderr_text()
    assert marked_processes(mark) == []
    assert sandbox_leftovers(server.data_dir) == []
    # The driver's own group, with all that was in it, is gone as well: 100 kills left no cgroup.
    assert cgroups_named(groups) == set()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_drain_finishes_what_is_in_flight(make_server, tmp_path, how):
    """Either signal lets answers finish; then SIGINT ends the sessions, and SIGTERM leaves them to the next process."""
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "drain", {"main.py": PLAIN})
    session = session_id()
    invoke(server.data, arn, {}, session)
    answers = []
    call = threading.Thread(target=lambda: answers.append(invoke(server.data, arn, {"act": "sleep", "seconds": 2}, session)))
    call.start()
    time.sleep(0.5)
    assert server.stop(how) == 0, server.stderr_text()
    call.join(30)
    assert answers and answers[0][0] == {"slept": 2}
    if how == signal.SIGTERM:
        assert sandbox_leftovers(server.data_dir) != []
        server.start()
        assert invoke(server.data, arn, {}, session)[0]["turn"] == 3
        assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []
