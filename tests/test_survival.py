"""Sessions outlive what happens to their server, what dies is replaced, and nothing is left of what has ended.

Bounded for every run; `cargo xtask soak` runs the same at length (`EYOT_SOAK_MINUTES`, `EYOT_SOAK_SESSIONS`).
"""

import json
import os
import random
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import PYTHON, ROLE, deploy_files, invoke, sandbox_leftovers, session_id, signed, wait_ready
from survival import (
    HELLO, PLAIN, QUICK, Held, Talk, address, call_until_answered, children, churn, details, guest_of, living, nobodys, settle, strike,
)
from test_crash import cgroups_named, marked_processes

MINUTES = float(os.environ.get("EYOT_SOAK_MINUTES", "0"))
SESSIONS = int(os.environ.get("EYOT_SOAK_SESSIONS", "300"))
BUSY = Path(__file__).parent / "agents/busy"


def rounds(least):
    """Numbers of rounds: so many, and with a soak as many as its time has room for."""
    end, number = time.monotonic() + MINUTES * 60, 0
    while number < least or time.monotonic() < end:
        yield number
        number += 1


def deploy(server, tmp_path, name):
    """A counting agent whose processes are found by a mark."""
    server.mark = f"mark-{random.getrandbits(64):x}"
    program = os.environ.get("EYOT_SAMPLE_AGENT")
    if not program:
        return deploy_files(server, tmp_path, name, {"main.py": PLAIN}, "--env", f"EYOT_TEST_MARK={server.mark}")
    source = tmp_path / f"source-{name}"
    source.mkdir()
    target = source / "agent"
    target.write_bytes(Path(program).read_bytes())
    target.chmod(target.stat().st_mode | stat.S_IXUSR)
    done = server.cli(
        "deploy", str(source), "--name", name, "--entry-point", "./agent", "--env", f"EYOT_TEST_MARK={server.mark}"
    )
    return next(line for line in done.stdout.splitlines() if line.startswith("arn:"))


def end_with_nothing_left(server):
    """Ctrl-C ends the sessions; then there is nothing."""
    groups = {g for pid in marked_processes(server.mark) for g in group_names(pid)}
    assert server.stop(signal.SIGINT) == 0, server.stderr_text()
    assert marked_processes(server.mark) == []
    assert sandbox_leftovers(server.data_dir) == []
    assert cgroups_named(groups) == set()


def group_names(pid):
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return set()
    return {part for line in text.splitlines() for part in line.split("/") if part.startswith("eyot-")}


@pytest.fixture(scope="module", autouse=True)
def lives(tmp_path_factory):
    """The shortest times that the API allows are a minute, so they run beside the other tests of this file."""
    if MINUTES or "EYOT_SOAK_SESSIONS" in os.environ:
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(live_and_let_end, tmp_path_factory.mktemp("lives"))


def test_restarts_lose_no_session(make_server, tmp_path):
    """SIGTERM, and the next process goes on: whoever retries as boto3 does by default reaches the same state."""
    server = make_server(env=QUICK).start()
    arn = deploy(server, tmp_path, "restart")
    retries = {"mode": "legacy", "max_attempts": 4}
    talks = [Talk(server, arn, retries) for _ in range(3)]
    quiet = [session_id() for _ in range(3)]
    for session in quiet:
        call_until_answered(server.data, arn, session, 60)
    processes = set(marked_processes(server.mark))
    gaps, times = [], 1
    for number in rounds(3):
        time.sleep(0.7)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0, server.stderr_text()
        server.start(listen=address(server))
        gaps.append(time.monotonic() - began)
        times += 1
        turns = {invoke(server.data, arn, HELLO, session)[0]["turn"] for session in quiet}
        assert turns == {times}, f"restart {number}: {turns} instead of {times}"
    time.sleep(1)
    for talk in talks:
        talk.end()
        assert talk.errors == [], f"gaps of {gaps} s"
        assert talk.turns and talk.turns == sorted(set(talk.turns)), "state was lost"
    # The very same processes run on.
    assert processes <= set(marked_processes(server.mark))
    assert nobodys(server, marked_processes(server.mark)) == []
    print(f"{times - 1} restarts, the longest gap {max(gaps):.2f} s")
    end_with_nothing_left(server)


def test_kills_in_any_order(make_server, tmp_path):
    """kill -9 of the server, of agents and of guests: every session answers again, and only those hit begin anew."""
    seed = int(os.environ.get("EYOT_SOAK_SEED", "20261125"))
    chance = random.Random(seed)
    server = make_server(env=QUICK).start()
    arn = deploy(server, tmp_path, "kills")
    sessions = [session_id() for _ in range(4)]
    turns = {session: invoke(server.data, arn, HELLO, session)[0]["turn"] for session in sessions}
    done = 0
    for number in rounds(10):
        known = living(server)
        hit = chance.sample(sessions, chance.randint(0, 2))
        victims = []
        for session in hit:
            guest = guest_of(server, known[session]["sandbox"])
            agents = children(guest)
            victims.append(chance.choice([guest, *agents]))
        server_dies = not hit or chance.random() < 0.5
        victims += [None] if server_dies else []
        # Calls are in flight on all of them when it strikes.
        data = server.client("bedrock-agentcore", read_timeout=30, connect_timeout=5)
        with ThreadPoolExecutor(len(sessions)) as pool:
            act = {"act": "sleep", "seconds": 1, "stream": True, "chunks": 10, "delay_ms": 100}
            calls = [pool.submit(data.invoke_agent_runtime, agentRuntimeArn=arn, runtimeSessionId=s, payload=json.dumps(act).encode()) for s in sessions]
            time.sleep(chance.random() * 0.6)
            strike(server, victims)
            if server_dies:
                server.start(listen=address(server))
            outcomes = [outcome(call) for call in calls]
        what = f"round {number} (seed {seed}): hit {len(hit)}, server {server_dies}: {outcomes}"
        for session in sessions:
            before, now = turns[session], call_until_answered(server.data, arn, session, 45)["turn"]
            if session in hit:
                assert now <= before + 2, what
            else:
                # The call in flight counted or, where it had not arrived yet, did not.
                assert before < now <= before + 2, f"{what}: a session that nobody touched went from {before} to {now}"
            turns[session] = now
        assert set(living(server)) == set(sessions), what
        assert nobodys(server, marked_processes(server.mark)) == [], what
        done += 1
    print(f"{done} rounds of kills")
    end_with_nothing_left(server)


