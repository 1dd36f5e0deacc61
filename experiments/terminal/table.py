# SPDX-License-Identifier: Apache-2.0
"""How numbers and tables look on the terminal."""


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def amount(value: float | None, form: str = "{:.3g}") -> str:
    """A number, or "unknown": never 0 for what nobody knows."""
    return "unknown" if value is None else form.format(value)
