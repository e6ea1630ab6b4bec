"""The directory with up to millions of nodes, in memory: its real tables, replies and lookups.

scripts/dht_sim claims [--quick]        what PROTOCOL.md claims, line by line; ends with 1 if one fails
scripts/dht_sim scale --nodes 1000 10000 100000 1000000     queries, hops, seconds, recall, CPU of a lookup
scripts/dht_sim scale --paths                               the same over eight disjoint paths
scripts/dht_sim gone --nodes 10000                          with a share of the nodes gone, and with losses
scripts/dht_sim churn --nodes 300 --session 6 --hours 12    whole nodes that come and go, for hours
scripts/dht_sim attack --nodes 10000 --hostile 0.5          a record left and fetched among hostile nodes
scripts/dht_sim attack --cluster 1000 --single              a thousand ids at the record; a single path
scripts/dht_sim attack --insiders 1000 --density 2 --beacon --probation
scripts/dht_sim attack ... --no-cap --single                what each defence is worth: leave it out
scripts/dht_sim all                                         every figure of PROTOCOL.md: some minutes
scripts/dht_sim plots FOLDER                                pictures (SVG) of scale, defences and churn

Ten million nodes take 1.2 GB and a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "dht"), str(ROOT / "scripts")]

from churning_network import HOUR, Churn, ChurningNetwork, Hour, without_signatures  # noqa: E402
from dht_sim_plot import Chart  # noqa: E402
from simulated_attack import Defences, Outcome, cluster, insiders, leave_and_fetch, nobody  # noqa: E402
from simulated_claims import FACTS, Verdict, cost, measure, threats  # noqa: E402
from simulated_claims import scale as scale_claims  # noqa: E402
from simulated_network import World  # noqa: E402

from ptproxy.dht.diversity import ANY_NETWORK  # noqa: E402
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP  # noqa: E402

QUICK = 60
"""Trials of each claim with --quick."""


def claims(args: argparse.Namespace) -> None:
    held = True

    def say(verdict: Verdict) -> None:
        nonlocal held
        held &= verdict.holds
        print(verdict, flush=True)

    sizes, lookups = ([1_000, 10_000], 200) if args.quick else ([1_000, 10_000, 100_000, 1_000_000], 400)
    if not args.only:
        for verdict in scale_claims(sizes, lookups):
            say(verdict)
        if not args.quick:
            say(cost(1_000_000, 40))
    for threat in threats(10_000, 50_000 if args.quick else 1_000_000):
        if args.only in threat.claim:
            say(threat.judge(QUICK if args.quick else None))
    sys.exit(not held)


def scale(args: argparse.Namespace) -> None:
    rules = replace(PRIVATE if args.paths else UPKEEP, diversity=ANY_NETWORK)
    print("| nodes | n | queries | facts | hops | facts | recall | p50 s | p95 s | CPU ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
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


def gone(args: argparse.Namespace) -> None:
    print("| nodes | gone | lost | n | queries | recall | p50 s | p95 s |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for nodes in args.nodes:
        for share, loss in ((0.0, 0.0), (0.1, 0.01), (0.2, 0.01), (0.3, 0.02), (0.5, 0.02)):
            rules = replace(UPKEEP, diversity=ANY_NETWORK)
            found = measure(World(nodes, args.seed, gone=share, loss=loss), rules, args.lookups)
            print(
                f"| {nodes:,} | {share:.0%} | {loss:.0%} | {args.lookups} | {found.asked:.1f} "
                f"| {found.recall:.4f} | {found.median:.2f} | {found.ninety_fifth:.2f} |",
                flush=True,
            )


def churned(churn: Churn, hours: int) -> list[Hour]:
    """Each hour's figures, without signatures."""
    with without_signatures():
        return list(ChurningNetwork(churn).hours(hours))


def churn(args: argparse.Namespace) -> None:
    print(
        "| hour | came | a node's messages a second | gone in tables | recall, queries, p50, p95 s", end=" "
    )
    print("| records, one path | eight paths | holders of the 20 closest |\n|---" + "|---" * 7 + "|")
    for nodes in args.nodes:
        world = Churn(
            nodes, args.session * HOUR, args.loss, full_probation=args.full_probation * HOUR, seed=args.seed
        )
        with without_signatures():
            for number, hour in enumerate(ChurningNetwork(world).hours(args.hours)):
                print(
                    f"| {number} | {hour.came} | {hour.messages / HOUR / nodes:.2f} | {hour.stale:.3f}",
                    *(
                        f"| {found:.3f}, {asked:.1f}, {median:.2f}, {late:.2f}"
                        for found, asked, median, late in (
                            kind.row() for kind in (hour.closest, hour.one_path, hour.eight_paths)
                        )
                    ),
                    f"| {hour.holders:.1f} |",
                    flush=True,
                )


def attack(args: argparse.Namespace) -> None:
    defences = Defences(not args.no_cap, not args.single, args.probation, args.beacon, args.diversity)
    who = cluster(args.cluster) if args.cluster else nobody
    if args.insiders:
        who = insiders(args.insiders, args.density)
    for nodes in args.nodes:
        world = World(
            nodes, args.seed, args.hostile, forge=args.forge, estimate=args.estimate, blocks=args.blocks
        )
        print(f"{nodes:,} nodes, {args.hostile:.0%} hostile:", end=" ")
        print(leave_and_fetch(world, who, defences, args.lookups, args.places), flush=True)


