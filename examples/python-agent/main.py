"""An agent written with the real `bedrock-agentcore` SDK. It needs no model and no network, so it runs anywhere.

What the payload's "prompt" says decides what it does:

    remember <text>   keeps the text for this session, in memory and on disk
    recall            answers with all that this session was told
    stream <text>     answers word by word, as server-sent events
    work <seconds>    goes on working in the background; /ping says HealthyBusy meanwhile
    fail              raises an error
    where             tells what the agent knows of its surroundings
"""

import asyncio
import os
from pathlib import Path

from bedrock_agentcore import BedrockAgentCoreApp, PingStatus, RequestContext

app = BedrockAgentCoreApp()

told = []  # one process serves one session, so a plain list is this session's memory
notes = Path("notes.txt")  # the working directory is private to the session as well
busy = 0


@app.ping
def ping():
    return PingStatus.HEALTHY_BUSY if busy else PingStatus.HEALTHY


@app.entrypoint
async def handle(payload, context: RequestContext):
    verb, _, rest = payload.get("prompt", "").partition(" ")
    if verb == "remember":
        told.append(rest)
        with notes.open("a") as file:
            file.write(rest + "\n")
        return {"told": len(told), "session": context.session_id, "version": os.environ.get("AGENT_VERSION", "1")}
    if verb == "recall":
        on_disk = notes.read_text().splitlines() if notes.exists() else []
        return {"memory": told, "disk": on_disk, "session": context.session_id}
    if verb == "stream":
        return words(rest)
    if verb == "work":
        asyncio.create_task(work(float(rest)))
        return {"working": float(rest)}
    if verb == "fail":
        raise RuntimeError("this agent was asked to fail")
    if verb == "where":
        return {
            "uid": os.getuid(),
            "cwd": os.getcwd(),
            "region": os.environ.get("AWS_REGION"),
            "resource": os.environ.get("OTEL_RESOURCE_ATTRIBUTES"),
            "headers": context.request_headers,
            "greeting": os.environ.get("GREETING"),
        }
    return {"answer": f"You said: {payload.get('prompt')}", "version": os.environ.get("AGENT_VERSION", "1")}


async def words(text):
    for word in text.split():
        yield {"word": word}
        await asyncio.sleep(0.05)


async def work(seconds):
    global busy
    busy += 1
    try:
        await asyncio.sleep(seconds)
    finally:
        busy -= 1


if __name__ == "__main__":
    app.run()
