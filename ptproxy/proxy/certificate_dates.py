"""When a certificate begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509


@dataclass(frozen=True, slots=True)
class Dates:
    """Unix seconds."""

    begins_at: float
    ends_at: float


def dates_of(path: Path) -> Dates | None:
    """Of the first certificate in a PEM file; None where it cannot be read."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        return None
    return Dates(found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())


def ends_at(path: Path) -> float | None:
    """When it ends; None where it cannot be read."""
    dates = dates_of(path)
    return None if dates is None else dates.ends_at
