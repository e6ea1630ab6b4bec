"""The example configurations: valid, complete, with every default as the model has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ptproxy.cli import written
from ptproxy.cli.check import load_checked
from ptproxy.cli.init_bridge import Plan
from ptproxy.config.link import Link
from ptproxy.config.load import ROLES
from ptproxy.config.model import BridgeConfig, ClientConfig, Section
from ptproxy.config.quantities import Endpoint

CONFIGS = Path(__file__).parent.parent.parent / "configs"
KEY = re.compile(r"( *)(?:# )?([a-z_0-9]+):(?:| \S+| \[.*\]| \{.*\})")
EXAMPLES = ("bridge.yaml", "bridge-behind-nginx.yaml", "client.yaml", "directory.yaml")


def fields(model: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, (*prefix, name))


def mentioned(text: str) -> list[tuple[tuple[str, ...], bool]]:
    """Every key in an example, and whether a comment stands above it."""
    found: list[tuple[tuple[str, ...], bool]] = []
    section, commented = "", False
    for line in text.partition("# ---- the web server")[0].split("\n"):
        match = KEY.fullmatch(line)
        if match:
            found.append(((section, match[2]) if match[1] else (match[2],), commented))
            section = section if match[1] else match[2]
        else:
            commented = line.strip().startswith("#")
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_the_templates(name: str) -> None:
    assert (CONFIGS / name).read_text("utf-8") == written.example(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_field_is_there(name: str) -> None:
    text = written.example(name)
    model = ROLES[yaml.safe_load(text)["role"]]
    assert set(fields(model)) <= {place for place, _ in mentioned(text)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_key_is_explained(name: str) -> None:
    sections = {"tls", "egress", "limits", "log", "front", "role"}
    bare = [
        place for place, commented in mentioned(written.example(name))
        if not commented and (len(place) > 1 or place[0] not in sections)
    ]  # fmt: skip
    assert bare == []


def stated_default(text: str, place: tuple[str, ...]) -> str | None:
    """What the comment above a key says of its default."""
    comment, section = "", ""
    for line in text.split("\n"):
        match = KEY.fullmatch(line)
        if match and ((section, match[2]) if match[1] else (match[2],)) == place:
            default = re.search(r"Default: ([^.,\n]+)", comment)
            return default[1].strip() if default else None
        if match and not match[1] and not line.startswith("#"):
            section = match[2]
        comment = comment + line if line.strip().startswith("# ") else ""
    return None


@pytest.mark.parametrize("model", [BridgeConfig, ClientConfig])
def test_stated_defaults_are_the_models(model: type[Section], tmp_path: Path) -> None:
    name = "bridge.yaml" if model is BridgeConfig else "client.yaml"
    text = written.example(name)
    required = {
        key: value for key, value in yaml.safe_load(text).items() if model.model_fields[key].is_required()
    }
    checked = 0
    for place in fields(model):
        stated = stated_default(text, place)
        if stated is None or not re.fullmatch(r"[a-z0-9]+(MiB)?", stated) or stated in ("none", "all"):
            continue
        value: object = yaml.safe_load(stated) if stated != "off" else "off"
        settings = (
            {**required, place[0]: value} if len(place) == 1 else {**required, place[0]: {place[1]: value}}
        )
        try:
            config = model.model_validate(settings, context={"folder": tmp_path})
        except ValidationError as error:
            raise AssertionError(f"{place}: {stated}: {error}") from None
        default: object = model.model_validate(required, context={"folder": tmp_path})
        for part in place:
            config, default = getattr(config, part), getattr(default, part)
        assert config == default, place
        checked += 1
    assert checked >= 12


def test_filled_examples_load(tmp_path: Path) -> None:
    for name in ("fullchain.pem", "cert.key"):
        (tmp_path / name).write_text("")
    text = written.fill(
        written.example("client.yaml"),
        {
            "listen": ["127.0.0.1:1", "[::1]:2"], "front.user": "an: na", "carriers": 2, "codec": ["http"],
            "log.file": "x.log", "log.level": "debug", "tls.trust": "system", "front.password_file": "pw",
        },
    )  # fmt: skip
    for name in ("client.key", "pw"):
        (tmp_path / name).write_text("A" * 43)
        os.chmod(tmp_path / name, 0o600)
    (tmp_path / "client.yaml").write_text(text)
    config = load_checked(tmp_path / "client.yaml", "client")
    assert isinstance(config, ClientConfig)
    assert config.listen == (Endpoint("127.0.0.1", 1), Endpoint("::1", 2))
    assert config.front.user == "an: na"
    assert config.log.file == tmp_path / "x.log"
    assert (config.carriers, config.codecs, config.log.level) == (2, ("http",), "debug")
    assert isinstance(config.bridge, Link)


def test_filling_in_a_key_that_is_not_there() -> None:
    with pytest.raises(KeyError, match=r"log\.flavour"):
        written.fill(written.example("client.yaml"), {"log.flavour": 1, "listen": "127.0.0.1:1"})


@pytest.mark.parametrize(
    "value",
    [
        "plain", "a b", "a: b", "a #b", "- a", "[x", "true", "5", "1:30", "", " ", "ä", '"', "'",
        "127.0.0.1:1", "*", "@x", "/x", "%x", "a,b",
        "x:", "null", "~", "[::]:443", "C:\\x", 5, True, False, ["a", "b, c", "*:25", "[::1]:80"], [],
    ],
)  # fmt: skip
def test_scalars_come_back(value: written.Value) -> None:
    line = f"key: {written.scalar(value)}"
    from ptproxy.config.document import parse

    document = parse(line)
    assert document.problems == []
    assert document.data["key"] == value


def test_the_written_web_server_part_has_the_bridges_own_values(tmp_path: Path) -> None:
    plan = Plan(
        tmp_path, "example.org:443", "127.0.0.1:9000", "behind", None, (), "open", None, "/my/path", None,
        None,
        tmp_path / "c.pem", False, False,
    )  # fmt: skip
    plan.complete()
    snippet = plan.text().partition("# ---- the web server in front")[2]
    assert "location = /my/path {" in snippet
    assert "proxy_pass http://127.0.0.1:9000;" in snippet
    assert "/assets/live" not in plan.text()
