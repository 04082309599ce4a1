"""The paper's tables beside ours: Markdown and a picture.

The paper's data are private and its protocol is not fully told; its figures stand beside ours for
the order of methods and for gaps, not for the values themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from homnet import paper
from homnet.report.tables import ABSENT, cell, markdown_table

_METRICS = ("auc", "f1")


def comparison_markdown(figures: Mapping[str, Any]) -> str:
    """Tables 2 and 3: methods down, hospitals across, and how far each is behind HomNet.

    Args:
        figures: of a reproduction: ``rows``, ``seeds``, ``epochs``, ``share_of_people``,
            ``fine_tuned`` and ``failed``.
    """
    rows = figures["rows"]
    hospitals = list(dict.fromkeys(row["hospital"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    of = {(row["method"], row["hospital"]): row for row in rows}
    theirs = _paper_cells(figures["fine_tuned"])
    columns = paper.HOSPITALS if figures["fine_tuned"] else ("Pki-3",)
    heads = [
        "Method",
        *(f"{h}: {name}" for h in hospitals for name in ("AUC", "F1")),
        *(f"paper, {h}: AUC / F1" for h in columns),
    ]
    lines = [
        [m, *(cell(of[m, h][name]) for h in hospitals for name in _METRICS), *theirs(m)]
        for m in methods
    ]
    tables = [markdown_table(heads, lines)]
    behind = [m for m in methods if all("auc_behind" in of[m, h] for h in hospitals)]
    if behind:
        heads = [
            "HomNet minus",
            *(f"{h}: {name}" for h in hospitals for name in ("AUC", "F1")),
        ]
        lines = [
            [m, *(cell(of[m, h][f"{name}_behind"]) for h in hospitals for name in _METRICS)]
            for m in behind
        ]
        tables.append(markdown_table(heads, lines))
    tables.append(_setting(figures))
    return "\n\n".join(tables)


def _paper_cells(fine_tuned: bool) -> Callable[[str], list[str]]:
    """What the paper has for a method, as cells; floors are not in it."""

    def cells(method: str) -> list[str]:
        if fine_tuned:
            known: Sequence[tuple[float, float]] | None = paper.TABLE_2.get(method)
            return _both(known) if known else [ABSENT] * len(paper.HOSPITALS)
        one = paper.TABLE_3.get(method)
        return _both([one]) if one else [ABSENT]

    return cells


def _both(values: Sequence[tuple[float, float]]) -> list[str]:
    return [f"{auc / 100:.3f} / {f1 / 100:.3f}" for auc, f1 in values]


def _setting(figures: Mapping[str, Any]) -> str:
    trials = max((len(run["pretraining"]) for run in figures["runs"]), default=1)
    failed = sorted({one["method"] for one in figures["failed"]})
    note = (
        f"Means over {len(figures['seeds'])} seeds; in brackets: 95 % intervals by patient "
        "bootstrap of that mean, paired for the differences. All methods: the same people, bags "
        f"and early stopping, at most {figures['epochs']} epochs"
    )
    if figures["share_of_people"] < 1:
        note += f" over {100 * figures['share_of_people']:.0f} % of the healthy people"
    other = "private data" if figures["fine_tuned"] else "abnormalities"
    note += (
        f", {trials} trials of what each has to be tuned, chosen on validation people (floors have "
        f"nothing to tune). The paper's figures ({paper.CITATION}) are of other {other}"
    )
    return note + (
        f". Not in the table, as they failed: {', '.join(failed)}.\n" if failed else ".\n"
    )


def ablation_beside_paper(figures: Mapping[str, Any]) -> str:
    """The paper's Table 4, for the variants of an ablation of ours."""
    variants = list(dict.fromkeys(row["variant"] for row in figures["rows"]))
    lines = [
        [variant, *_both(paper.TABLE_4[variant])]
        for variant in variants
        if variant in paper.TABLE_4
    ]
    lines.append(["HomNet", *_both(paper.TABLE_2["HomNet"])])
    heads = ["Paper's variant", *(f"{h}: AUC / F1" for h in paper.HOSPITALS)]
    return f"{markdown_table(heads, lines)}\n\n{paper.CITATION}.\n"


def running_time_markdown(figures: Mapping[str, Any]) -> str:
    """Table 5: seconds of all methods, ours and the paper's."""
    lines = []
    for row in figures["rows"]:
        theirs = paper.TABLE_5.get(row["method"])
        lines.append(
            [
                row["method"],
                f"{row['numbers']:,}",
                "" if row["train_100"] is None else f"{row['train_100']:.1f}",
                f"{row['score_100']:.1f}",
                f"{row['convergence']:.1f}",
                f"{row['validation_auc']:.3f}",
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
        "paper: 100 batches, s",
        "paper: convergence, s",
    )
    note = (
        f"Batches of {figures['batch_size']} bags; {figures['num_batches']} were timed, and the "
        f"time of 100 is stated. {figures['threads']} threads, one method after the other. "
        "Convergence is the epoch that early stopping kept. The paper "
        f"({paper.CITATION}) names neither its hardware nor what its batches do."
    )
    return f"{markdown_table(heads, lines)}\n\n{note}\n"


def draw_comparison(figures: Mapping[str, Any], path: Path) -> None:
    """AUC and F1 of every method with intervals, hospital by hospital, and the paper's AUC."""
    rows = figures["rows"]
    hospitals = list(dict.fromkeys(row["hospital"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(
        figsize=(2.2 + 2.6 * len(hospitals), 0.9 + 0.28 * len(methods)), layout="constrained"
    )
    panels = figure.subplots(1, len(hospitals), sharey=True, squeeze=False)[0]
    for number, (axes, hospital) in enumerate(zip(panels, hospitals, strict=True)):
        own = {row["method"]: row for row in rows if row["hospital"] == hospital}
        for offset, metric, label in ((-0.12, "auc", "AUC"), (0.12, "f1", "F1")):
            drawn = False
            for place, method in enumerate(methods):
                estimate = own[method][metric]
                if estimate["value"] is None:
                    continue
                colour = "C0" if metric == "auc" else "C1"
                if estimate["low"] is not None:
                    axes.plot(
                        [estimate["low"], estimate["high"]], 2 * [place + offset], color=colour
                    )
                axes.plot(
                    estimate["value"],
                    place + offset,
                    "o",
                    color=colour,
                    markersize=4,
                    label=None if drawn else label,
                )
                drawn = True
        theirs = [
            (place, _paper_auc(method, number, figures["fine_tuned"]))
            for place, method in enumerate(methods)
        ]
        known = [(place, value) for place, value in theirs if value is not None]
        if known:
            axes.plot(
                [value for _, value in known],
                [place for place, _ in known],
                "x",
                color="grey",
                label="AUC in the paper (other data)",
            )
        axes.axvline(0.5, color="lightgrey", linewidth=0.8)
        axes.set(title=hospital, xlim=(0, 1.02))
        axes.set_yticks(range(len(methods)), methods)
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _paper_auc(method: str, hospital: int, fine_tuned: bool) -> float | None:
    if not fine_tuned:
        one = paper.TABLE_3.get(method) if hospital == 0 else None
        return None if one is None else one[0] / 100
    four = paper.TABLE_2.get(method)
    return None if four is None or hospital >= len(four) else four[hospital][0] / 100
