"""Hidden functions are found where they are, and nowhere else."""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import StartError
from ptproxy.tunnel.boring.symbols import COMPARED, hidden_functions, parse_image

EXPORTED = ("curl_easy_init", "curl_version")


@pytest.fixture(scope="module")
def path() -> Path:
    package = importlib.util.find_spec("curl_cffi")
    if package is None or not package.submodule_search_locations:
        pytest.skip("curl_cffi is not installed")
    found = sorted(Path(package.submodule_search_locations[0]).glob("_wrapper*.so"))
    if not found:
        pytest.skip("this curl_cffi holds no shared library of the usual kind")
    return found[0]


def test_a_hidden_function_answers(path: Path) -> None:
    library = ctypes.PyDLL(str(path))
    found = hidden_functions(library, path, ["X509_verify_cert_error_string"], EXPORTED)
    function = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_long)(found["X509_verify_cert_error_string"])
    assert function(10) == b"certificate has expired"


def test_exported_functions_are_where_the_linker_says(path: Path) -> None:
    library = ctypes.PyDLL(str(path))
    found = hidden_functions(library, path, ["curl_easy_cleanup"], EXPORTED)
    assert found["curl_easy_cleanup"] == ctypes.cast(library.curl_easy_cleanup, ctypes.c_void_p).value


def test_a_function_that_is_not_there(path: Path) -> None:
    with pytest.raises(StartError, match="SSL_no_such_thing"):
        hidden_functions(ctypes.PyDLL(str(path)), path, ["SSL_read", "SSL_no_such_thing"], EXPORTED)


def test_a_file_that_is_not_the_one_loaded(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    image = parse_image(bytes(data), ["SSL_read"])
    data[image.code_offset + image.functions["SSL_read"] - image.code_address] ^= 1
    other = tmp_path / "other.so"
    other.write_bytes(data)
    with pytest.raises(StartError, match="not the one in its file: SSL_read"):
        hidden_functions(ctypes.PyDLL(str(path)), other, ["SSL_read"], EXPORTED)


def macho(value: int = 0x1040) -> bytes:
    """The least Mach-O file: __TEXT with one function, a debugger's symbol and an imported one."""
    strings = b"\0_SSL_read\0_SSL_write\0"
    code = bytes(range(128))
    header_size = 32 + 72 + 24
    symbols = (
        struct.pack("<IBBHQ", 1, 0x24, 1, 0, 0x7777)  # N_FUN: for debuggers
        + struct.pack("<IBBHQ", 1, 0x0F, 1, 0, value)
        + struct.pack("<IBBHQ", 11, 0x01, 0, 0, 0)  # imported
    )
    return (
        b"\xcf\xfa\xed\xfe"
        + struct.pack("<IIIIIII", 0x0100000C, 0, 6, 2, 96, 0, 0)
        + struct.pack("<II16sQQQQIIII", 0x19, 72, b"__TEXT", 0x1000, 0x1000, header_size, 128, 5, 5, 0, 0)
        + struct.pack("<IIIIII", 0x2, 24, header_size + 128, 3, header_size + 128 + 48, len(strings))
        + code
        + symbols
        + strings
    )


def test_macho() -> None:
    image = parse_image(macho(), ["SSL_read", "SSL_write"])
    assert image.functions == {"SSL_read": 0x1040}
    assert image.first_bytes(0x1040) == bytes(range(0x40, 0x40 + COMPARED))


@pytest.mark.parametrize("value", [0, 0xFFF, 0x1080 - COMPARED + 1, 1 << 63])
def test_an_address_outside_the_code(value: int) -> None:
    image = parse_image(macho(value), ["SSL_read"])
    with pytest.raises(StartError, match="outside its code"):
        image.first_bytes(image.functions["SSL_read"])


@given(st.sampled_from([b"", b"\x7fELF\x02\x01", b"\xcf\xfa\xed\xfe"]), st.binary(max_size=400))
def test_garbage_is_a_start_error(magic: bytes, rest: bytes) -> None:
    with pytest.raises(StartError):
        parse_image(magic + rest, ["SSL_read"])


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_file_is_parsed_or_refused(place: int, value: int) -> None:
    data = bytearray(macho())
    data[place % len(data)] = value
    try:
        parse_image(bytes(data), ["SSL_read"])
    except StartError:
        pass
