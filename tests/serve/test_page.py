"""The page in a real browser: with the keyboard, without a request to anywhere else."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from homnet.cohorts.pairs import MEASURED, pair_table, pairs_of
from homnet.imaging.karyogram import find_chromosomes, read_picture
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import SHOWN
from homnet.patients.clonality import estimate_clone
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.patients.naming import draft_name
from homnet.patients.verdict import Abstention, Decision, PatientVerdict, TypeVerdict
from homnet.report.patient_page import patient_style, render_patient
from homnet_serve.page import page
from homnet_serve.schemas import DiagnoseResponse, KaryogramsResponse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TableOf = Callable[..., pa.Table]


def test_the_page_asks_nobody_else() -> None:
    html, policy = page()
    text = html.decode()
    assert not re.search(r"https?://|//[a-z]", text.replace("// ", ""))
    assert "innerHTML" not in text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    directives = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert len(directives["script-src"].split()) == 1
    assert directives["img-src"] == "data:"
    # The report that the page shows is bound by the same policy: its style is allowed, no other.
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in (*re.findall(r"<style>(.*?)</style>", text, re.DOTALL), patient_style())
    ]
    assert directives["style-src"].split() == hashes


class Browser:
    """Chromium without a window, driven over its debugging protocol."""

    def __init__(self, profile: Path) -> None:
        from websockets.sync.client import connect

        assert CHROMIUM
        self.process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "--window-size=1100,1400",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        port, path = port_file.read_text().splitlines()
        self.stack = ExitStack()
        self.socket = self.stack.enter_context(
            connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        )
        self.number = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        (target,) = [
            one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=30))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def run(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 30
        while not self.run(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.05)

    def press(self, key: str, text: str = "") -> None:
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowDown": 40, "Delete": 46}
        code = codes.get(key, ord(key[0]))
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def drop(self, where: str, *paths: Path) -> None:
        """Drops files on an element, as from a file manager."""
        at = self.run(
            f"(() => {{ const box = byId('{where}').getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=at[0], y=at[1], data=data)

    def choose(self, *paths: Path) -> None:
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        return [
            event["params"]["entry"]["text"]
            for event in self.events
            if event["method"] == "Log.entryAdded"
        ] + [
            str(event["params"]["exceptionDetails"])
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
        ]

    def picture(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def files(
    tmp_path: Path,
    table_of: TableOf,
    stream_of: Callable[..., bytes],
    json_of: Callable[..., Any],
    images_zip: Callable[..., bytes],
) -> dict[str, Path]:
    """Files of a patient with a shortened chromosome 5 and a single X; images of few types."""
    table = table_of(num_patients=1, num_cells=3, chromosomes=CHROMOSOMES[:23], abnormal="5")
    pair = pairs_of(table).copy()
    pair[-3:, 1] = 0
    columns = {n: table[n].to_pylist() for n in MEASURED.names if n != "pair"}
    table = pair_table(**columns, pair=pair, abnormal=[False] * len(pair)).select(MEASURED.names)
    contents = {
        "patient.arrow": stream_of(table),
        "patient.json": b"\xef\xbb\xbf \n" + json.dumps(json_of(table)).encode(),
        "patient.zip": images_zip(),
        "wrong.arrow": b"nothing",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def _ask(browser: Browser, url: str, key: str, file: Path) -> None:
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.run(f"document.getElementById('key').value = {json.dumps(key)}")
    browser.choose(file)
    browser.run("document.getElementById('send').click()")
    browser.wait("/Done|error/.test(byId('status').textContent + byId('status').className)")


def _verdict(
    table: pa.Table, decision: Decision, probability: float | None, flagged: bool = False
) -> PatientVerdict:
    """A verdict on a patient with chromosomes 1 and 5; X was not assessed."""
    levels = zip(table["cell_id"].to_pylist(), table["band_level"].to_pylist(), strict=True)
    cells = dict(sorted(levels))
    who = ("h1", table["patient_id"][0].as_py())
    score_PL = np.zeros((2, 512), np.float32)
    score_PL[1, :40] = 0.9
    read = Finding(
        *who, "5", 0.97,
        tuple(CellFinding(name, level, 0.9, 1, 0.8, score_PL) for name, level in cells.items()),
        {kind: 0.93 if kind == "deletion" else 0.01 for kind in SHOWN},
        stop=BreakpointEstimate.at("5", 22.0, 19.0, 27.0, 400),
        reader="r",
    )  # fmt: skip
    one = Finding(*who, "1", 0.01, tuple(CellFinding(*cell, 0.2) for cell in cells.items()))
    clone = estimate_clone(np.full(len(cells), 2.0))
    draft = draft_name(read) if flagged else None
    types = (
        TypeVerdict("1", one, -3.0, flagged=False, clone=None, draft=None),
        TypeVerdict("5", read, 6.0, flagged=flagged, clone=clone, draft=draft),
        TypeVerdict(
            "X", None, None, flagged=False, clone=None, draft=None, not_assessed=("one homolog",)
        ),
    )
    reasons = (Abstention("poor_bands", "poor bands: 1 of 3 cells"),)
    return PatientVerdict(
        hospital="h1",
        patient_id=who[1],
        decision=decision,
        abstentions=reasons if decision == "not_assessed" else (),
        score=None if probability is None else 5.0,
        threshold=None if probability is None else 4.0,
        specificity=None if probability is None else 0.99,
        supported_specificity=None if probability is None else 0.995,
        probability=probability,
        prevalence=None if probability is None else 0.03,
        types=types,
        cells=cells,
        notes=("5 and 9 go together.",) if flagged else (),
        versions={"model": "abc", "calibration": "def", "reader": "r"},
    )


@pytest.fixture(scope="module")
def answer(table_of: TableOf) -> dict[str, Any]:
    """An answer of the endpoint, made by hand: five patients, the least urgent first."""
    cases: list[tuple[str, Decision, float | None, bool]] = [
        ("healthy", "no_abnormality_found", 0.001, False),
        ("nearly", "no_abnormality_found", 0.6, False),
        ("bare", "not_assessed", None, False),
        ("likely", "abnormal", 0.71, True),
        ("likelier", "abnormal", 0.93, True),
    ]
    patients = []
    for number, (name, decision, probability, flagged) in enumerate(cases):
        table = table_of("h1", num_patients=1, num_cells=3, chromosomes=("1", "5"), seed=number)
        at = table.schema.get_field_index("patient_id")
        table = table.set_column(at, "patient_id", pa.array([name] * table.num_rows))
        verdict = _verdict(table, decision, probability, flagged)
        refused = {"row": 4, "cell_id": "c1", "chromosome": "7", "homolog": 1, "reason": "empty"}
        noted = {**refused, "note": "b.png has the same pixels as a.png"}
        patients.append(
            {
                "verdict": verdict.to_json(),
                "evidence": [],
                "refused_images": [refused, {**refused, "row": 9}] if name == "likely" else [],
                "noted_images": [noted] if name == "likely" else [],
                "page": render_patient(verdict, table, samples_per_px=3.0),
            }
        )
    model = {
        "hospital": "h1",
        "version": "a" * 64,
        "weights": "b" * 64,
        "reader": "c" * 64,
        "samples_per_px": 3.0,
        "calibration": "d" * 64,
        "calibrated_on": ["h1", "2 other hospitals"],
        "threshold": 4.0,
        "specificity": 0.99,
        "prevalence": 0.03,
    }
    content = {"request_id": "r-1", "models": [model], "patients": patients}
    checked = DiagnoseResponse.model_validate(content).model_dump_json()
    return dict(json.loads(checked))


def _show(browser: Browser, url: str, content: dict[str, Any], file: Path) -> None:
    """Lets the page show an answer, whatever the endpoint says."""
    browser.events.clear()
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.run(
        f"window.content = {json.dumps(json.dumps(content))}; window.asked = [];"
        "window.fetch = async (where) => { asked.push(where); return new Response(content); }"
    )
    browser.run("byId('key').value = 'any'")
    browser.choose(file)
    browser.run("byId('send').click()")
    browser.wait("/Done|error/.test(byId('status').textContent + byId('status').className)")
    assert browser.run("byId('status').textContent") == "Done."


def _open(browser: Browser, number: int) -> None:
    """Chooses a patient, and waits for the report to fit into its frame."""
    browser.run("byId('frame').contentDocument.documentElement.remove()")
    browser.run(f"document.querySelectorAll('#worklist button')[{number}].click()")
    _wait_for_report(browser)


def _wait_for_report(browser: Browser) -> None:
    browser.wait(
        "!!frame.contentDocument.querySelector('footer') && frame.clientHeight > 100 && "
        "Math.abs(frame.clientHeight - frame.contentDocument.documentElement.offsetHeight) < 6"
    )


@contextmanager
def _window(browser: Browser, width: int, height: int) -> Iterator[None]:
    """A window of another size; up to the width of a telephone it is one."""
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
    )  # fmt: skip
    try:
        yield
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def _picture(browser: Browser, name: str) -> None:
    if directory := os.environ.get("HOMNET_SCREENSHOTS"):
        browser.picture(Path(directory) / f"{name}.png")


@pytest.mark.parametrize("name", ["patient.arrow", "patient.json", "patient.zip"])
def test_files_are_assessed_and_a_single_patient_is_shown_at_once(
    browser: Browser, address: Any, files: dict[str, Path], name: str
) -> None:
    url, keys = address
    browser.events.clear()
    _ask(browser, url, keys["both"], files[name])
    assert browser.run("byId('status').textContent") == "Done."
    _wait_for_report(browser)
    rows = browser.run("[...document.querySelectorAll('#worklist button')].map(b => b.ariaCurrent)")
    assert rows == ["true"]
    verdict = browser.run("answer.patients[0].verdict")
    # Everybody is called abnormal here, if enough types are there.
    assert verdict["decision"] == ("not_assessed" if name == "patient.zip" else "abnormal")
    assert browser.run("document.querySelector('.sentence').textContent").startswith(
        {"abnormal": "▲", "not_assessed": "?", "no_abnormality_found": "–"}[verdict["decision"]]
        + f" {verdict['verdict']}"
    )
    # The report is the one that the endpoint made, with its style and its pictures.
    headline = "frame.contentDocument.querySelector('.headline')"
    assert browser.run(f"{headline}.textContent").startswith(verdict["verdict"])
    assert browser.run(f"getComputedStyle({headline}).fontWeight") == "700"
    assert browser.run("frame.contentDocument.querySelectorAll('svg image').length") > 0
    # Images are embedded once and used from there; in a frame, too, they are found.
    shown = "[...frame.contentDocument.querySelectorAll('#karyogram + figure use')]"
    sides = browser.run(f"{shown}.map(one => one.getBoundingClientRect().height)")
    assert len(sides) == (4 if name == "patient.zip" else 0)
    assert all(side > 40 for side in sides)
    flagged = browser.run("frame.contentDocument.querySelectorAll('.type.flagged').length")
    assert flagged == len(verdict["flagged"])
    assert browser.run("document.activeElement.id") == "result"
    assert verdict["hospital"] in browser.run("byId('models').textContent")
    assert all(asked.startswith((url, "data:", "blob:", "about:")) for asked in browser.requests())
    assert browser.complaints() == []
    _picture(browser, name)


def test_the_most_urgent_patients_are_above(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    _show(browser, address[0], answer, files["patient.arrow"])
    rows = browser.run("[...document.querySelectorAll('#worklist button')].map(b => b.innerText)")
    texts = [" ".join(row.split()) for row in rows]
    assert texts == [
        "Patient likelier, h1 ▲ Structural abnormality suspected on chromosome 5 (del(5)(p14) "
        "draft, to be confirmed). Probability of an abnormality 0.93 if 3 % of the patients carry "
        "one. 3 cells. Not assessed: chromosome X. 5 and 9 go together.",
        "Patient likely, h1 ▲ Structural abnormality suspected on chromosome 5 (del(5)(p14) "
        "draft, to be confirmed). Probability of an abnormality 0.71 if 3 % of the patients carry "
        "one. 3 cells. Not assessed: chromosome X. 2 images refused. 5 and 9 go together.",
        "Patient bare, h1 ? Not assessed: poor bands: 1 of 3 cells. 3 cells. "
        "Not assessed: chromosome X.",
        "Patient nearly, h1 – No structural abnormality found. Probability of an abnormality 0.60 "
        "if 3 % of the patients carry one. More likely abnormal than not, but short of the "
        "hospital's threshold. 3 cells. Not assessed: chromosome X.",
        "Patient healthy, h1 – No structural abnormality found. Probability of an abnormality "
        "below 0.01 if 3 % of the patients carry one. 3 cells. Not assessed: chromosome X.",
    ]
    # Of several patients none is shown before one is chosen.
    assert browser.run("byId('report').hidden")
    assert browser.run("document.querySelectorAll('[aria-current]').length") == 0
    assert "threshold" not in browser.run("byId('summary').textContent")
    models = browser.run("byId('models').innerText")
    assert "model aaaaaaaaaaaa, calibration dddddddddddd of h1 and 2 other hospitals, " in models
    assert "reader cccccccccccc" in models
    assert "specificity of 99 %" in models
    assert browser.run("byId('models').compareDocumentPosition(byId('worklist'))") & 2
    for number, name in ((1, "likely"), (0, "likelier")):
        browser.run(f"document.querySelectorAll('#worklist button')[{number}].click()")
        for place in ("frame').title", "report-title').textContent"):
            assert browser.run(f"byId('{place}") == f"Report on patient {name}, h1"
        refused = "Row 9 of the manifest, cell c1, chromosome 7, homolog 1: empty."
        assert (refused in browser.run("byId('refused').innerText")) == (name == "likely")
        noted = "homolog 1: b.png has the same pixels as a.png."
        assert (noted in browser.run("byId('refused').innerText")) == (name == "likely")
    _picture(browser, "several")


def test_the_keyboard_chooses_a_patient_and_a_type(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    _show(browser, address[0], answer, files["patient.arrow"])
    visited = []
    for _ in range(3):
        browser.press("Tab")
        visited.append(browser.run("document.activeElement.id || document.activeElement.innerText"))
    assert visited[0] == "save-answer"
    assert "likelier" in visited[1]
    assert "likely," in visited[2]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(outline) == "solid"
    named = browser.run(
        "document.activeElement.getAttribute('aria-labelledby').split(' ')"
        ".map(id => byId(id).textContent).join(' ')"
    )
    assert "Patient likely, h1" in named
    assert "Structural abnormality suspected on chromosome 5" in named
    browser.press("Enter", "\r")
    _wait_for_report(browser)
    current = "document.querySelector('#worklist [aria-current=true] b').textContent"
    assert browser.run(current) == "Patient likely"
    assert browser.run("document.activeElement.id") == "report-title"
    visited = []
    for _ in range(5):
        browser.press("Tab")
        visited.append(browser.run("document.activeElement.id"))
    assert visited == ["print", "save-verdict", "save-page", "back", "frame"]
    inside = "frame.contentDocument.activeElement"
    # The karyogram can be scrolled with the keyboard.
    assert browser.run(f"{inside}.getAttribute('aria-label')") == "Karyogram"
    browser.press("Tab")
    assert browser.run(f"{inside}.getAttribute('href')").endswith("#type-1")
    assert browser.run(f"{inside}.getAttribute('aria-label')") == "Chromosome 1, to its 3 cells"
    frame = f"getComputedStyle({inside}.querySelector('.frame'))"
    assert browser.run(f"{frame}.strokeWidth") == "2.5px"
    browser.press("Enter", "\r")
    browser.wait("frame.contentWindow.location.hash === '#type-1'")
    assert browser.run(f"{inside}.id") == "type-1"
    browser.run("byId('back').click()")
    assert "likely," in browser.run("document.activeElement.innerText")


def _types_shown(browser: Browser) -> list[str]:
    """Sections of the report with cells of a type that are to be seen."""
    ids: list[str] = browser.run(
        "[...frame.contentDocument.querySelectorAll('.type')]"
        ".filter(s => s.getClientRects().length).map(s => s.id)"
    )
    return ids


@pytest.fixture
def small_window(browser: Browser) -> Iterator[None]:
    """A window in which a report has to be scrolled."""
    with _window(browser, 1100, 500):
        yield


@pytest.mark.usefixtures("small_window")
def test_a_type_that_is_chosen_opens_in_the_report(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    _show(browser, address[0], answer, files["patient.arrow"])
    _open(browser, 0)
    assert _types_shown(browser) == ["type-5"]
    height = browser.run("frame.clientHeight")
    browser.run(
        "frame.contentDocument.querySelector('svg a[href$=type-1]')"
        ".dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true }))"
    )
    browser.wait("frame.contentWindow.location.hash === '#type-1'")
    browser.wait(f"frame.clientHeight > {height} + 100")
    _wait_for_report(browser)
    assert _types_shown(browser) == ["type-5", "type-1"]
    # The page is scrolled to the type, which lies in a frame that does not scroll itself.
    browser.wait(
        "(() => { const top = frame.getBoundingClientRect().top + "
        "frame.contentDocument.getElementById('type-1').getBoundingClientRect().top;"
        "return top > -5 && top < 60; })()"
    )
    browser.run("frame.contentDocument.querySelector('a[href$=\"#karyogram\"]').click()")
    browser.wait("frame.contentWindow.location.hash === '#karyogram'")
    assert _types_shown(browser) == ["type-5"]
    # No script runs in the report, and nothing was asked for.
    assert not browser.run("frame.sandbox.contains('allow-scripts')")
    assert browser.complaints() == []
    assert [one for one in browser.requests() if "docs" in one or "type-" in one] == []


def test_what_is_printed_has_the_cells_of_flagged_types_only(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    _show(browser, address[0], answer, files["patient.arrow"])
    _open(browser, 0)
    browser.run("frame.contentWindow.location.hash = '#type-1'")
    assert _types_shown(browser) == ["type-5", "type-1"]
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert _types_shown(browser) == ["type-5"]
        kept = "#karyogram, #findings, #evidence, #types, #quality, .verdict"
        seen = browser.run(
            f"[...frame.contentDocument.querySelectorAll('{kept}')]"
            ".filter(s => s.getClientRects().length).length"
        )
        assert seen == 6
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_the_report_is_printed_alone(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    _show(browser, address[0], answer, files["patient.arrow"])
    _open(browser, 1)
    browser.run(
        "window.printed = [];"
        "addEventListener('beforeprint', () => printed.push('page'));"
        "frame.contentWindow.addEventListener('beforeprint', () => printed.push('report'));"
        "byId('print').click()"
    )
    browser.wait("printed.length > 0")
    assert browser.run("printed") == ["report"]
    assert browser.complaints() == []


def test_verdict_report_and_answer_are_downloaded(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any], tmp_path: Path
) -> None:
    down = tmp_path / "down"
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(down))
    odd = json.loads(json.dumps(answer))
    odd["patients"][3]["verdict"]["patient_id"] = "../\xe4 \u0416\u0967"
    _show(browser, address[0], odd, files["patient.arrow"])

    def saved(button: str, name: str) -> str:
        browser.run(f"byId('{button}').click()")
        deadline = time.monotonic() + 20
        while not (down / name).exists():
            assert time.monotonic() < deadline, sorted(down.iterdir())
            time.sleep(0.05)
        return (down / name).read_text(encoding="utf-8")

    _open(browser, 0)
    first = answer["patients"][4]
    text = saved("save-verdict", "h1-likelier.json")
    assert json.loads(text) == first["verdict"]
    assert text.startswith('{\n "hospital": "h1",\n')
    assert saved("save-page", "h1-likelier.html") == first["page"]
    _open(browser, 1)
    name = "h1-.._\xe4_\u0416\u0967.json"
    assert json.loads(saved("save-verdict", name)) == odd["patients"][3]["verdict"]
    # As it came: the audit log holds its digest.
    assert saved("save-answer", "homnet-r-1.json") == json.dumps(odd)


@pytest.mark.parametrize("name", ["patient.zip", "patient.json"])
def test_settings_are_sent_with_the_file(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any], name: str
) -> None:
    of_zip = name == "patient.zip"
    route = "v1/diagnose/images" if of_zip else "v1/diagnose"
    _show(browser, address[0], answer, files[name])
    assert browser.run("asked") == [f"{route}?pages=all"]
    browser.run(
        "byId('hospital').value = 'a & b'; byId('band-level').value = '400';"
        "byId('scale').value = '2.5'; byId('status').textContent = ''; byId('send').click()"
    )
    browser.wait("byId('status').textContent === 'Done.'")
    level = "&band_level=400&hospital=a+%26+b" if of_zip else ""
    assert browser.run("asked[1]") == f"{route}?pages=all&samples_per_px=2.5{level}"


def test_a_patient_without_a_report_is_said_to_have_none(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    bare = {**answer["patients"][2], "page": None}
    _show(browser, address[0], {**answer, "patients": [bare]}, files["patient.arrow"])
    browser.wait("frame.contentDocument.body.textContent.startsWith('The endpoint sent no report')")
    assert browser.run("byId('print').disabled && byId('save-page').disabled")
    assert not browser.run("byId('save-verdict').disabled")


def test_a_telephone_is_wide_enough(
    browser: Browser, address: Any, files: dict[str, Path], answer: dict[str, Any]
) -> None:
    with _window(browser, 360, 740):
        _show(browser, address[0], answer, files["patient.arrow"])
        _open(browser, 1)
        browser.run("document.querySelector('#ask details').open = true")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        width = browser.run("frame.clientWidth")
        assert browser.run("frame.contentDocument.documentElement.scrollWidth") <= width <= 340
        _picture(browser, "telephone")


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        ("wrong", "patient.arrow", "valid API key"),
        ("both", "wrong.arrow", "not a readable Arrow IPC stream"),
        ("h2", "patient.arrow", "not for every hospital"),
    ],
)
def test_refusals_are_shown(
    browser: Browser, address: Any, files: dict[str, Path], key: str, name: str, said: str
) -> None:
    url, keys = address
    _ask(browser, url, keys.get(key, key), files[name])
    assert said in browser.run("byId('status').textContent")
    assert browser.run("byId('result').hidden")
    assert browser.run("byId('status').getAttribute('aria-live')") == "polite"


def test_the_keyboard_is_enough(browser: Browser, address: Any, files: dict[str, Path]) -> None:
    url, keys = address
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    visited = []
    for _ in range(4):
        browser.press("Tab")
        visited.append(browser.run("document.activeElement.id || document.activeElement.tagName"))
        if visited[-1] == "key":
            browser.call("Input.insertText", text=keys["both"])
    assert visited == ["key", "file", "SUMMARY", "send"]
    browser.choose(files["patient.arrow"])
    browser.press("Enter", "\r")
    browser.wait("byId('status').textContent === 'Done.'")
    labelled = browser.run(
        "[...document.querySelectorAll('input, select')].every(i => i.labels.length === 1)"
    )
    assert labelled


def _find_chromosomes(browser: Browser, url: str, key: str) -> None:
    """Fills in the key and lets the page find chromosomes on what was chosen."""
    browser.run(f"byId('key').value = {json.dumps(key)}")
    browser.wait("byId('send').textContent === 'Find the chromosomes'")
    browser.run("byId('send').click()")
    browser.wait("/ read\\.|error/.test(byId('status').textContent + byId('status').className)")


def _ask_for_verdict(browser: Browser) -> dict[str, Any]:
    browser.run("byId('verdict').click()")
    where = "byId('verdict-status')"
    browser.wait(f"/Done|error/.test({where}.textContent + {where}.className)")
    assert browser.run(f"{where}.textContent") == "Done."
    (patient,) = browser.run("answer.patients")
    return dict(patient)


def _said(browser: Browser, number: int, picture: int = 0) -> tuple[str, str, str]:
    """Class, label and what a screen reader hears of a chromosome."""
    shape = f"pictures[{picture}].parts.shapes.get({number})"
    return (
        browser.run(f"{shape}.getAttribute('class')"),
        browser.run(f"{shape}.textContent"),
        browser.run(f"{shape}.getAttribute('aria-label')"),
    )


@pytest.mark.slow
def test_from_dropped_karyograms_to_the_report(
    browser: Browser, address: Any, karyograms: dict[str, bytes], tmp_path: Path
) -> None:
    url, keys = address
    for name, content in karyograms.items():
        (tmp_path / name).write_bytes(content)
    browser.events.clear()
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.drop("drop", *(tmp_path / name for name in karyograms))
    browser.wait("byId('status').textContent === '2 files are chosen.'")
    _find_chromosomes(browser, url, keys["h1"])
    assert browser.run("byId('status').textContent") == "2 of 2 pictures read."
    num = browser.run("pictures[0].read.chromosomes.length")
    assert browser.run("document.querySelectorAll('[role=option]').length") > 80
    assert _said(browser, 1) == ("used", "1", f"Chromosome 1 of {num}: type 1")
    assert browser.run("[...byId('of-hospital').options].map((one) => one.value)") == ["h1"]
    outline = browser.run(
        "(() => { const at = pictures[0].parts.shapes.get(1).getBoundingClientRect(),"
        "sheet = document.querySelector('.sheet svg').getBoundingClientRect(),"
        "{ box } = pictures[0].read.chromosomes[0], zoom = sheet.width / pictures[0].read.width;"
        "return [at.right - sheet.left, zoom * box.right,"
        "at.bottom - sheet.top, zoom * box.bottom]; })()"
    )
    assert outline[0] == pytest.approx(outline[1], abs=8)
    assert outline[2] == pytest.approx(outline[3], abs=8)

    # From the title on, everything with the keyboard.
    for _ in range(9):
        browser.press("Tab")
        if browser.run("document.activeElement.getAttribute('role')") == "option":
            break
    focused = "document.activeElement.dataset.number"
    assert browser.run(focused) == "1"
    assert browser.run("getComputedStyle(document.activeElement.firstChild).stroke") != "none"
    browser.press("1", "1")
    browser.press("2", "2")
    assert _said(browser, 1)[:2] == ("used corrected", "12")
    assert _said(browser, 1)[2].endswith("type 12, corrected by you (read as type 1)")
    assert "1 (1)" in browser.run("pictures[0].parts.odd.textContent")
    browser.press("ArrowRight")
    assert browser.run(focused) == "2"
    browser.press("Delete")
    assert _said(browser, 2)[:2] == ("left-out corrected", "?")
    browser.press("ArrowDown")
    below = int(browser.run(focused))
    assert browser.run(f"pictures[0].read.chromosomes[{below - 1}].chromosome") == "6"
    browser.press("x", "x")
    assert _said(browser, below)[1] == "X"
    browser.press("Backspace")
    assert _said(browser, below)[:2] == ("used", "6")
    facts = browser.run("pictures[0].parts.facts.textContent")
    assert "2 corrected by you" in facts
    assert re.search(r"Bands: about 550\. Scale: \d+\.\d pixels per micrometre by the chrom", facts)
    _picture(browser, "karyograms")

    # Nobody's pictures are taken for another's: the names of the files say whose they are.
    whose = "byId('whose').textContent"
    assert browser.run(whose) == "Patient: p1 (2 pictures)."
    browser.run("pictures[1].entry.name = 'p2_c2.png'; sayWhose()")
    assert browser.run(whose) == "Patients: p1 (1 picture), p2 (1 picture)."
    browser.run("pictures[1].entry.name = 'p1_1_c2.png'; sayWhose()")
    assert browser.run(whose).startswith("p1_1_c2.png does not say where the patient's name ends.")
    browser.run("pictures[1].entry.name = 'p1_c2.png'; sayWhose()")
    patient = _ask_for_verdict(browser)
    assert (patient["verdict"]["patient_id"], len(patient["verdict"]["cells"])) == ("p1", 2)
    first, second = patient["karyograms"]
    assert first["corrected"] == [
        {"number": 1, "before": "1", "chromosome": "12"},
        {"number": 2, "before": "1", "chromosome": ""},
    ]
    assert second["corrected"] == []
    assert "2 types corrected by a person" in browser.run("byId('worklist').textContent")
    assert "chromosome 1 corrected from 1 to 12" in browser.run("byId('refused').textContent")
    _wait_for_report(browser)
    assert browser.run("document.activeElement.id") == "result"
    assert browser.complaints() == []
    assert all(one.startswith((url, "data:", "about:")) for one in browser.requests())


@pytest.mark.slow
def test_a_zip_of_karyograms_is_shown_with_what_is_refused_and_left_out(
    browser: Browser,
    address: Any,
    karyograms: dict[str, bytes],
    zip_of: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    url, keys = address
    crossed = _with_a_cross(karyograms["p1_c1.png"])
    listed = "path,patient_id,cell_id\nlab/\xfc.png,anna,7\nb.png,anna,8\nc.png,anna,9\n".encode()
    files = {"lab/\xfc.png": crossed, "b.png": b"no picture", "cells.csv": listed, ".x.png": b""}
    zipped = zip_of({**files, "c.png": b"changed"}, zipfile.ZIP_STORED)
    (tmp_path / "lab.zip").write_bytes(zipped.replace(b"changed", b"CHANGED"))
    browser.events.clear()
    with _window(browser, 360, 740):
        browser.call("Page.navigate", url=url)
        browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
        browser.choose(tmp_path / "lab.zip")
        _find_chromosomes(browser, url, keys["h1"])
        assert browser.run("document.documentElement.scrollWidth") <= 360
        _picture(browser, "karyograms-telephone")
    said = browser.run("byId('status').textContent")
    assert said == "1 of 3 pictures read. 1 other file not looked at."
    shown = browser.run("[...document.querySelectorAll('.picture')].map((one) => one.textContent)")
    (damaged,) = (one for one in shown if "b.png" in one)
    assert "This picture is not used: the image file is damaged" in damaged
    (unpacked,) = (one for one in shown if "c.png" in one)
    assert "cannot be unpacked" in unpacked
    browser.run("window.one = pictures.find(({ read }) => !read.reason)")
    number = browser.run("one.read.chromosomes.find((c) => c.reason && !c.correctable).number")
    at = browser.run("pictures.indexOf(one)")
    state, label, spoken = _said(browser, number, at)
    assert (state, label) == ("left-out", "?")
    assert "left out" in spoken
    # It can be chosen from the list, but not be given a type.
    browser.run(
        "[...document.querySelectorAll('.picture li button')]"
        f".find((b) => b.textContent === 'No. {number}').click()"
    )
    assert browser.run("document.activeElement.dataset.number") == str(number)
    browser.press("7", "7")
    assert browser.run("one.parts.now.textContent").startswith("It stays out: ")
    assert browser.run("one.corrections.size") == 0
    # With the list of types below the picture.
    browser.run(
        "goTo(one, one.read.chromosomes.find((c) => !c.reason && c.chromosome === '9'));"
        "one.parts.type.value = '8'; one.parts.type.dispatchEvent(new Event('change'))"
    )
    patient = _ask_for_verdict(browser)
    assert patient["verdict"]["patient_id"] == "anna"
    karyogram, *unread = sorted(patient["karyograms"], key=lambda one: one["cell_id"])
    assert [one["chromosome"] for one in karyogram["corrected"]] == ["8"]
    assert number in [one["number"] for one in karyogram["left_out"]]
    assert [one["picture"] for one in unread] == ["b.png", "c.png"]
    assert all("damaged" in one["reason"] for one in unread)
    assert "2 pictures refused" in browser.run("byId('worklist').textContent")
    (complaint,) = browser.complaints()
    assert "422" in complaint, "of the picture that could not be unpacked, asked for by itself"


def _with_a_cross(content: bytes) -> bytes:
    """The karyogram with a bar across the pair of chromosome 5, whose homologs it joins."""
    image = Image.open(io.BytesIO(content))
    karyogram = find_chromosomes(read_picture(io.BytesIO(content)))
    chromosomes = [one for one in karyogram.used if one.chromosome == "5"]
    top, left = (min(one.box[at] for one in chromosomes) for at in (0, 1))
    bottom, right = (max(one.box[at] for one in chromosomes) for at in (2, 3))
    pen = ImageDraw.Draw(image)
    for shift in range(-7, 8):
        pen.line((left, top + 20 + shift, right, bottom - 20 + shift), fill=90 + 6 * abs(shift))
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def test_files_that_are_no_pictures_are_said(
    browser: Browser, address: Any, files: dict[str, Path]
) -> None:
    url, keys = address
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.choose(files["patient.json"], files["wrong.arrow"])
    _find_chromosomes(browser, url, keys["h1"])
    assert "None of these files is a picture" in browser.run("byId('status').textContent")
    browser.choose(files["patient.zip"])
    browser.wait("byId('send').textContent === 'Assess'")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lab/cells.csv", "'lab/cells.csv' is not read; send cells.csv outside any folder"),
        ("lab\\layout.csv", "'lab/layout.csv' is not read; send layout.csv outside any folder"),
        ("Cells.csv", "'Cells.csv' is not read; send cells.csv outside any folder"),
        ("lab/manifest.csv", "lab/manifest.csv is not read here. For images of single"),
    ],
)
def test_files_in_the_wrong_place_are_not_passed_over(
    browser: Browser,
    address: Any,
    zip_of: Callable[..., bytes],
    tmp_path: Path,
    name: str,
    said: str,
) -> None:
    url, keys = address
    (tmp_path / "lab.zip").write_bytes(zip_of({"lab/p1_1.png": b"no picture", name: b""}))
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.choose(tmp_path / "lab.zip")
    _find_chromosomes(browser, url, keys["h1"])
    assert said in browser.run("byId('status').textContent")
    assert browser.run("byId('karyograms').hidden")


@pytest.fixture
def reading() -> dict[str, Any]:
    """What the endpoint says of a picture, made by hand: one chromosome is certain, two are not."""
    preview = io.BytesIO()
    Image.new("L", (90, 40), 255).save(preview, "JPEG")
    chromosomes = [
        {
            "number": number,
            "chromosome": "1",
            "homolog": None if reason else number - 1,
            "probability": 0.9,
            "box": {"left": 30 * number - 25, "top": 5, "right": 30 * number - 5, "bottom": 35},
            "outline": [(30 * number - 25, 5), (30 * number - 5, 20), (30 * number - 25, 35)],
            "flags": flags,
            "reason": reason,
            "correctable": True,
        }
        for number, flags, reason in (
            (1, [], ""),
            (2, ["unlike_its_type"], ""),
            (3, [], "two types fit"),
        )
    ]
    picture = {
        "picture": "a.png",
        "reason": "",
        "width": 90,
        "height": 40,
        "layout": "usual",
        "px_per_um": 15.5,
        "scale": "scale bar",
        "band_level": 550,
        "chromosomes": chromosomes,
        "preview": base64.b64encode(preview.getvalue()).decode(),
    }
    checked = KaryogramsResponse.model_validate({"request_id": "r", "pictures": [picture]})
    return dict(json.loads(checked.model_dump_json()))


@pytest.fixture
def verdict_of_karyograms(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer on one patient whose karyogram has five notes of two kinds."""
    notes = [{"number": at, "note": "odd" if at < 4 else "bent"} for at in range(1, 6)]
    karyogram = {"picture": "a.png", "cell_id": "1", "reason": "", "left_out": []}
    karyogram |= {"corrected": [], "noted": notes}
    return {**answer, "patients": [{**answer["patients"][0], "karyograms": [karyogram]}]}


