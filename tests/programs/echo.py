# SPDX-License-Identifier: BSD-2-Clause
"""echo.py serve PORT | echo.py ask HOST PORT CONNECTIONS MESSAGES: asyncio streams; each message is {length, bytes} and comes back as it
is. Prints how many came back right."""
import asyncio
import random
import struct
import sys


async def answer(reader, writer):
    try:
        while True:
            head = await reader.readexactly(4)
            writer.write(head + await reader.readexactly(struct.unpack("!I", head)[0]))
            await writer.drain()
    except asyncio.IncompleteReadError as e:
        assert not e.partial, "half a message"
    writer.close()


async def serve(port):
    async with await asyncio.start_server(answer, ["0.0.0.0", "::"], int(port)) as server:
        await server.serve_forever()


async def one(host, port, seed, messages):
    reader, writer = await asyncio.open_connection(host, int(port))
    rng = random.Random(seed)
    for _ in range(messages):
        data = rng.randbytes(int(2 ** rng.uniform(0, 17)))
        writer.write(struct.pack("!I", len(data)) + data)
        await writer.drain()
        back = await reader.readexactly(4 + len(data))
        assert back[4:] == data, "other bytes came back"
    writer.close()
    await writer.wait_closed()
    return messages


async def ask(host, port, connections, messages):
    print(sum(await asyncio.gather(*(one(host, port, i, int(messages)) for i in range(int(connections))))))


asyncio.run({"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:]))
