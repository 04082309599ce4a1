"""The paper's Table 5 beside ours, in Markdown."""

from collections.abc import Mapping
from typing import Any

from homnet.records import paper
from homnet.records.beside_paper import HOMNET, PAPER_FORM
from homnet.records.training_tables import failed_note
from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT


def running_time_markdown(figures: Mapping[str, Any]) -> str:
    """Table 5: seconds of all methods, ours and the paper's.

    Args:
        figures: what :func:`homnet_platform.records.running_time.time_methods` gives.
    """
    lines = []
    for row in figures["rows"]:
        name = HOMNET if row["method"] == PAPER_FORM else row["method"]
        theirs = paper.TABLE_5.get(name)
        memory = row["peak_memory_gib"]
        lines.append(
            [
                row["method"],
                f"{row['numbers']:,}",
                _hundred(row["train_100"]),
                _hundred(row["score_100"]),
                ("" if row["converged"] else "over ") + f"{row['convergence']:.1f}",
                f"{row['validation_auc']:.3f}",
                ABSENT if memory is None else f"{memory:.2f}",
                *([ABSENT, ABSENT] if theirs is None else [f"{theirs[0]:g}", f"{theirs[1]:,.0f}"]),
            ]
        )
    heads = (
        "Method",
        "Numbers kept",
        "100 batches, learning, s",
        "100 batches, scoring, s",
        "Convergence, s",
        "Validation AUC",
        "Peak memory, GiB",
        "paper: 100 batches, s",
        "paper: convergence, s",
    )
    note = (
        f"Batches of {figures['batch_size']} bags; {figures['num_batches']} were timed after a "
        "warm-up, and the time of 100 is stated, median (10 to 90 %). "
        f"{figures['threads']} threads, one method after the other. What is fitted in one go has "
        "no batches to learn from. Convergence: seconds of a pre-training in batches of "
        f"{figures['learning_batch_size']} until the epoch with the best validation AUC, of "
        f"{figures['epochs']} over {100 * figures['share_of_people']:.2g} % of the people; *over*: "
        "the last epoch was the best, so it had not converged. Each method with the first of its "
        f"trials. The paper ({paper.CITATION}) names neither its hardware nor what its batches do."
    )
    if not figures["num_reused"]:
        note += f" All took {figures['wall_s'] / 60:.0f} minutes."
    return f"{markdown_table(heads, lines)}\n\n{note}{failed_note(figures)}\n"


def _hundred(seconds: Mapping[str, float] | None) -> str:
    return "" if seconds is None else "{p50:.1f} ({p10:.1f} to {p90:.1f})".format(**seconds)
