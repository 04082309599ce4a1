"""The paper's Tables 2 to 5 beside ours, in Markdown.

The paper's data are private and its protocol is not fully described: compare the order of the
methods and the gaps between them, not the values.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from homnet.records import paper
from homnet.records.training_tables import ablation_markdown, arranged, failed_note, means_note
from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT, cell

METRICS: Final = (("auc", "AUC"), ("f1", "F1"))
CONVERGED: Final = 0.005
"""Maximum rise of the validation AUC in the last quarter of a training that has converged, and
maximum fall below its trial of one that has not collapsed."""
LEARNT: Final = 0.6
"""Validation AUC below which a training has learnt nothing yet, however flat its curve is."""
HOMNET: Final = "HomNet"
OF_HOSPITALS: Final = "mean"
"""The mean over the hospitals, where others have the name of one."""
PAPER_FORM: Final = "HomNet, paper's form"
"""Line of the form that the paper describes; the line "HomNet" is our best form."""


def of_paper(name: str, number: int, metric: str, *, fine_tuned: bool = True) -> float | None:
    """The paper's figure for one of ours, as a share; None if the paper has none.

    Args:
        name: a method, or a variant of an ablation.
        number: index of the hospital, in the order of both tables.
        metric: "auc" or "f1".
        fine_tuned: True for the four hospitals (Tables 2 and 4), False for artificial abnormalities
            (Table 3, one column).
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
    """AUC, F1 and differences: methods as rows, hospitals as columns, each beside the paper's.

    Args:
        rows: one per line and hospital, from :func:`homnet_platform.records.side_by_side.rows_of`.
        key: "method" or "variant".
        less: suffix of the names of the differences.
        less_heading: heading of the first column of the differences.
        fine_tuned: see :func:`of_paper`.
    """
    names, hospitals, of = arranged(rows, key)
    theirs = paper.HOSPITALS if fine_tuned else ("Pki-3",)
    # Either table may have columns that the other lacks.
    beside = [
        theirs[n] if n < len(theirs) and hospital != OF_HOSPITALS else ""
        for n, hospital in enumerate(hospitals)
    ]
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


def comparison_markdown(figures: Mapping[str, Any]) -> str:
    """Tables 2 and 3: methods as rows, hospitals as columns, and the deficit relative to HomNet.

    Args:
        figures: result of :func:`homnet_platform.records.reproduction.reproduce`.
    """
    table = beside_paper_markdown(
        figures["rows"],
        key="method",
        less="behind",
        less_heading="HomNet minus",
        fine_tuned=figures["fine_tuned"],
    )
    notes = [_protocol(figures), _tuning(figures), learning_note(figures), _cost(figures)]
    return "\n\n".join([table, *(note for note in notes if note)]) + "\n"


def _protocol(figures: Mapping[str, Any]) -> str:
    people = figures["people"]
    source = (
        "private patients"
        if figures["fine_tuned"]
        else "Pki-3 with artificial abnormalities of its own"
    )
    fitted = (
        "LR is fitted in one go to the bags of its minutes, at most 500,000, and OC-SVM to all "
        "normal pairs; Deep-SVDD and AE learn from normal bags only. "
        if "minutes" in figures
        else ""
    )
    return (
        f"{means_note(figures)}, paired for the differences. *HomNet* is the best form, "
        f"*{PAPER_FORM}* follows the paper's equations; the paper's HomNet stands beside both. The "
        f"paper's figures ({paper.CITATION}) are of {source}; it has no length ratio or aligned "
        f"correlation. Pre-training: {people['train']} people to learn from, "
        f"{people['validation']} for validation, bags of {figures['num_cells']} pairs in batches "
        f"of {figures['batch_size']}. {rule_note(figures)} {fitted}All methods are scored on the "
        "same bags. Foreign segments come from the same person."
    )


def rule_note(figures: Mapping[str, Any]) -> str:
    """The rule that all trainings of a table follow."""
    keep = (
        "The epoch with the best validation AUC is kept; "
        f"{figures['patience']} epochs without a better one end a training."
    )
    if "minutes" not in figures:
        return (
            f"{keep} Recorded by an older rule: every method saw the same bags in "
            f"{figures['epochs']} epochs, whatever its speed; LR at most 20,000, one-class "
            "methods 10,000 single pairs (OC-SVM 4,000)."
        )
    if not figures["minutes"]:
        return f"One rule for all: 100 epochs over all people for each training. {keep}"
    most = max((len(run["curve"]) for run in figures["runs"]), default=0)
    return (
        f"One rule for all: {figures['minutes']:g} minutes of one core for each training, "
        f"{figures['trial_minutes']:g} for each trial, on all people; each method sees the bags "
        f"that it has time for, by its rate measured before; the longest training had {most} "
        f"epochs. {keep}"
    )


