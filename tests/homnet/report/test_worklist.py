"""The list of patients: those to look at first above."""

import re
from dataclasses import replace

from homnet.patients.tables import patient_table
from homnet.patients.verdict import Abstention, PatientVerdict
from homnet.report.worklist import render_worklist


def test_the_abnormal_and_the_probable_come_first(verdict: PatientVerdict) -> None:
    few = (Abstention("too_few_cells", "too few cells"),)
    patients = patient_table(
        [
            replace(verdict, patient_id="healthy", decision="no_abnormality_found", types=()),
            replace(verdict, patient_id="likely", probability=0.7),
            replace(verdict, patient_id="likelier", probability=0.9),
            replace(verdict, patient_id="unseen", decision="not_assessed", abstentions=few),
        ]
    )
    page = render_worklist(patients, ["patients/hospital-1/likely.html"])
    places = [page.index(f">{name}<") for name in ("likelier", "likely", "unseen", "healthy")]
    assert places == sorted(places)
    assert page.count("<a href=") == 1
    assert '<a href="patients/hospital-1/likely.html">likely</a>' in page
    assert "too few cells" in page
    assert "del(5)(p14) draft" in page
    # What was seen of the one who is not assessed is no finding.
    assert page.count("del(5)(p14) draft") == 2
    assert "Pictures not used" not in page
    page = render_worklist(patients, [], {("hospital-1", "likely"): 2})
    assert page.count("Pictures not used") == 1
    assert re.findall(r'<td class="num">(\d)</td>\s*</tr>', page) == ["0", "2", "0", "0"]
