"""An agent with nothing but the standard library, for tests that need an agent to misbehave.

The JSON payload says what to do; see `invocations`. A payload that is not JSON is counted and digested.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

turn = 0
busy = False
healthy = True
cancelled = 0


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, document, status=200):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def start_chunks(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def do_GET(self):
        if not healthy:
            return self.answer({"status": "broken"}, 503)
        self.answer({"status": "HealthyBusy" if busy else "Healthy"})

    def body(self):
        """The body block by block, so that the agent itself stays small."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                block = self.rfile.read(min(left, 1 << 18))
                if not block:
                    raise ConnectionError("the body ended early")
                left -= len(block)
                yield block

    def do_POST(self):
        global turn, busy, healthy, cancelled
        if self.headers.get("Content-Type") == "application/octet-stream":
            digest, size = hashlib.sha256(), 0
            for block in self.body():
                digest.update(block)
                size += len(block)
            return self.answer({"size": size, "sha256": digest.hexdigest()})
        raw = b"".join(self.body())
        turn += 1
        ask = json.loads(raw or b"{}")
        act = ask.get("act", "hello")
        if act == "hello":
            return self.answer({"turn": turn, "pid": os.getpid(), "path": self.path, "session": self.headers.get("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id")})
        if act == "raw":
            return self.answer({"raw": raw.decode("latin-1"), "headers": {k.lower(): v for k, v in self.headers.items()}})
        if act == "env":
            return self.answer(dict(os.environ))
        if act == "status":
            return self.answer({"oops": "the agent says so"}, ask["status"])
        if act == "exit":
            sys.stderr.write("leaving because I was told to\n")
            sys.stderr.flush()
            os._exit(ask.get("code", 3))
        if act == "sleep":
            time.sleep(ask["seconds"])
            return self.answer({"slept": ask["seconds"]})
        if act == "busy":
            busy = ask["busy"]
            return self.answer({"busy": busy})
        if act == "sick":
            healthy = False
            return self.answer({"healthy": healthy})
        if act == "stubborn":
            os.kill(os.getpid(), signal.SIGUSR1)
            return self.answer({"ignores": "SIGTERM"})
        if act == "bytes":
            self.start_chunks("application/octet-stream")
            left, block = ask["bytes"], b"\xab" * (1 << 18)
            while left:
                self.chunk(block[: min(left, len(block))])
                left -= min(left, len(block))
            return self.wfile.write(b"0\r\n\r\n")
        if act == "drip":
            self.start_chunks("text/event-stream")
            try:
                for number in range(ask["count"]):
                    self.chunk(b'data: {"n": %d}\n\n' % number)
                    time.sleep(ask["pause"])
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                cancelled += 1
            return None
        if act == "break":
            self.start_chunks("text/event-stream")
            self.chunk(b"data: {}\n\n")
            os._exit(4)
        if act == "cancelled":
            return self.answer({"cancelled": cancelled})
        if act == "memory":
            hog = bytearray()
            while True:
                hog += b"x" * (16 << 20)
        return self.answer({"unknown": act}, 400)


def main():
    signal.signal(signal.SIGUSR1, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    if os.environ.get("AGENT_EXIT_AT_START"):
        print("I cannot start: the moon is full", file=sys.stderr)
        sys.exit(int(os.environ["AGENT_EXIT_AT_START"]))
    if os.environ.get("AGENT_NEVER_LISTENS"):
        time.sleep(3600)
    port = int(os.environ.get("AGENT_PORT") or os.environ.get("PORT") or 8080)
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("0.0.0.0", port), Agent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        signal.pause()


main()
