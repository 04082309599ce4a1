from homnet.karyotype.kinds import ARTIFICIAL, IN_WORDS, NO_ABNORMALITY, SHOWN, SHOWN_AS, SIMULATED


def test_names_within_a_list_are_distinct() -> None:
    for kinds in (ARTIFICIAL, SIMULATED, SHOWN):
        assert len(set(kinds)) == len(kinds)


def test_whatever_arises_is_shown_as_something() -> None:
    assert set(SHOWN_AS.values()) == set(SHOWN)
    assert set(SIMULATED) <= set(SHOWN_AS)
    assert set(ARTIFICIAL) - set(SHOWN_AS) == {"wrong_pair"}


def test_controls_show_nothing() -> None:
    assert {SHOWN_AS[kind] for kind in ("normal", "sham")} == {NO_ABNORMALITY}


def test_every_shown_kind_has_words() -> None:
    assert set(IN_WORDS) == set(SHOWN)
