"""The terminal table of a film's faces."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.emotions import PALETTE, Emotion
from mien.text import shown
from mien.video.timeline import Timeline, clock


def print_film(timeline: Timeline, name: str, faces: int = 12) -> None:
    """Print a video's name, and one row per face, longest seen first, with its expressions.

    The name has a line of its own, so that it is whole at any width.
    """
    console = Console(highlight=False)
    console.print(Text(shown(name), "bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("face", "seen", "from", "to"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("in the lead")
    ranked = timeline.ranked()
    for track in ranked[:faces]:
        total = track.seconds or 1.0
        shares = sorted(((s / total, e.value) for e, s in track.shares.items()), reverse=True)
        words = Text()
        for share, emotion in shares[:3]:
            words.append(f"{emotion} {share:.0%}  ", PALETTE[Emotion(emotion)])
        if track.unsure / total >= 0.005:
            words.append(f"unsure {track.unsure / total:.0%}", "dim")
        row = (str(track.track), f"{track.seconds:.1f} s", clock(track.first), clock(track.last))
        table.add_row(*row, words)
    rest = len(ranked) - faces + timeline.dropped
    if rest > 0:
        table.add_row("", "", "", "", Text(f"and {rest:,} more faces", "dim"))
    if timeline.passers:
        text = f"and {timeline.passers:,} passing by; --everyone shows them"
        table.add_row("", "", "", "", Text(text, "dim"))
    if not ranked and not timeline.passers:
        table.add_row("", "", "", "", Text("no face", "dim"))
    console.print(table)
