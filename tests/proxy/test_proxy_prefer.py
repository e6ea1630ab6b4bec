"""A person chooses one of several bridges: new streams take it while it works, whatever the order."""

from __future__ import annotations

import pytest
from proxy_live import run, until
from test_proxy_bridge_choice import Town, chosen_by

from ptproxy.errors import ConfigError
from ptproxy.proxy.control import ControlPort
from ptproxy.proxy.control_client import bridges_to_choose
from ptproxy.proxy.control_lines import MAX_BRIDGE, ControlError, Reply, Request


def name(number: int) -> str:
    return f"bridge{number}.example.org:443"


@pytest.mark.parametrize("choice", ["ordered", "measured", "weighted"])
def test_a_chosen_bridge_is_dialled_at_once_and_taken(choice, monkeypatch) -> None:
    async def main() -> None:
        town = Town(0, 1, 2)
        chosen_by(town, choice)
        await town.choice.start()
        town.choice.prefer(name(2))
        await until(lambda: town.choice.is_taken(name(2)))
        assert [await town.dial() for _ in range(5)] == [2] * 5
        told = {each["bridge"]: each for each in bridges_to_choose(town.choice)}
        assert told[name(2)]["taken"]
        assert not told[name(0)]["taken"]
        town.choice.prefer(name(0))
        await until(lambda: town.choice.is_taken(name(0)))
        assert await town.dial() == 0
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_while_the_chosen_one_does_not_work_another_one_does(monkeypatch) -> None:
    async def main() -> None:
        town = Town(0, 1)
        town.places[1]["up"] = False
        await town.choice.start()
        town.choice.prefer(name(1))
        await until(lambda: not town.choice._returning)
        assert await town.dial() == 0
        town.places[1]["up"] = True
        town.choice.prefer(name(1))  # it rests, and a person does not wait for that
        await until(lambda: town.choice.is_taken(name(1)))
        assert await town.dial() == 1
        town.kill(1)
        assert await town.dial() == 0
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_before_the_first_is_reached_it_comes_first(monkeypatch) -> None:
    async def main() -> None:
        town = Town(0, 1)
        assert not town.choice.is_taken(name(0))
        town.choice.prefer(name(1))
        await town.choice.start()
        assert await town.dial() == 1
        with pytest.raises(ConfigError):
            town.choice.prefer("elsewhere.example:443")
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_it_is_asked_over_the_control_socket(monkeypatch) -> None:
    async def main() -> None:
        import asyncio

        asked: list[str] = []

        def prefer(bridge: str) -> dict[str, str]:
            if bridge != name(1):
                raise ConfigError(["no bridge of that name is known"])
            asked.append(bridge)
            return {"preferred": bridge}

        port = ControlPort(asyncio.get_running_loop(), {"state": dict}, {"prefer": prefer})
        assert await port.answer(Request("prefer", name(1)).serialize()) == Reply({"preferred": name(1)})
        assert (await port.answer(Request("prefer").serialize())).problems
        assert await port.answer(Request("state").serialize()) == Reply({})
        assert asked == [name(1)]

    run("asyncio", monkeypatch, main)


def test_a_bridge_s_name_is_bounded() -> None:
    assert Request.parse(Request("prefer", name(1)).serialize().rstrip()) == Request("prefer", name(1))
    for wrong in (b'"%s"' % (b"x" * (MAX_BRIDGE + 1)), b"1", b"null", b"[]"):
        with pytest.raises(ControlError):
            Request.parse(b'{"version":1,"ask":"prefer","bridge":%s}' % wrong)