def learning_note(figures: Mapping[str, Any]) -> str:
    """Whether each training had converged: where it came, and what its last quarter brought.

    Args:
        figures: ``runs`` with the ``curve`` of each training; of the first seed only.
    """
    lines, late, nothing = [], [], []
    for name, run in curves_of(figures).items():
        curve = run["curve"]
        rise = max(curve) - max(curve[: -(-3 * len(curve) // 4)])
        took = f"{run['bags']:,} bags, {run['cpu_seconds'] / 60:.1f} min"
        lines.append(f"{name} {max(curve):.3f}, +{rise:.3f} ({took})")
        if rise > CONVERGED:
            late.append(name)
        elif max(curve) < LEARNT:
            nothing.append(name)
    if not lines:
        return ""
    verdicts = [
        f" {what}: {', '.join(names)}."
        for what, names in (("Had not converged", late), ("Had learnt nothing", nothing))
        if names
    ]
    return (
        "Best validation AUC and its rise in the last quarter of the training (first seed; bags "
        f"and minutes of one core that it took): {'; '.join(lines)}."
        f"{''.join(verdicts) or ' All had converged.'} A rise of at most {CONVERGED:g} counts as "
        f"converged, if {LEARNT:g} was reached at all: no more comes with this schedule, whose "
        "learning rate falls to 0. A longer one may still bring more."
    )


def curves_of(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The training of each method with the first seed, if it proceeded in epochs."""
    return {
        run["method"]: run
        for run in figures.get("runs", ())
        if run["seed"] == figures["seeds"][0] and len(run.get("curve", ())) > 1
    }


def _tuning(figures: Mapping[str, Any]) -> str:
    chosen = [
        f"{name} {_tried(of['lines'][of['chosen']]['tried'])}"
        for name, of in figures["trials"].items()
        if of["lines"][of["chosen"]]["tried"]
    ]
    if not chosen:
        return ""
    note = (
        f"Every method that learns had {figures['num_trials']} trials with the first seed; the "
        "one with the best validation AUC set the settings of all seeds"
    )
    if figures["fine_tuned"] and figures["num_tunings"]:
        note += (
            f". Methods that learn from labels had {figures['num_tunings']} trials of fine-tuning, "
            "chosen by the mean validation AUC of all hospitals"
        )
    notes = [f"{note}.", f"Chosen: {'; '.join(chosen)}.", _collapsed(figures), _one_class(figures)]
    return " ".join(note for note in notes if note)


def _collapsed(figures: Mapping[str, Any]) -> str:
    """The trainings that ended below their trial, so that others took their place."""
    lines = []
    for run in figures["runs"]:
        for line in run.get("collapsed", ()):
            name = f"{run['method']} with {_tried(line['tried'])}"
            trial = figures["trials"][run["method"]]["lines"][line["trial"]]["validation_auc"]
            ended = "diverged" if line.get("diverged") else f"{line['validation_auc']:.3f}"
            lines.append(f"{name} ({ended}, in its trial {trial:.3f})")
    if not lines:
        return ""
    return (
        "A training that ends below its trial by more than "
        f"{CONVERGED:g} has collapsed, and the next best trial is trained with all minutes too; "
        f"the best of them counts. Not taken: {'; '.join(lines)}."
    )


def _tried(trial: Mapping[str, Any]) -> str:
    values = (f"{v:g}" if isinstance(v, float | int) else str(v) for v in trial.values())
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in zip(trial, values, strict=True))


def _one_class(figures: Mapping[str, Any]) -> str:
    """Validation AUC with either kind of features: separates the method from the setting."""
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
    """The paper's Table 4 beside our ablation.

    Args:
        figures: figures of ``homnet_platform.records.reproduction``, for four hospitals.
    """
    table = beside_paper_markdown(
        figures["rows"],
        key="variant",
        less="less_full",
        less_heading="Minus HomNet",
        fine_tuned=True,
    )
    note = (
        f'{means_note(figures)}, paired for the differences. The batches of "w/o bag" hold as '
        "many single pairs. No variant has settings of its own. HomNet has merge range 32, as in "
        f"the paper ({paper.CITATION}), whose figures are of private patients."
    )
    return f"{table}\n\n{note}{failed_note(figures)}\n"


def variants_markdown(figures: Mapping[str, Any]) -> str:
    """An ablation, beside the paper's if it is of hospitals, with the rule of its trainings."""
    table = (ablation_beside_paper if figures.get("fine_tuned") else ablation_markdown)(figures)
    if "minutes" not in figures:
        return table
    return f"{table}\n{rule_note(figures)} {learning_note(figures)}".rstrip() + "\n"


def running_time_markdown(figures: Mapping[str, Any]) -> str:
    """Table 5: seconds of all methods, ours and the paper's.

    Args:
        figures: result of :func:`homnet_platform.records.running_time.time_methods`.
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
        "Parameters",
        "100 batches, learning, s",
        "100 batches, scoring, s",
        "Convergence, s",
        "Validation AUC",
        "Peak memory, GiB",
        "paper: 100 batches, s",
        "paper: convergence, s",
    )
    of = (
        f"each training has {figures['minutes']:g} minutes of one core"
        if "minutes" in figures
        else f"{figures['epochs']} epochs with {100 * figures['share_of_people']:.2g} % of the "
        "people"
    )
    note = (
        f"Seconds for 100 batches of {figures['batch_size']} bags, from {figures['num_batches']} "
        "timed batches after a warm-up: median (10 to 90 %). Methods run one after the other on "
        f"{figures['threads']} {'thread' if figures['threads'] == 1 else 'threads'}. A method that "
        "is fitted in one call has no learning time by batch. Convergence: seconds of a "
        f"pre-training in batches of {figures['learning_batch_size']} until the epoch with the "
        f"best validation AUC; {of}; "
        "*over*: the last epoch was the best, so training had not converged. Each method has the "
        f"settings of its first trial. The paper ({paper.CITATION}) does not name its hardware, "
        "nor say whether its batches are trained on or scored."
    )
    if not figures["num_reused"]:
        note += f" The whole measurement took {figures['wall_s'] / 60:.0f} minutes."
    return f"{markdown_table(heads, lines)}\n\n{note}{failed_note(figures)}\n"


def _hundred(seconds: Mapping[str, float] | None) -> str:
    return "" if seconds is None else "{p50:.1f} ({p10:.1f} to {p90:.1f})".format(**seconds)
