"""Tables of drills, sweeps and evaluations for the README."""

from typing import Any

from homnet.records.training_tables import aucs_markdown, drill_markdown, sweep_markdown


def test_a_drill_is_told_by_what_was_killed() -> None:
    runs = [
        {"victim": v, "repeated_bags": r, "seconds_after_kill": s, "same_metrics": same}
        for v, r, s, same in [
            ("worker", 3, 9.6, True),
            ("node", 0, 50.2, False),
            ("worker", 7, 8, 1),
        ]
    ]
    table = drill_markdown({"runs": runs, "checkpoint_interval_bags": 64}).splitlines()
    assert table[2] == "| worker | 2 | 3 to 7 | 8 to 10 | all |"
    assert table[3] == "| node | 1 | 0 to 0 | 50 to 50 | not all |"
    assert table[-1] == "A checkpoint every 64 bags."


def test_a_sweep_is_told_by_its_best_trials() -> None:
    trials = [
        {
            "merge_range": merge,
            "pretraining_rate": 1e-3,
            "fine_tuning_rate": 1e-5,
            "validation_auc": auc,
            "validation_auc h1": auc,
            "validation_auc h2": auc / 2,
        }
        for merge, auc in ((8, 0.7), (16, 0.9), (32, 0.8))
    ]
    table = sweep_markdown(
        {"fine_tuning": trials, "pretraining": trials, "pruned_share": 0.4, "default": 0.8},
        num_best=2,
    ).splitlines()
    assert table[0].endswith("| Mean validation AUC | h1 | h2 |")
    assert table[2] == "| 16 | 0.001 | 1e-05 | 0.900 | 0.900 | 0.450 |"
    assert table[3].startswith("| 32 |")
    assert "The 2 best of 3 fine-tunings, after 3 pre-trainings; 40 % of all epochs" in table[-1]


def test_evaluations_stand_in_one_table_a_line_each() -> None:
    def scope(value: float | None) -> dict[str, Any]:
        auc = {"value": value, "low": 0.5, "high": 1.0}
        return {"metrics": None if value is None else {"auc": auc}}

    both = {"hospitals": {"a": scope(0.75), "b": scope(None)}, "overall": scope(0.7)}
    table = aucs_markdown({"none": both, "5": {"hospitals": {"b": scope(0.9)}}})
    assert table.splitlines() == [
        "|  | a | b | all hospitals |",
        "| --- | ---: | ---: | ---: |",
        "| none | 0.750 (0.50 to 1.00) | n/a | 0.700 (0.50 to 1.00) |",
        "| 5 | n/a | 0.900 (0.50 to 1.00) | n/a |",
    ]
