"""The directory with up to millions of nodes, in memory: its real tables, replies and lookups.

scripts/dht_sim scale --nodes 1000 10000 100000 1000000     queries, hops, seconds, recall, CPU of a lookup
scripts/dht_sim scale --paths                               the same over eight disjoint paths
scripts/dht_sim gone --nodes 10000                          with a share of the nodes gone, and with losses
scripts/dht_sim attack --nodes 10000 --hostile 0.5          a record left and fetched among hostile nodes
scripts/dht_sim attack --cluster 1000 --single              a thousand ids at the record; a single path
scripts/dht_sim attack --insiders 1000 --density 2 --beacon --probation
scripts/dht_sim attack ... --no-cap --single                what each defence is worth: leave it out
scripts/dht_sim all                                         every figure of PROTOCOL.md: some minutes

--plot FILE.svg draws scale or gone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "dht")]

from simulated_attack import Defences, cluster, insiders, leave_and_fetch, nobody  # noqa: E402
from simulated_network import SimulatedNetwork, World  # noqa: E402

from ptproxy.dht.diversity import ANY_NETWORK  # noqa: E402
from ptproxy.dht.lookup import PRIVATE, UPKEEP, LookupRules  # noqa: E402

FACTS = {
    10**3: (21.5, 1.93),
    10**4: (23.0, 2.46),
    10**5: (24.4, 3.02),
    10**6: (25.9, 3.59),
    10**7: (27.3, 4.14),
}
"""Queries and hops that another implementation measured (FACTS section 8)."""


@dataclass(slots=True)
class Figures:
    """Of many lookups, each a mean."""

    asked: float
    asked_error: float
    hops: float
    recall: float
    median: float
    ninety_fifth: float
    cpu: float


def measure(world: World, rules: LookupRules, lookups: int) -> Figures:
    """Lookups for random places by random nodes."""
    net = SimulatedNetwork(world)
    asked, hops, recall, seconds, cpu = [], [], [], [], []
    for _ in range(lookups):
        target = net.target()
        origin = net.somebody()
        _, costs = net.look_up(origin, target, rules, size=world.nodes)
        asked.append(costs.asked)
        hops.append(costs.hops)
        recall.append(net.recall(origin, target, costs.found))
        seconds.append(costs.seconds)
        cpu.append(min(net.cpu(origin, target, rules, world.nodes, costs) for _ in range(3)))
    seconds.sort()
    return Figures(
        statistics.mean(asked),
        statistics.stdev(asked) / lookups**0.5,
        statistics.mean(hops),
        statistics.mean(recall),
        seconds[lookups // 2],
        seconds[lookups * 95 // 100],
        statistics.median(cpu),
    )


def scale(args: argparse.Namespace) -> None:
    rules = replace(PRIVATE if args.paths else UPKEEP, diversity=ANY_NETWORK)
    print("| nodes | n | queries | facts | hops | facts | recall | p50 s | p95 s | CPU ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    drawn = []
    for nodes in args.nodes:
        began = time.monotonic()
        found = measure(World(nodes, args.seed), rules, args.lookups)
        queries, hops = FACTS.get(nodes, (0.0, 0.0))
        print(
            f"| {nodes:,} | {args.lookups} | {found.asked:.2f} ± {found.asked_error:.2f} | {queries} "
            f"| {found.hops:.2f} | {hops} | {found.recall:.4f} | {found.median:.2f} "
            f"| {found.ninety_fifth:.2f} | {1e3 * found.cpu:.2f} |",
            f"  {time.monotonic() - began:.0f} s" if args.times else "",
            flush=True,
        )
        drawn.append((float(nodes), found.asked))
    plot(args, "nodes", "queries a lookup", drawn, logarithmic=True)


def gone(args: argparse.Namespace) -> None:
    print("| nodes | gone | lost | n | queries | recall | p50 s | p95 s |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    drawn = []
    for nodes in args.nodes:
        for share, loss in ((0.0, 0.0), (0.1, 0.01), (0.2, 0.01), (0.3, 0.02), (0.5, 0.02)):
            rules = replace(UPKEEP, diversity=ANY_NETWORK)
            found = measure(World(nodes, args.seed, gone=share, loss=loss), rules, args.lookups)
            print(
                f"| {nodes:,} | {share:.0%} | {loss:.0%} | {args.lookups} | {found.asked:.1f} "
                f"| {found.recall:.4f} | {found.median:.2f} | {found.ninety_fifth:.2f} |",
                flush=True,
            )
            drawn.append((share, found.median))
    plot(args, "share of nodes gone", "seconds a lookup (median)", drawn, logarithmic=False)


def attack(args: argparse.Namespace) -> None:
    defences = Defences(not args.no_cap, not args.single, args.probation, args.beacon, args.diversity)
    who = cluster(args.cluster) if args.cluster else nobody
    if args.insiders:
        who = insiders(args.insiders, args.density)
    for nodes in args.nodes:
        world = World(nodes, args.seed, args.hostile, forge=args.forge, blocks=args.blocks)
        print(f"{nodes:,} nodes, {args.hostile:.0%} hostile:", end=" ")
        print(leave_and_fetch(world, who, defences, args.lookups), flush=True)


def everything(args: argparse.Namespace) -> None:
    """The tables of PROTOCOL.md."""
    scale(args)
    scale(argparse.Namespace(**{**vars(args), "paths": True, "plot": None}))
    gone(argparse.Namespace(**{**vars(args), "nodes": [10_000], "plot": None}))
    single = Defences(paths=False)
    bare = Defences(paths=False, cap=False)
    even, thousand = World(10_000, args.seed, 0.5), World(10_000, args.seed)
    dense = insiders(1_000, 2.0)
    trials = [
        ("half hostile, one path", even, nobody, single),
        ("half hostile", even, nobody, Defences()),
        ("half hostile, 10^6", World(1_000_000, args.seed, 0.5), nobody, Defences()),
        ("half hostile, forging", replace(even, forge=True), nobody, Defences()),
        ("half hostile in 64 blocks, one path", replace(even, blocks=64), nobody, single),
        ("the same, with limits", replace(even, blocks=64), nobody, replace(single, diversity=True)),
        ("cluster of 20, no cap", thousand, cluster(20), bare),
        ("cluster of 20, one path", thousand, cluster(20), single),
        ("cluster of 1,000, no cap", thousand, cluster(1_000), bare),
        ("cluster of 1,000, one path", thousand, cluster(1_000), single),
        ("cluster of 1,000", thousand, cluster(1_000), Defences()),
        ("1,000 insiders, density 1, one path", thousand, insiders(1_000), single),
        ("1,000 insiders, density 1", thousand, insiders(1_000), Defences()),
        ("1,000 insiders, density 2, one path", thousand, dense, single),
        ("1,000 insiders, density 2", thousand, dense, Defences()),
        ("the same, probation", thousand, dense, Defences(probation=True)),
        ("the same, beacon", thousand, dense, Defences(beacon=True)),
        ("the same, both", thousand, dense, Defences(probation=True, beacon=True)),
    ]
    print("\n| attack | n | found | forged | queries to put | to get | honest holders |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, world, who, defences in trials:
        outcome = leave_and_fetch(world, who, defences, args.lookups)
        n = outcome.trials
        print(
            f"| {name} | {n} | {outcome.found / n:.4f} | {outcome.forged} | {outcome.put / n:.1f} "
            f"| {outcome.get / n:.1f} | {outcome.kept / n:.1f} |",
            flush=True,
        )


def plot(
    args: argparse.Namespace, below: str, beside: str, points: list[tuple[float, float]], *, logarithmic: bool
) -> None:
    """An SVG of one curve, if one was asked for."""
    if not args.plot or len(points) < 2:
        return
    import math  # noqa: PLC0415

    across = [math.log10(x) if logarithmic else x for x, _ in points]
    high = max(y for _, y in points) * 1.1
    width, height, edge = 640, 400, 60

    def at(x: float, y: float) -> tuple[float, float]:
        share = (x - across[0]) / (across[-1] - across[0])
        return edge + share * (width - 2 * edge), height - edge - y / high * (height - 2 * edge)

    placed = [at(x, y) for x, (_, y) in zip(across, points, strict=True)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{edge} {edge}V{height - edge}H{width - edge}" fill="none" stroke="black"/>',
        f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">{below}</text>',
        f'<text x="{edge}" y="{edge - 16}">{beside}</text>',
        '<polyline fill="none" stroke="#06c" stroke-width="2" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        + '"/>',
    ]
    for (x, y), (value, figure) in zip(placed, points, strict=True):
        label = f"{value:,.0f}" if logarithmic else f"{value:.0%}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#06c"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{figure:.2f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{height - edge + 18}" text-anchor="middle">{label}</text>')
    Path(args.plot).write_text("\n".join([*parts, "</svg>", ""]), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("scale", "gone", "attack", "all"))
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000])
    parser.add_argument("--lookups", type=int, default=200, help="lookups, or records left and fetched")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--paths", action="store_true", help="scale: eight disjoint paths")
    parser.add_argument("--times", action="store_true", help="scale: how long each line took")
    parser.add_argument("--plot", metavar="FILE", help="an SVG")
    parser.add_argument("--hostile", type=float, default=0.0, help="share of all nodes")
    parser.add_argument(
        "--forge", action="store_true", help="every second hostile node answers with a false record"
    )
    parser.add_argument("--blocks", type=int, default=0, help="address blocks that hostile nodes have")
    parser.add_argument("--cluster", type=int, default=0, help="hostile ids next to the record")
    parser.add_argument("--insiders", type=int, default=0, help="hostile ids around the record")
    parser.add_argument("--density", type=float, default=1.0, help="insiders for each honest node there")
    parser.add_argument("--single", action="store_true", help="one path of three queries")
    parser.add_argument("--no-cap", action="store_true", help="without the density cap")
    parser.add_argument("--probation", action="store_true")
    parser.add_argument("--beacon", action="store_true")
    parser.add_argument("--diversity", action="store_true", help="with limits for a network's nodes")
    args = parser.parse_args()
    {"scale": scale, "gone": gone, "attack": attack, "all": everything}[args.what](args)


if __name__ == "__main__":
    main()