def outcome(call):
    """How a call ended: it must, whatever happened."""
    try:
        call.result(60)["response"].read()
        return "answered"
    except TimeoutError:
        raise AssertionError("a call hangs") from None
    except Exception as error:
        return type(error).__name__


def test_sessions_leave_nothing(make_server, tmp_path):
    """Sessions begun and ended leave the machine and the data directory as they were."""
    server = make_server(env=QUICK, args=["--log", "warn"]).start()
    arn = deploy(server, tmp_path, "churn")
    # More than the history holds, so that it is full; and one that lives all along.
    kept = session_id()
    churn(server, arn, 80)
    call_until_answered(server.data, arn, kept, 60)
    before = settle(lambda: Held.by(server), lambda held: held.processes <= 2)
    began = time.monotonic()
    for number in rounds(1):
        again = churn(server, arn, SESSIONS, report=lambda n: print(f"{n} sessions: {Held.by(server)}", flush=True))
        took = time.monotonic() - began
        # A connection or two and what the allocator keeps come and go.
        slack = {"descriptors": 8, "threads": 4, "bytes": 1 << 20, "files": 2, "resident": 32 << 20}
        after = settle(lambda: Held.by(server), lambda held: not held.leaks(before, slack))
        assert after.leaks(before, slack) == {}, f"after {SESSIONS} sessions:\n{before}\n{after}\n{details(server)}"
        print(f"round {number}: {SESSIONS} sessions, {took:.0f} s so far, {again} stops met a conflict\n{before}\n{after}")
    assert call_until_answered(server.data, arn, kept, 10)["turn"] > 1
    end_with_nothing_left(server)


def live_and_let_end(tmp_path):
    """What `test_deadlines` judges: times of an idle, a busy, a streaming session, over a restart of the server."""
    from conftest import Server

    server = Server(tmp_path / "data", env={**QUICK, "EYOT__RUNTIME__SESSION__PING_INTERVAL": "500ms"}).start()
    try:
        control = server.control
        arns = {}
        for name, longest in (("idle", 600), ("short", 62)):
            done = server.cli("deploy", str(BUSY), "--name", name, "--runtime", PYTHON)
            arns[name] = next(line for line in done.stdout.splitlines() if line.startswith("arn:"))
            runtime = arns[name].rsplit("/", 1)[1]
            control.update_agent_runtime(
                agentRuntimeId=runtime, agentRuntimeArtifact=control.get_agent_runtime(agentRuntimeId=runtime)["agentRuntimeArtifact"],
                roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"},
                lifecycleConfiguration={"idleRuntimeSessionTimeout": 60, "maxLifetime": longest},
            )
            wait_ready(control, runtime)
        idle, busy, short = session_id(), session_id(), session_id()
        born = time.monotonic()
        invoke(server.data, arns["idle"], {}, idle)
        invoke(server.data, arns["idle"], {"work": 66}, busy)
        invoke(server.data, arns["short"], {}, short)
        time.sleep(5)
        assert server.stop(signal.SIGTERM) == 0, server.stderr_text()
        server.start(listen=address(server))
        reply = server.data.invoke_agent_runtime(agentRuntimeArn=arns["short"], runtimeSessionId=short, payload=b'{"stream": 200}')
        seen = {"stream": None, "idle": None, "busy": None, "busy_states": set()}

        def read():
            try:
                for _ in reply["response"].iter_lines(chunk_size=1):
                    pass
                return "it looks complete", time.monotonic() - born
            except Exception as error:
                return type(error).__name__, time.monotonic() - born

        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(read)
            # Looking neither wakes nor prolongs.
            while time.monotonic() < born + 170 and not (seen["idle"] and seen["busy"]):
                known, now = living(server), time.monotonic() - born
                for name, session in (("idle", idle), ("busy", busy)):
                    if session not in known and not seen[name]:
                        seen[name] = now
                if busy in known and now < 60:
                    seen["busy_states"].add(known[busy]["state"])
                time.sleep(0.5)
            seen["stream"] = stream.result(60)
        seen["reasons"] = {name: signed(server, "GET", f"/_eyot/sessions/{s}")["reason"] for name, s in (("idle", idle), ("busy", busy), ("short", short))}
        return seen
    finally:
        server.stop(signal.SIGINT)
        assert sandbox_leftovers(server.data_dir) == []


def test_deadlines_survive_a_restart(lives):
    """Idle timeout, HealthyBusy of the real SDK and maxLifetime during a stream, with a restart in between."""
    if lives is None:
        pytest.skip("a soak has no use for it")
    seen = lives.result(240)
    assert 58 <= seen["idle"] <= 78, seen
    assert seen["busy_states"] == {"ACTIVE"}, seen
    assert 66 + 58 <= seen["busy"] <= 66 + 80, seen
    how, when = seen["stream"]
    assert how != "it looks complete" and 60 <= when <= 80, seen
    assert seen["reasons"]["short"] == "max_lifetime", seen