def _send(browser: Browser, url: str, *files: Path) -> None:
    """Lets the page send files to an endpoint whose answers are given with :func:`_reply`."""
    browser.call("Page.navigate", url=url)
    browser.wait("document.readyState === 'complete' && !!document.getElementById('key')")
    browser.run(
        "window.asked = [];"
        "window.fetch = (where, { body }) =>"
        "  new Promise((done) => asked.push({ where, body, done }));"
    )
    browser.run("byId('key').value = 'any'")
    browser.choose(*files)
    browser.run("byId('send').focus(); byId('send').click()")


def _reply(browser: Browser, number: int, content: dict[str, Any], status: int = 200) -> None:
    """Answers the request of a number, from 0, once the page has sent it."""
    browser.wait(f"asked.length > {number}")
    text = json.dumps(json.dumps(content))
    browser.run(f"asked[{number}].done(new Response({text}, {{ status: {status} }}))")


def _names_sent(browser: Browser, number: int) -> list[tuple[str, int]]:
    """Names of the files in the zip of a request, and whether they are stated to be UTF-8."""
    browser.wait(f"asked.length > {number}")
    browser.run(
        f"window.sent = null; asked[{number}].body.arrayBuffer()"
        ".then((body) => { sent = [...new Uint8Array(body)]; })"
    )
    browser.wait("!!sent")
    with zipfile.ZipFile(io.BytesIO(bytes(browser.run("sent")))) as archive:
        return [(info.filename, info.flag_bits & 0x800) for info in archive.infolist()]


