"""How a run went, and how one in progress is going -> headline figures, tables and words; no streamlit, no torch."""

from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from medisync.reporting.formatting import NO_VALUE, duration, escape, megabytes, moment, percent, plain
from medisync.reporting.tables.metric_tables import Headline, style
from medisync.schemas import HistoryEntry, ModelMeta, Progress

LEVELS = ("INFO", "WARNING", "ERROR")


def log_lines(text: str) -> list[tuple[str, str, str]]:
    """The lines of a log as (time, level, message); a line without level goes with the one before."""
    rows: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        day, clock, level, message = (line.split(" ", 3) + [""] * 4)[:4]
        if level in LEVELS:
            rows.append((f"{day} {clock.partition(',')[0]}", level, plain(message, 500)))
        elif rows:
            rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} {plain(line, 500)}")
    return rows


def log_table(rows: Sequence[tuple[str, str, str]], least: str, wanted: str) -> pd.DataFrame:
    """Those of a level or a graver one that hold `wanted`, whatever the case."""
    kept = [
        row for row in rows if LEVELS.index(row[1]) >= LEVELS.index(least) and wanted.lower() in " ".join(row).lower()
    ]
    return pd.DataFrame(kept, columns=["Time", "Level", "Message"])


def refusals(history: Sequence[HistoryEntry]) -> list[str]:
    """One line of Markdown per update that did not enter the average."""
    return [
        f"**Round {entry.epoch}, {escape(refusal.hospital)}:** {escape(refusal.reason)}"
        for entry in history
        for refusal in entry.refused
    ]


def remarks(history: Sequence[HistoryEntry]) -> list[str]:
    """One line of Markdown per thing that was odd about an update that did enter the average."""
    return [
        f"**Round {entry.epoch}, {escape(remark.hospital)}:** {escape(remark.reason)}"
        for entry in history
        for remark in entry.remarks
    ]


def hospitals(history: Sequence[HistoryEntry]) -> Styler:
    """What the rounds took from each hospital: rounds, refusals and absences, time, and what crossed the network."""
    names = sorted(
        {name for entry in history for name in entry.hospitals} | {r.hospital for e in history for r in e.refused}
    )
    return style([_effort(name, history) for name in names])


def _effort(name: str, history: Sequence[HistoryEntry]) -> dict[str, object]:
    found = [entry.hospitals[name] for entry in history if name in entry.hospitals]
    trained = [scores for scores in found if scores.train_images]
    seconds = [scores.seconds for scores in trained if scores.seconds]
    return {
        "Hospital": escape(name),
        "Rounds trained": len(trained),
        "Refused or absent": sum(refusal.hospital == name for entry in history for refusal in entry.refused),
        "Training a round": duration(sum(seconds) / len(seconds)) if seconds else NO_VALUE,
        "Sent to it": megabytes(sum(scores.bytes_down for scores in found)),
        "Sent by it": megabytes(sum(scores.bytes_up for scores in found)),
    }


def training_headlines(history: Sequence[HistoryEntry], meta: ModelMeta) -> list[Headline]:
    seconds = sum(entry.seconds for entry in history)
    return [
        Headline("Rounds", f"{len(history)}", help="Global model out, updates back, one average."),
        Headline("Best round", f"{meta.best_epoch}", help="Chosen on validation scans; test scans had no say."),
        Headline("Best validation accuracy", percent(meta.metrics.best_val_accuracy)),
        Headline("Time in rounds", duration(seconds)),
    ]


def rounds(history: Sequence[HistoryEntry]) -> Styler:
    rows = [
        {
            "Round": entry.epoch,
            "Training loss": entry.train_loss,
            "Training accuracy": entry.train_accuracy,
            "Validation loss": entry.val_loss,
            "Validation accuracy": entry.val_accuracy,
            "Learning rate": entry.learning_rate,
            "Time": duration(entry.seconds),
        }
        for entry in history
    ]
    table = style(rows, fractions=["Training accuracy", "Validation accuracy"])
    table.format("{:.4f}", subset=["Training loss", "Validation loss"], na_rep=NO_VALUE)
    return table.format("{:.2g}", subset=["Learning rate"])


def standing(run: str, progress: Progress) -> str:
    """Where a run in progress stands, as Markdown."""
    rate = f", {progress.images_per_second:,.0f} images/s" if progress.images_per_second else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    at = f"round {progress.round} of {progress.rounds}" if progress.rounds else progress.stage
    return f"**{escape(run)}** is training: {at}, {escape(progress.hospital)}{rate}{left}"


def problem(run: str, reason: str, progress: Progress | None) -> str:
    """Why a run cannot be shown, as Markdown."""
    standing = f" ({_standing(progress)})" if progress else ""
    return f"**{escape(run)}:** {escape(reason)}{standing}."


def _standing(progress: Progress) -> str:
    """Where an unfinished run stands, in words."""
    words = f"last seen in {progress.stage}"
    if progress.rounds:
        words += f", round {progress.round} of {progress.rounds}"
    return words + (f", {moment(progress.updated_at)}" if progress.updated_at else "")
