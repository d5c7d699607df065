"""Colours and letters of the picture, for light and for dark pages."""

from __future__ import annotations

__all__ = ["STYLE", "state_class"]

_OPENING = {"SYN-SENT", "SYN-RECEIVED"}
_CLOSING = {"FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK"}

#: For each kind of arrow or state: its colour on a light page, and on a dark one.
_COLORS = {
    "opening": ("#1a7f4b", "#4cc38a"),
    "data": ("#0b6bcb", "#63b3ff"),
    "confirmed": ("#5c6b7d", "#8d9bab"),
    "closing": ("#8a3ffc", "#c297ff"),
    "trouble": ("#c8202f", "#ff7b82"),
    "established": ("#0b6bcb", "#63b3ff"),
    "waiting": ("#b35900", "#f0a44b"),
    "closed": ("#8a96a5", "#6b7887"),
}

_SANS = 'system-ui, "Segoe UI", Helvetica, Arial, "Noto Sans CJK SC", sans-serif'
_MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK SC", monospace'


def state_class(state: str) -> str:
    """Which colour a state has."""
    if state in _OPENING:
        return "opening"
    if state in _CLOSING:
        return "closing"
    return {"ESTABLISHED": "established", "TIME-WAIT": "waiting"}.get(state, "closed")


def _colors(number: int) -> str:
    """The colours, light ones (0) or dark ones (1)."""
    return "\n".join(
        f"  .life.{kind}, .tip.{kind}, .event.{kind}, text.{kind} {{ fill: {colors[number]} }}"
        f" .arrow.{kind} {{ stroke: {colors[number]} }}"
        for kind, colors in _COLORS.items()
    )


STYLE = f"""
  .page {{ fill: #ffffff }} .band {{ fill: #f4f6f9 }}
  .box {{ fill: #ffffff; stroke: #9aa7b8 }}
  text {{ font: 13px {_SANS}; fill: #14212f; white-space: pre }}
  .side {{ font-weight: 600; font-size: 15px }}
  .address {{ font: 12.5px {_MONO} }} .long {{ font-size: 10px }}
  .part {{ font-size: 12.5px; font-weight: 600; fill: #5a6675 }}
  .state {{ font: 600 12px {_MONO} }} .label {{ font: 600 13px {_MONO} }}
  .payload {{ font: 13px {_MONO}; fill: #14212f }} .remark {{ font-style: italic; fill: #b35900 }}
  .time {{ font: 12px {_MONO}; fill: #14212f }} .gap {{ font: 11px {_MONO}; fill: #6b7787 }}
  .meaning {{ font-size: 12.5px; fill: #34404d }} .foot {{ font-size: 13px; fill: #4a5665 }}
  .arrow {{ stroke-width: 1.8; fill: none }} .dashed {{ stroke-dasharray: 6 4 }}
{_colors(0)}
  @media (prefers-color-scheme: dark) {{
  .page {{ fill: #0d1117 }} .band {{ fill: #161c25 }}
  .box {{ fill: #0f151d; stroke: #4b596b }}
  text, .payload, .time {{ fill: #e8eef5 }} .part {{ fill: #a3afbd }} .remark {{ fill: #f0a44b }}
  .gap {{ fill: #8d9bab }} .meaning {{ fill: #c3ccd6 }} .foot {{ fill: #b1bcc9 }}
{_colors(1)}
  }}
"""
