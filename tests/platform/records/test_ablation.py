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
    searches = {"with the search"} if form.search_positions else set()
    assert set(variants) == {*paper.TABLE_4, "HomNet", *searches} - {"range 32"}
    assert form.merge_range == 32
    assert {name for name, method in variants.items() if method.one_pair} == {"w/o bag"}
    assert {len(method.trials) for method in variants.values()} == {1}
    changed = {
        name: {k: v for k, v in asdict(method.form).items() if v != asdict(form)[k]}
        for name, method in variants.items()
    }
    without = {"search_positions": 0} if searches else {}
    assert changed["HomNet"] == changed["w/o bag"] == without
    assert changed["range 48"] == {"merge_range": 48} | without
    assert changed["align → CNN"] == {"alignment": "convolution"} | without
    assert changed.get("with the search", {}) == {}
    assert changed["w/o pair"]["homologs"] == "single"
    variants["w/o pair"].form.build()
