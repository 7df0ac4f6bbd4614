"""The contract suite's agent: executes what it is sent, a line of JSON text at a time, and answers with `r`."""

import json
import os
import socket
import sys
import threading


def serve(connection):
    stream = connection.makefile("rwb")
    for line in stream:
        scope = {}
        try:
            exec(json.loads(line), scope)
            answer = {"ok": scope.get("r")}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()


port = int(os.environ.get("PORT") or sys.argv[1])
listener = socket.create_server(("127.0.0.1", port), backlog=256)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