MODELS: dict[str, Any] = {"models": [{"hospital": "h1"}, {"hospital": "h2"}]}
DISABLED = "['send', 'verdict'].filter((id) => byId(id).disabled)"


def test_no_verdict_is_asked_for_before_all_pictures_are_read(
    browser: Browser, address: Any, reading: dict[str, Any], tmp_path: Path
) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"any")
    _send(browser, address[0], *paths)
    _reply(browser, 0, MODELS)
    _reply(browser, 1, reading)
    browser.wait("asked.length > 2")
    assert not browser.run("byId('karyograms').hidden")
    assert browser.run(DISABLED) == ["send", "verdict"]
    _reply(browser, 2, {"message": "It is busy."}, 503)
    browser.wait("byId('status').textContent === 'It is busy.'")
    assert browser.run(DISABLED) == ["verdict"]
    # The keyboard stays where it was.
    assert browser.run("document.activeElement.id") == "send"
    browser.press("Enter", "\r")
    for number, content in enumerate((MODELS, reading, reading), start=3):
        _reply(browser, number, content)
    browser.wait("byId('status').textContent === '2 of 2 pictures read.'")
    assert browser.run(DISABLED) == []
    browser.run("byId('verdict').focus(); byId('verdict').click()")
    assert browser.run(DISABLED) == ["send", "verdict"]
    _reply(browser, 6, {"message": "No hospital."}, 422)
    browser.wait("byId('verdict-status').textContent === 'No hospital.'")
    assert browser.run(DISABLED) == []
    assert browser.run("document.activeElement.id") == "verdict"


