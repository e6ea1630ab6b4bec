"""A shape's figures drawn from recorded cover; what ``scripts/draw_shape`` runs.

Reads JSON: a list of flows, each a list of records ``{"size": bytes, "direction":
"up" or "down", "time": seconds}`` of application data (``ptproxy inspect`` makes
such lists of captures). Writes a shape of one class as YAML, to be reviewed and
put beside the built-in ones or named by ``shape: FILE``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

import yaml

from ptproxy.codec.shape import CLASSES, Shape
from ptproxy.codec.shape_drawing import Record, draw
from ptproxy.errors import RemoteProtocolError
from ptproxy.proxy.shape_files import built_in


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/draw_shape", description=__doc__.partition("\n")[0])
    parser.add_argument("flows", type=Path, nargs="+", help="JSON files of flows")
    parser.add_argument("--class", dest="traffic", choices=CLASSES, required=True, help="of the traffic")
    parser.add_argument("--name", required=True, help="of the shape")
    parser.add_argument("--source", required=True, help="what was recorded, where: one line")
    arguments = parser.parse_args()
    try:
        flows = [
            sorted(map(Record.parse, flow), key=lambda record: record.time)
            for path in arguments.flows
            for flow in json.loads(path.read_text("utf-8"))
        ]
        figures = {
            "shape": arguments.name,
            "source": arguments.source,
            "recorded": datetime.datetime.now(datetime.UTC).date().isoformat(),
            arguments.traffic: draw(flows, arguments.traffic),
        }
        Shape.parse(figures, built_in())
    except (RemoteProtocolError, OSError, ValueError, TypeError) as error:
        print(f"nothing drawn: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(f"# Drawn from {len(flows)} flows. What is not here is the built-in shape's.\n")
    yaml.safe_dump(figures, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())
