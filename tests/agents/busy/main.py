"""An agent with the real SDK that works on after its answer (`@app.async_task`), or streams for long.

The payload is {"work": seconds}, {"stream": seconds}, or anything else, which is counted.
"""

import asyncio

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
turn = 0


@app.async_task
async def work(seconds):
    await asyncio.sleep(seconds)


async def stream(seconds):
    for number in range(int(seconds * 10)):
        yield {"n": number}
        await asyncio.sleep(0.1)


@app.entrypoint
async def handle(payload):
    global turn
    turn += 1
    if "stream" in payload:
        return stream(payload["stream"])
    if "work" in payload:
        asyncio.create_task(work(payload["work"]))
    return {"turn": turn}


app.run()