def everything(args: argparse.Namespace) -> None:
    """The tables of PROTOCOL.md."""
    scale(args)
    scale(argparse.Namespace(**{**vars(args), "paths": True}))
    gone(argparse.Namespace(**{**vars(args), "nodes": [10_000]}))
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
    print("\n| attack | n | found | certain | forged | queries to put | to get | honest holders |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, world, who, defences in trials:
        outcome = leave_and_fetch(world, who, defences, args.lookups)
        n = outcome.trials
        print(
            f"| {name} | {n} | {outcome.found / n:.4f} | {outcome.at_least():.4f} | {outcome.forged} "
            f"| {outcome.put / n:.1f} | {outcome.get / n:.1f} | {outcome.kept / n:.1f} |",
            flush=True,
        )


def plots(args: argparse.Namespace) -> None:
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)

    def draw(name: str, chart: Chart) -> None:
        (folder / f"{name}.svg").write_text(chart.svg(), "utf-8")
        print(folder / f"{name}.svg", flush=True)

    few = min(args.lookups, 60)
    draw("scale", _scale_chart(few, args.seed))
    draw("hostile", _hostile_chart(few, args.seed))
    draw("insiders", _insiders_chart(few, args.seed))
    draw("churn", _churn_chart(args.hours, args.seed))


def _scale_chart(lookups: int, seed: int) -> Chart:
    chart = Chart("What a lookup costs", "nodes", "queries", powers=True)
    sizes = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
    for name, rules in (("one path", UPKEEP), ("eight disjoint paths", PRIVATE)):
        free = replace(rules, diversity=ANY_NETWORK)
        chart.curve(name, [(n, measure(World(n, seed), free, lookups).asked) for n in sizes])
    chart.curve("one path, another implementation", [(n, FACTS[n][0]) for n in sizes if n in FACTS])
    return chart


def _share(outcome: Outcome) -> float:
    return outcome.found / outcome.trials


def _hostile_chart(trials: int, seed: int) -> Chart:
    chart = Chart("Records found among 10,000 nodes", "share of nodes hostile", "found", highest=1.0)
    shares = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    for name, defences in (("eight paths", Defences()), ("one path", Defences(paths=False))):
        worlds = [(share, World(10_000, seed, share)) for share in shares]
        chart.curve(name, [(x, _share(leave_and_fetch(one, nobody, defences, trials))) for x, one in worlds])
    return chart


def _insiders_chart(trials: int, seed: int) -> Chart:
    chart = Chart(
        "Records found with 1,000 hostile ids around the place", "ids for each honest node there", "found",
        powers=True, highest=1.0,
    )  # fmt: skip
    cases = (
        ("one place, one path", Defences(paths=False), 1),
        ("one place, eight paths", Defences(), 1),
        ("three places, eight paths", Defences(), 3),
        ("one place, eight paths, probation and beacon", Defences(probation=True, beacon=True), 1),
    )
    world = World(10_000, seed)
    for name, defences, places in cases:
        points = [
            (density, _share(leave_and_fetch(world, insiders(1_000, density), defences, trials, places)))
            for density in (0.5, 1, 2, 4, 7, 10, 20)
        ]
        chart.curve(name, points)
    return chart


def _churn_chart(hours: int, seed: int) -> Chart:
    chart = Chart("200 nodes that come and go", "hours", "share", lowest=0.5, highest=1.0)
    for session in (1, 6):
        seen = churned(Churn(200, session * HOUR, seed=seed), hours)
        name = f"half of them gone after {session} h: "
        chart.curve(name + "records found", [(n, hour.eight_paths.row()[0]) for n, hour in enumerate(seen)])
        chart.curve(name + "recall", [(n, hour.closest.row()[0]) for n, hour in enumerate(seen)])
    return chart


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    does = {
        "claims": claims, "scale": scale, "gone": gone, "churn": churn, "attack": attack, "all": everything,
        "plots": plots,
    }  # fmt: skip
    parser.add_argument("what", choices=does)
    parser.add_argument("folder", nargs="?", default="dht-plots", help="plots: where to")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000])
    parser.add_argument("--lookups", type=int, default=200, help="lookups, or records left and fetched")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="claims: few trials, two minutes")
    parser.add_argument("--only", metavar="WORDS", default="", help="claims: attacks with these words alone")
    parser.add_argument("--paths", action="store_true", help="scale: eight disjoint paths")
    parser.add_argument("--times", action="store_true", help="scale: how long each line took")
    parser.add_argument("--session", type=float, default=6.0, help="churn: hours that half of the nodes stay")
    parser.add_argument("--hours", type=int, default=12, help="churn: hours that are simulated")
    parser.add_argument("--loss", type=float, default=0.01, help="churn: share of messages lost")
    parser.add_argument("--full-probation", type=float, default=0.0, help="churn: hours of acquaintance")
    parser.add_argument("--hostile", type=float, default=0.0, help="share of all nodes")
    parser.add_argument(
        "--forge", action="store_true", help="every second hostile node answers with a false record"
    )
    parser.add_argument("--estimate", type=float, default=1.0, help="of the network's size, as a share of it")
    parser.add_argument("--blocks", type=int, default=0, help="address blocks that hostile nodes have")
    parser.add_argument("--cluster", type=int, default=0, help="hostile ids next to the record")
    parser.add_argument("--insiders", type=int, default=0, help="hostile ids around the record")
    parser.add_argument("--density", type=float, default=1.0, help="insiders for each honest node there")
    parser.add_argument("--places", type=int, default=1, help="of a record's three, each of them attacked")
    parser.add_argument("--single", action="store_true", help="one path of three queries")
    parser.add_argument("--no-cap", action="store_true", help="without the density cap")
    parser.add_argument("--probation", action="store_true")
    parser.add_argument("--beacon", action="store_true")
    parser.add_argument("--diversity", action="store_true", help="with limits for a network's nodes")
    args = parser.parse_args()
    does[args.what](args)


if __name__ == "__main__":
    main()
