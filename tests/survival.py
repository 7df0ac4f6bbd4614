"""What the tests of survival share: clients that do not give up, victims, and counts of what a server holds."""

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from conftest import invoke, session_id, signed

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()

# A server that is asked for more than people ask for. `WARM__MAX` is 0 where a sandbox without a session would be a leak.
QUICK = {
    "EYOT__RUNTIME__SESSION__STOP_GRACE": "2s",
    "EYOT__RUNTIME__SESSION__WARM__MAX": "0",
    "EYOT__RUNTIME__SESSION__MEMORY_REQUEST": "32MiB",
    "EYOT__RUNTIME__SESSION__HISTORY": "50",
    "EYOT__SERVER__DRAIN_GRACE": "5s",
}


# Both the plain agent and the sample agent count this as a turn.
HELLO = {"prompt": "hello"}


def address(server):
    """Where to listen, so that the next process is found where this one was."""
    return server.url.split("://", 1)[1].rstrip("/")


def call_until_answered(data, arn, session, within, payload=None):
    """Calls again after every error, as a client would that wants its answer; fails after `within` seconds."""
    end, errors = time.monotonic() + within, []
    while True:
        try:
            return invoke(data, arn, payload or HELLO, session)[0]
        except Exception as error:  # which ones are fine is for the caller to say; here it only must not go on for ever
            errors.append(f"{type(error).__name__}: {error}"[:200])
        assert time.monotonic() < end, f"no answer within {within} s: {errors[-3:]}"
        time.sleep(0.1)


def living(server):
    """The sessions that the server knows, by id."""
    found, token = {}, ""
    while True:
        page = signed(server, "GET", "/_eyot/sessions?maxResults=1000" + (f"&nextToken={token}" if token else ""))
        found.update({session["sessionId"]: session for session in page["sessions"]})
        token = page.get("nextToken")
        if not token:
            return found


def guest_of(server, sandbox):
    """The sandbox's first process as the host sees it; `None` if it has none."""
    try:
        return json.loads((server.data_dir / "sandboxes" / sandbox / "guest.json").read_text())["pid"]
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def children(pid):
    """Also those that a thread other than the first has started."""
    found = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except OSError:
        pass  # it or a thread of it has ended meanwhile
    return found


def ancestors(pid):
    """The process and all above it."""
    found = []
    while pid > 1:
        found.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return found


def nobodys(server, processes):
    """Those of the processes that belong to no session that the server knows, with what is known of them."""
    known = living(server)
    guests = {guest_of(server, session["sandbox"]) for session in known.values() if session.get("sandbox")}
    found = []
    for pid in processes:
        above = ancestors(pid)
        if alive(pid) and not guests & set(above):
            states = [(session["state"], session.get("sandbox")) for session in known.values()]
            sandboxes = {d.name: guest_of(server, d.name) for d in (server.data_dir / "sandboxes").iterdir()}
            found.append(f"process {pid} below {above}; sessions {states}; sandboxes {sandboxes}")
    return found


def alive(pid):
    """Whether it runs, and not only waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Held:
    """What a server holds of the machine."""

    processes: int
    descriptors: int
    threads: int
    mounts: int
    cgroups: int
    namespaces: int
    files: int
    bytes: int
    resident: int

    @classmethod
    def by(cls, server):
        pid, data = server.process.pid, str(server.data_dir)
        descriptors, namespaces = list(Path(f"/proc/{pid}/fd").iterdir()), set()
        for link in descriptors:
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.endswith("]") and ":[" in target and not target.startswith(("pipe", "socket", "anon")):
                namespaces.add(target)
        processes = processes_of(server)
        for process in processes:
            try:
                namespaces |= {os.readlink(link) for link in Path(f"/proc/{process}/ns").iterdir()}
            except OSError:
                pass
        mounts = Path(f"/proc/{pid}/mountinfo").read_text() + Path("/proc/self/mountinfo").read_text()
        files = size = 0
        for root, directories, names in os.walk(data):
            files += len(directories) + len(names)
            for name in names:
                if name.endswith("-wal"):
                    continue  # the database's own log grows to 4 MiB and begins anew
                try:
                    size += os.lstat(os.path.join(root, name)).st_blocks * 512
                except OSError:
                    pass
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
        return cls(
            processes=len(processes), descriptors=len(descriptors), threads=int(status["Threads"]),
            mounts=sum(data in line for line in mounts.splitlines()), cgroups=len(groups(server)), namespaces=len(namespaces),
            files=files, bytes=size, resident=int(status["VmRSS"].split()[0]) << 10,
        )

    def leaks(self, before, slack):
        """What there is more of than before, beyond what is allowed by name."""
        was, now = asdict(before), asdict(self)
        return {name: (was[name], now[name]) for name in was if now[name] > was[name] + slack.get(name, 0)}


def processes_of(server):
    """The server's children, which guests are, and the agents."""
    agents = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and marked(p, server.mark)]
    return sorted({*children(server.process.pid), *agents})