def test_a_verdict_on_what_was_changed_since_is_not_shown(
    browser: Browser,
    address: Any,
    reading: dict[str, Any],
    verdict_of_karyograms: dict[str, Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").write_bytes(b"any")
    _send(browser, address[0], tmp_path / "a.png")
    _reply(browser, 0, MODELS)
    _reply(browser, 1, reading)
    browser.wait("byId('status').textContent === '1 of 1 picture read.'")
    changed = "byId('verdict-status').textContent.startsWith('Something was changed since')"
    correct = "goTo(pictures[0], pictures[0].read.chromosomes[2]); correct(pictures[0], '{}')"

    # An answer that a correction overtook is ignored, and those to later requests are not.
    browser.run("byId('verdict').click()")
    browser.wait("asked.length === 3")
    browser.run(correct.format("5"))
    assert browser.run(changed)
    assert browser.run(DISABLED) == []
    browser.run("byId('verdict').click()")
    browser.wait("asked.length === 4")
    _reply(browser, 2, {**verdict_of_karyograms, "request_id": "older"})
    time.sleep(0.2)
    assert browser.run("byId('result').hidden")
    assert browser.run(DISABLED) == ["send", "verdict"]
    _reply(browser, 3, {**verdict_of_karyograms, "request_id": "newer"})
    browser.wait("byId('verdict-status').textContent === 'Done.'")
    assert browser.run("answer.request_id") == "newer"
    noted = "3 chromosomes noted: odd; 2 chromosomes noted: bent."
    assert noted in browser.run("byId('refused').textContent")

    # What is to be looked at is said as it is now, and the scale as it was given.
    remarks = "[...document.querySelectorAll('.picture li')].map((one) => one.textContent)"
    assert browser.run(remarks) == [
        "No. 2 type 1; its bands look unlike this type.",
        "No. 3 type 5, corrected by you (read as uncertain).",
    ]
    facts = "pictures[0].parts.facts.textContent"
    assert browser.run(facts).endswith("Scale: 15.5 pixels per micrometre by the scale bar.")

    # Every change hides the verdict, which must be asked for again.
    given = {
        "patient": "anna",
        "of-hospital": "h2",
        "band-level": "400",
        "scale": "2.5",
        "px-per-um": "12.25",
    }
    changes = [
        f"byId('{name}').value = '{value}'; byId('{name}').dispatchEvent(new Event('input'))"
        for name, value in given.items()
    ]
    changes.append(correct.format("7"))
    for number, change in enumerate(changes, start=4):
        assert not browser.run("byId('result').hidden")
        # Going to a chromosome changes nothing, nor does giving it the type that it has.
        browser.run(correct.format("5"))
        assert not browser.run(changed)
        browser.run(change)
        assert browser.run(changed), change
        assert browser.run("byId('result').hidden"), change
        browser.run("byId('verdict').click()")
        _reply(browser, number, verdict_of_karyograms)
        browser.wait("byId('verdict-status').textContent === 'Done.'")
    assert browser.run(facts).endswith("Scale: 12.25 pixels per micrometre, as given.")
    where = browser.run("asked.at(-1).where")
    assert "px_per_um=12.25" in where
    assert "hospital=h2" in where


@pytest.mark.parametrize(
    ("written", "patients"),
    [
        # Code page 850, read as 437: wrong where they differ, but two names stay two.
        ((b"M\x81ller", b"M\x84ller"), ("M\xfcller", "M\xe4ller")),
        ((b"\x9bst", b"\x9dst"), ("\xa2st", "\xa5st")),
        # UTF-8 without the bit that says so, as macOS writes it.
        (("M\xfcller".encode(), "\u0416".encode()), ("M\xfcller", "\u0416")),
    ],
)
def test_names_in_a_zip_stay_different(
    browser: Browser,
    address: Any,
    reading: dict[str, Any],
    zip_of: Callable[..., bytes],
    tmp_path: Path,
    written: tuple[bytes, bytes],
    patients: tuple[str, str],
) -> None:
    names = ["x" * len(written[0]) + "_1.png", "y" * len(written[1]) + "_1.png"]
    zipped = zip_of(dict.fromkeys(names, b"any"))
    for name, patient in zip(names, written, strict=True):
        zipped = zipped.replace(name.encode(), patient + b"_1.png")
    (tmp_path / "lab.zip").write_bytes(zipped)
    _send(browser, address[0], tmp_path / "lab.zip")
    for number, content in enumerate((MODELS, reading, reading)):
        _reply(browser, number, content)
    browser.wait("byId('status').textContent === '2 of 2 pictures read.'")
    expected = ", ".join(f"{patient} (1 picture)" for patient in patients)
    assert browser.run("byId('whose').textContent") == f"Patients: {expected}."
    browser.run("byId('verdict').click()")
    sent = [(f"{patient}_1.png", 0x800) for patient in patients]
    assert _names_sent(browser, 3) == [*sent, ("corrections.json", 0x800)]
