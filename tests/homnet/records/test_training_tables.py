"""Tables of drills, sweeps, evaluations and the benchmark for the documentation."""

from typing import Any

from homnet.records.training_tables import (
    aucs_markdown,
    benchmark_markdown,
    drill_markdown,
    sweep_markdown,
)


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
    assert table[2] == "| worker | 2 | 3 to 7 | 8 to 10 | in all runs |"
    assert table[3] == "| node | 1 | 0 to 0 | 50 to 50 | not in all runs |"
    assert table[-1] == "A checkpoint was written every 64 bags."


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
    assert "The 2 best of 3 fine-tunings, after 3 pre-trainings; stopping" in table[-1]
    assert "saved 40 % of all epochs. The default settings reach 0.800." in table[-1]


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


def test_a_benchmark_is_told_beside_the_loop() -> None:
    def times(middle: float) -> dict[str, float]:
        return {"p10": middle / 2, "p50": middle, "p90": 2 * middle}

    table = benchmark_markdown(
        {
            "training": {
                "seconds": {"looped": times(0.5), "batched": times(0.25)},
                "times_as_fast_as_looped": {"batched": times(2.0)},
                "input_over_batch_in_memory": 0.036,
                "flops": 32e9,
                "share_of_matrix_peak": 0.3,
            },
            "patient": {
                "seconds": {"eager": times(0.008)},
                "largest_change_of_score": {"eager": 0.0},
                "seconds_for_patients": {"patients": 1000, "seconds": 7.8},
            },
            "memory_gib": {"training_cpu": 2.5625},
            "limits": {"float32_gflop_per_s": 174.0},
        }
    ).splitlines()
    assert table[2] == "| looped | 0.500 (0.250 to 1.000) |  |"
    assert table[3] == "| batched | 0.250 (0.125 to 0.500) | 2.0 |"
    assert table[7] == "| eager | 8.0 (4.0 to 16.0) | 0e+00 |"
    assert table[-1].startswith("1,000 patients: 7.8 s. Peak memory of training: 2.56 GiB.")
