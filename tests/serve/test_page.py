"""The page in a real browser: with the keyboard, without a request to anywhere else."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED, pair_table, pairs_of
from homnet_serve.page import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TableOf = Callable[..., pa.Table]


def test_the_page_asks_nobody_else() -> None:
    html, policy = page()
    text = html.decode()
    assert not re.search(r"https?://|//[a-z]", text.replace("// ", ""))
    assert "innerHTML" not in text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2


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
        codes = {"Tab": 9, "Enter": 13}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def choose(self, path: Path) -> None:
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

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
    """Files of a patient with a shortened chromosome 5 and a single X."""
    table = table_of(num_patients=1, num_cells=3, chromosomes=("1", "5", "X"), abnormal="5")
    pair = pairs_of(table).copy()
    pair[6:, 1] = 0
    columns = {n: table[n].to_pylist() for n in MEASURED.names if n != "pair"}
    table = pair_table(**columns, pair=pair, abnormal=[False] * 9).select(MEASURED.names)
    contents = {
        "patient.arrow": stream_of(table),
        "patient.json": json.dumps(json_of(table)).encode(),
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


@pytest.mark.parametrize("name", ["patient.arrow", "patient.json", "patient.zip"])
def test_files_are_assessed_and_drawn(
    browser: Browser, address: Any, files: dict[str, Path], name: str, tmp_path: Path
) -> None:
    url, keys = address
    browser.events.clear()
    _ask(browser, url, keys["both"], files[name])
    assert browser.run("byId('status').textContent") == "Done."
    rows = browser.run("document.querySelectorAll('#verdicts tr').length")
    flagged = browser.run("document.querySelectorAll('#verdicts tr.abnormal').length")
    pairs = browser.run(
        "report.patients.flatMap(p => p.types).filter(t => t.abnormal)"
        ".reduce((n, t) => n + t.num_pairs, 0)"
    )
    assert rows == 2
    assert flagged >= (name != "patient.zip")
    assert browser.run("document.querySelectorAll('#karyogram canvas').length") == pairs
    inked = browser.run(
        "[...document.querySelectorAll('#karyogram canvas')].every(c => c.getContext('2d')"
        ".getImageData(0, 0, 100, 10).data.some(v => v > 0 && v < 255))"
    )
    assert inked
    told = browser.run(
        "[...document.querySelectorAll('#karyogram h3 + p')].map(p => p.textContent)"
    )
    assert len(told) == flagged
    for text in told:
        assert re.search(r"^(No name is drafted|.* draft, to be confirmed)\. Kind: ", text), text
        assert re.search(r"From (the tip|[0-9.]+ Mb \().* to (the tip|[0-9.]+ Mb \()", text), text
    cells = browser.run(
        "[...document.querySelectorAll('#karyogram .cell p')].map(p => p.textContent)"
    )
    assert all(re.search(r"homolog [12] \(0\.[5-9]|homolog [12] \(1\.00", text) for text in cells)
    assert re.search(r"Chromosome .*X.*:", browser.run("byId('left-out').textContent"))
    assert browser.run("document.activeElement.id") == "result"
    assert all(asked.startswith((url, "data:", "blob:")) for asked in browser.requests())
    assert browser.complaints() == []
    if directory := os.environ.get("HOMNET_SCREENSHOTS"):
        browser.picture(Path(directory) / f"{name}.png")


def test_the_report_is_downloaded(
    browser: Browser, address: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    url, keys = address
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
    _ask(browser, url, keys["both"], files["patient.arrow"])
    browser.run("byId('download').click()")
    deadline = time.monotonic() + 20
    while not (found := list((tmp_path / "down").glob("homnet-*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    report = json.loads(found[0].read_text())
    assert report["patients"][0]["patient_id"] == "h1-p0"


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