def details(server):
    """What a failed comparison wants to know: who is there, and which files are large."""
    processes = processes_of(server)
    lines = []
    for process in processes:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
            lines.append(f"{stat[:60]} {Path(f'/proc/{process}/cmdline').read_bytes()[:80]}")
        except OSError:
            pass
    files = [(p.lstat().st_blocks * 512, str(p)) for p in server.data_dir.rglob("*") if p.is_file()]
    return "\n".join(lines + [f"{size} {path}" for size, path in sorted(files, reverse=True)[:6]])


def marked(process, mark):
    try:
        return mark.encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def groups(server):
    """Control groups below the one that the server's driver made: a directory named after a sandbox each."""
    if not hasattr(server, "groups"):
        server.groups = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and marked(process, server.mark):
            try:
                text = (process / "cgroup").read_text()
            except OSError:
                continue
            server.groups |= {part for line in text.splitlines() for part in line.split("/") if part.startswith("eyot-")}
    own = [os.path.join(root, d) for root, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs if d in server.groups]
    return [os.path.join(root, d) for group in own for root, dirs, _ in os.walk(group) for d in dirs]


def describe(pid):
    """A process for a message."""
    try:
        return f"{Path(f'/proc/{pid}/stat').read_text()[:80]} {Path(f'/proc/{pid}/cmdline').read_bytes()[:200]} below {ancestors(pid)}"
    except OSError as error:
        return f"{pid}: {error}"


def settle(take, good, within=30):
    """Takes a reading again until it is good, because what has been told to end needs a moment."""
    end = time.monotonic() + within
    while True:
        reading = take()
        if good(reading) or time.monotonic() > end:
            return reading
        time.sleep(0.2)


def churn(server, arn, count, hands=8, report=None):
    """Begins and ends sessions; answers how many calls had to be made again."""
    lock, left, again = threading.Lock(), iter(range(count)), 0

    def work():
        nonlocal again
        data = server.data
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            if report and number and number % 1000 == 0:
                report(number)
            session = session_id()
            call_until_answered(data, arn, session, 60)
            try:
                data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
            except data.exceptions.RetryableConflictException:
                again += 1

    with ThreadPoolExecutor(hands) as pool:
        for done in [pool.submit(work) for _ in range(hands)]:
            done.result()
    return again


class Talk:
    """A client that talks in one session until it is told to end, and notes every answer and error."""

    def __init__(self, server, arn, retries):
        self.session, self.turns, self.errors, self.ending = session_id(), [], [], threading.Event()
        self.data, self.arn = server.client("bedrock-agentcore", retries=retries), arn
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        while not self.ending.wait(0.05):
            try:
                self.turns.append(invoke(self.data, self.arn, HELLO, self.session)[0]["turn"])
            except Exception as error:  # judged at the end
                self.errors.append(f"{type(error).__name__}: {error}"[:200])

    def end(self):
        self.ending.set()
        self.thread.join(90)
        assert not self.thread.is_alive(), "a call hangs"


def strike(server, victims):
    """Kills the server (`None`), agents or guests with SIGKILL, in a random order."""
    random.shuffle(victims)
    for victim in victims:
        if victim is None:
            server.kill()
        else:
            try:
                os.kill(victim, 9)
            except ProcessLookupError:
                pass  # it went with another one
