"""Curves of an evaluation: each hospital is told from the others by colour and by dash."""

from xml.etree import ElementTree

from homnet.report.figures import training_figure


def test_a_curve_is_drawn_for_each_stage_that_has_points() -> None:
    epochs = [{"epoch": e, "train_loss": 1 / (e + 1), "validation_auc": 0.5} for e in range(3)]
    histories = {"pre-training": epochs, "fine-tuning": [{"epoch": 0, "train_loss": 0.1}]}
    picture = training_figure(histories)
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert picture == training_figure(histories)
    assert picture != training_figure({"pre-training": epochs})
