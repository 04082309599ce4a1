"""The paper's Tables 2 to 4 beside ours, in Markdown.

The paper's data are private and its protocol is not fully told; its figures stand beside ours for
the order of methods and for gaps, not for the values themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from homnet.records import paper
from homnet.records.training_tables import failed_note
from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT, cell

METRICS: Final = (("auc", "AUC"), ("f1", "F1"))
HOMNET: Final = "HomNet"
PAPER_FORM: Final = "HomNet, paper's form"
"""The line of the form that the paper describes; the line "HomNet" is the best form we know."""


def of_paper(name: str, number: int, metric: str, *, fine_tuned: bool = True) -> float | None:
    """The paper's figure beside one of ours, as a share; None where it has none.

    Args:
        name: a method, or a variant of an ablation.
        number: of the hospital, in the order of both tables.
        metric: "auc" or "f1".
        fine_tuned: of the four hospitals (Tables 2 and 4), or of artificial abnormalities (Table 3,
            one column).
    """
    name = HOMNET if name == PAPER_FORM else name
    known: Sequence[tuple[float, float]]
    if fine_tuned:
        known = paper.TABLE_2.get(name) or paper.TABLE_4.get(name) or ()
    else:
        one = paper.TABLE_3.get(name)
        known = () if one is None else (one,)
    return known[number][metric == "f1"] / 100 if number < len(known) else None


def beside_paper_markdown(
    rows: Sequence[Mapping[str, Any]], *, key: str, less: str, less_heading: str, fine_tuned: bool
) -> str:
    """AUC, F1 and differences: lines down, hospitals across, each beside the paper's.

    Args:
        rows: one per line and hospital, from :func:`homnet_platform.records.side_by_side.rows_of`.
        key: "method" or "variant".
        less: ending of the names of the differences.
        less_heading: what the first column of the differences is called.
        fine_tuned: see :func:`of_paper`.
    """
    names, hospitals, of = arranged(rows, key)
    theirs = paper.HOSPITALS if fine_tuned else ("Pki-3",)
    # A column of ours without one of theirs, and one of theirs without ours, is possible.
    beside = [theirs[n] if n < len(theirs) else "" for n in range(len(hospitals))]
    tables = []
    for metric, title in METRICS:
        heads = [key.capitalize()]
        for hospital, other in zip(hospitals, beside, strict=True):
            heads += [f"{title}, {hospital}", *([f"paper, {other}"] if other else [])]
        lines = []
        for name in names:
            line = [name]
            for number, (hospital, other) in enumerate(zip(hospitals, beside, strict=True)):
                line.append(cell(of[name, hospital][metric]))
                if other:
                    value = of_paper(name, number, metric, fine_tuned=fine_tuned)
                    line.append(ABSENT if value is None else f"{value:.3f}")
            lines.append(line)
        tables.append(markdown_table(heads, lines))
    compared = [m for m in names if all(f"auc_{less}" in of[m, h] for h in hospitals)]
    if compared:
        heads = [less_heading, *(f"{h}: {title}" for h in hospitals for _, title in METRICS)]
        lines = [
            [m, *(cell(of[m, h][f"{name}_{less}"]) for h in hospitals for name, _ in METRICS)]
            for m in compared
        ]
        tables.append(markdown_table(heads, lines))
    return "\n\n".join(tables)


def arranged(
    rows: Sequence[Mapping[str, Any]], key: str
) -> tuple[list[str], list[str], dict[tuple[str, str], Mapping[str, Any]]]:
    """Lines and hospitals in their order, and the row of each two."""
    return (
        list(dict.fromkeys(row[key] for row in rows)),
        list(dict.fromkeys(row["hospital"] for row in rows)),
        {(row[key], row["hospital"]): row for row in rows},
    )


def comparison_markdown(figures: Mapping[str, Any]) -> str:
    """Tables 2 and 3: methods down, hospitals across, and how far each is behind HomNet.

    Args:
        figures: what :func:`homnet_platform.records.reproduction.reproduce` gives.
    """
    table = beside_paper_markdown(
        figures["rows"],
        key="method",
        less="behind",
        less_heading="HomNet minus",
        fine_tuned=figures["fine_tuned"],
    )
    notes = [_protocol(figures), _tuning(figures), _cost(figures)]
    return "\n\n".join([table, *(note for note in notes if note)]) + "\n"


def _protocol(figures: Mapping[str, Any]) -> str:
    people = figures["people"]
    source = (
        "private patients"
        if figures["fine_tuned"]
        else "Pki-3 with abnormalities of its own making"
    )
    return (
        f"Means over {len(figures['seeds'])} seeds; in brackets: 95 % intervals by patient "
        "bootstrap of that mean, paired for the differences: where one does not contain 0, the "
        f"lead is real for these people. *HomNet* is the best form we know, *{PAPER_FORM}* the "
        "paper's equations; the paper's HomNet stands beside both, the floors are not in the "
        f"paper. The paper's figures ({paper.CITATION}) are of {source}. "
        f"Pre-training: {people['train']} people to learn from and {people['validation']} to "
        f"validate on, {figures['bags_per_epoch']:,} bags of {figures['num_cells']} in each of "
        f"{figures['epochs']} epochs. With one seed, all that learn in steps (HomNet, the six "
        "networks, Siamese) see the same bags with the same events in the same batches of "
        f"{figures['batch_size']}; the epoch with the best validation AUC is kept, and "
        f"{figures['patience']} without a better one would end a run. LR is fitted on the same "
        "bags, 20,000 at most. OC-SVM, Deep-SVDD and AE see no bags while they learn, but single "
        "normal pairs of the same people (10,000 at most; OC-SVM 4,000), the last two in as many "
        "epochs; validation chooses among their trials, and stops none early. All are scored on "
        "the same bags. Foreign segments of artificial abnormalities are of the same person."
    )


def _tuning(figures: Mapping[str, Any]) -> str:
    chosen = [
        f"{name} {_tried(of['lines'][of['chosen']]['tried'])}"
        for name, of in figures["trials"].items()
        if of["lines"][of["chosen"]]["tried"]
    ]
    if not chosen:
        return ""
    note = (
        f"{figures['num_trials']} trials of the pre-training for every method but the floors, with "
        "the first seed, chosen by AUC on validation people, and used by the other seeds"
    )
    if figures["fine_tuned"] and figures["num_tunings"]:
        note += (
            f"; {figures['num_tunings']} of the fine-tuning for all that learn from labels, one "
            "choice for all hospitals by their mean validation AUC"
        )
    return f"{note}. Chosen: {'; '.join(chosen)}. {_one_class(figures)}".strip()


def _tried(trial: Mapping[str, Any]) -> str:
    values = (f"{v:g}" if isinstance(v, float | int) else str(v) for v in trial.values())
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in zip(trial, values, strict=True))


def _one_class(figures: Mapping[str, Any]) -> str:
    """Whether it is the methods or the setting: validation AUC with either kind of features."""
    lines = []
    for name, of in figures["trials"].items():
        best: dict[str, float] = {}
        for line in of["lines"]:
            features = line["tried"].get("features")
            if features and not line.get("diverged"):
                best[features] = max(best.get(features, 0.0), line["validation_auc"])
        if best:
            lines.append(f"{name} {' and '.join(f'{v:.3f} ({f})' for f, v in best.items())}")
    return f"Best validation AUC by features: {', '.join(lines)}." if lines else ""


def _cost(figures: Mapping[str, Any]) -> str:
    memory = figures["peak_memory_gib"]
    note = f"{figures['work_s'] / 60:.0f} minutes of work"
    if not figures["num_reused"]:
        note += f" in {figures['wall_s'] / 60:.0f} minutes"
    if memory is not None:
        note += f", at most {memory:.1f} GiB over all processes"
    return f"{note}.{failed_note(figures)}"


def ablation_beside_paper(figures: Mapping[str, Any]) -> str:
    """The paper's Table 4 beside an ablation of ours.

    Args:
        figures: of ``homnet_platform.records.reproduction``, for four hospitals.
    """
    table = beside_paper_markdown(
        figures["rows"],
        key="variant",
        less="less_full",
        less_heading="Minus HomNet",
        fine_tuned=True,
    )
    note = (
        f"Means over {len(figures['seeds'])} seeds; in brackets: 95 % intervals by patient "
        "bootstrap of that mean, paired for the differences. All variants with one seed see the "
        'same bags in the same batches, but for "w/o bag", whose batches hold as many pairs one by '
        "one; none is tuned by itself. HomNet has merge range 32, as in the paper "
        f"({paper.CITATION}), whose figures are of private patients."
    )
    return f"{table}\n\n{note}{failed_note(figures)}\n"
