"""The colours of the page and of pictures, light and dark, as CSS variables."""

from __future__ import annotations

__all__ = ["PALETTE", "STATUS_COLOURS", "STATUS_OPACITY", "THEMES", "css"]

PALETTE = {
    # name: (light, dark)
    "paper": ("#ffffff", "#11151c"),
    "panel": ("#f6f7f9", "#181e27"),
    "line": ("#e2e5ea", "#2a323e"),
    "ink": ("#1b2330", "#e4e9f0"),
    "soft": ("#657083", "#93a0b3"),
    "accent": ("#2f6fed", "#6ea0ff"),
    "up": ("#12947a", "#26b598"),
    "down": ("#d6455d", "#f0637b"),
    "gap": ("#d98200", "#f5a524"),
    "healed": ("#2f6fed", "#6ea0ff"),
    "published": ("#7a5af0", "#a48bff"),
    "doubt": ("#8a94a6", "#74819a"),
}
STATUS_COLOURS = {
    "COMPLETE": "up",
    "HEALED": "healed",
    "PUBLISHED": "published",
    "RETRACTED": "soft",
    "PROVISIONAL": "line",
    "UNVERIFIABLE": "doubt",
    "SAMPLED": "doubt",
    "REPORTED": "doubt",
    "PARTIAL": "line",
    "GAP": "gap",
}
"""Status -> its colour in the strip below the candles."""
STATUS_OPACITY = {
    "COMPLETE": (1.0, 1.0),
    "HEALED": (1.0, 1.0),
    "PUBLISHED": (1.0, 1.0),
    "RETRACTED": (0.0, 0.2),
    "PROVISIONAL": (0.0, 1.0),
    "UNVERIFIABLE": (0.62, 1.0),
    "SAMPLED": (0.3, 1.0),
    "REPORTED": (0.22, 0.38),
    "PARTIAL": (0.22, 0.38),
    "GAP": (0.55, 1.0),
}
"""Status -> how opaque a candle's body is, and its outline."""
THEMES = ("auto", "light", "dark")
_LIGHT, _DARK = 0, 1


def _variables(theme: int) -> str:
    return ";".join(f"--{name}:{both[theme]}" for name, both in PALETTE.items())


def css(root: str = ":root", theme: str = "auto") -> str:
    """Rules that set the colours below `root`.

    Args:
        root: a selector.
        theme: "light", "dark", or "auto": as the reader's system is, unless `data-theme` says which.
    """
    light, dark = _variables(_LIGHT), _variables(_DARK)
    if theme != "auto":
        return f"{root}{{{light if theme == 'light' else dark}}}"
    return (
        f"{root}{{color-scheme:light;{light}}}"
        f'@media (prefers-color-scheme:dark){{{root}:not([data-theme="light"]){{color-scheme:dark;{dark}}}}}'
        f'{root}[data-theme="dark"]{{color-scheme:dark;{dark}}}'
    )
