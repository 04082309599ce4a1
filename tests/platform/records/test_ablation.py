"""Variants of HomNet as methods."""

from dataclasses import asdict

import pytest

from homnet.model.network import HomNetConfig, best_form, paper_form
from homnet.records import paper
from homnet_platform.records.ablation import variants_of


@pytest.mark.parametrize("form", [best_form(), paper_form()])
def test_variants_change_what_they_are_called_after(form: HomNetConfig) -> None:
    variants = variants_of(form, print)
    # The paper's range 32 is the full HomNet.
    assert set(variants) == {*paper.TABLE_4, "HomNet"} - {"range 32"}
    assert form.merge_range == 32
    assert {name for name, method in variants.items() if method.one_pair} == {"w/o bag"}
    assert {len(method.trials) for method in variants.values()} == {1}
    changed = {
        name: {k: v for k, v in asdict(method.form).items() if v != asdict(form)[k]}
        for name, method in variants.items()
    }
    assert changed["HomNet"] == changed["w/o bag"] == {}
    assert changed["range 48"] == {"merge_range": 48}
    assert changed["align → CNN"] == {"alignment": "convolution"}
    assert changed["w/o pair"]["homologs"] == "single"
    variants["w/o pair"].form.build()
