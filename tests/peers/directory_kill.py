"""A directory node that is killed: takes records, saves, says so, and waits. Argument: its folder."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent / "dht")]

from dht_records import NOW, draw, sealed  # noqa: E402
from directory_live import Lab  # noqa: E402

from ptproxy.dht.record_secret import RecordSecret  # noqa: E402
from ptproxy.state import StateFolder  # noqa: E402


async def main(folder: Path) -> None:
    with StateFolder(folder) as state:
        async with Lab(now=NOW) as lab:
            await lab.add(state=state)
            await lab.add()
            for number in range(1_000):
                record = sealed(secret=RecordSecret(draw(number)(32)))
                await lab.nodes[1].driver.publish(record.header.locations()[0], record.serialize())
                await lab.nodes[0].upkeep(everything=True)
                os.write(1, f"{len(lab.nodes[0].storage)}\n".encode())


asyncio.run(main(Path(sys.argv[1])))
