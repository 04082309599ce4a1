"""The model card of the model that comes with the package."""

from collections.abc import Mapping
from typing import Any

from homnet.model.checkpoint import Checkpoint
from homnet.report.cohort_page import cohort_markdown


def model_card(record: Mapping[str, Any], checkpoint: Checkpoint, reader: Checkpoint) -> str:
    """The card in Markdown: what the model learnt from, its record, its limits.

    Args:
        record: result of record of its verdicts on held-out simulated patients.
        checkpoint: the HomNet with its calibrations of patients.
        reader: the reader that belongs to it.
    """
    people, readers = (set(one.provenance["learnt_from"]) for one in (checkpoint, reader))
    hospitals = "\n".join(
        f"  - {name}: threshold {one.threshold:.2f} for a specificity of {one.specificity:.2f}, "
        f"set on {one.num_normal} healthy and {one.num_abnormal} abnormal patients."
        for name, one in checkpoint.patients.items()
    )
    return f"""# The model that comes with HomNet

A HomNet and its reader, so that the endpoint and `jobs/diagnose.py patients` answer without any
training. Research use only. Not for diagnosis.

- Model `{checkpoint.version[:12]}`, reader `{reader.version[:12]}`.
- **It has never seen a chromosome of a real person.** All people in its training, calibration and
  record were simulated (`jobs/simulate.py`).

## What it learnt from

- HomNet: {len(people):,} simulated people of four simulated laboratories, with abnormalities of
  every kind and size, and harmless variants.
- Reader: {len(readers - people):,} other simulated people.
- Calibrations, from patients that neither knows:
{hospitals}

## How good it is

{record["claim"]}.

{cohort_markdown(record["figures"], ["By hospital", "By size", "By kind"])}

## Limits

- Real laboratories differ from the simulated ones. Take its verdicts as a trial until it is
  calibrated there (`python jobs/diagnose.py calibrate`), perhaps after fine-tuning
  (`python jobs/fine_tune.py --checkpoint shipped`).
- Probabilities assume that as many patients carry an abnormality as in its calibration; set the
  laboratory's own share with `--verdict.prevalence`.
- Sequences must have the scale of the simulated laboratories.
- Inversions, and abnormalities below 10 Mb, are mostly missed: see the tables.
- It compares homologs: it does not see what both share, or a man's X and Y, and it counts nothing.

`jobs/records/ship_model.py` made this folder; its help has every command. Record: date
{record["date"][:10]}, {record["machine"]["cpu"]}, seed {record["seed"]}.
"""
