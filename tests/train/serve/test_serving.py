"""`fcn serve` as a process sees it: a real server, and a real browser where there is one."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train.console import Console
from fcn_train.run import TrainedRun
from fcn_train.serve.command import listening
from fcn_train.serve_options import ServeOptions

from ..export.runs import untrained, write_run
from ..running import HANGS
from . import browser
from .answers import unpacked
from .conftest import encoded, picture

Command = Callable[..., tuple[int, str, str]]
STATUS = "document.getElementById('status')?.textContent"


@contextlib.contextmanager
def served(run: TrainedRun, **options: Any) -> Iterator[str]:
    """The address of a server that runs in the block."""
    given = ServeOptions(run.path, port=0, threads=1, **options)
    with listening(given, Console(io.StringIO())) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.address
        finally:
            server.stop()
            thread.join()


def ask(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=HANGS)
    connection.request(method, path, body or None, headers)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def test_the_server_answers_over_the_net(served_run: TrainedRun) -> None:
    with served(served_run, max_megabytes=0.05) as address:
        assert address.startswith("http://127.0.0.1:")
        status, page = ask(address, "GET", "/")
        assert status == 200
        assert b"Drop a picture here" in page
        kind = {"Content-Type": "image/png"}
        status, data = ask(address, "POST", "/segment", encoded(picture()), **kind)
        assert status == 200
        assert unpacked(data)["sets"][0]["labels"].shape == (37, 50)
        status, text = ask(address, "POST", "/segment", b"x" * 50_001, **kind)
        assert (status, text.count(b"Traceback")) == (413, 0)
        assert ask(address, "GET", "/", Host="evil.example")[0] == 400


@pytest.mark.parametrize(
    ("host", "shown", "warns"),
    [
        ("127.1", "127.1", False),
        ("localhost", "localhost", False),
        ("0", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
    ],
)
def test_other_forms_of_an_address(
    host: str,
    shown: str,
    warns: bool,
    served_run: TrainedRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who reaches the server depends on what the form stands for."""
    with served(served_run, host=host) as address:
        port = address.rstrip("/").rpartition(":")[2]
        assert address == f"http://{shown}:{port}/"
        assert ask(address, "GET", "/page.css", Host=f"127.0.0.1:{port}")[0] == 200
        for other in (f"evil.example:{port}", f"203.0.113.9:{port}"):
            status = ask(address, "GET", "/", Host=other)[0]
            assert status == (200 if warns and other[0] == "2" else 400)
    assert ("whoever reaches this address can use the page" in capsys.readouterr().err) == warns


def test_the_server_keeps_its_log_to_itself(served_run: TrainedRun) -> None:
    """It warns of requests that wait, among the lines of the program."""
    with served(served_run):
        assert not logging.getLogger("waitress").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("waitress.queue").isEnabledFor(logging.WARNING)


def test_mistakes_are_told_in_one_line(
    served_run: TrainedRun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*options: object, run: Path = served_run.path) -> str:
        code, _, err = command("serve", run, *options)
        assert code == 2
        assert err.startswith("fcn: ")
        assert err.count("\n") == 1
        return err

    assert "--port must be in [0, 65535], got 70000" in refused("--port", "70000")
    assert "--max-megapixels must be in (0, 80], got 0.0" in refused("--max-megapixels", "0")
    assert "--max-megabytes must be in (0, 2000], got -1" in refused("--max-megabytes", "-1")
    assert "cannot be read" in refused(run=tmp_path)
    why = "(Cannot assign requested address); give an address of this machine"
    assert f"--host 203.0.113.9: cannot be listened at {why}" in refused("--host", "203.0.113.9")
    assert "--host must be an address, got ''" in refused("--host", "")
    assert "--host must be an address, got 'a..b'" in refused("--host", "a..b")
    assert "--host no host: cannot be listened at (" in refused("--host", "no host")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port} is in use; give another" in refused("--port", str(port))
    depth = write_run(untrained("fcn-pool3", channels="color-depth"), tmp_path / "depth")
    assert "sees color-depth, and the page has color alone" in refused(run=depth)
    for missing in ("waitress", "werkzeug"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            assert (
                f"fcn serve needs {missing}; install it: pip install 'fcn_ext[serve]'" in refused()
            )


def downloaded(path: Path) -> bytes:
    """What the browser wrote, taken away."""
    end = time.monotonic() + HANGS
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture(scope="module")
def visited(
    served_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[browser.Page]:
    """The page in a browser. The limit on pictures is 4,000 pixels."""
    if browser.executable() is None:
        pytest.skip("no Chromium on this machine")
    profile = tmp_path_factory.mktemp("browser")
    with (
        served(served_run, max_megapixels=0.004) as address,
        browser.page(address, profile) as page,
    ):
        page.wait(f"{STATUS} === 'Ready.'")
        yield page


def test_a_person_uses_the_page(
    visited: browser.Page, served_run: TrainedRun, png: Path, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(picture(60, 90)).save(tmp_path / "large.png")
    page = visited
    assert page.run("document.title") == "fcn-pool4 of two <sets>"

    page.download_to(tmp_path / "downloads")
    page.give_file("#file", png)
    page.wait(f"{STATUS}.startsWith('50 x 37 pixels')")
    kind = {"Content-Type": "image/png"}
    expected = unpacked(ask(page.address, "POST", "/segment", encoded(picture()), **kind)[1])
    for number, (one, classes) in enumerate(
        zip(expected["sets"], served_run.label_sets, strict=True)
    ):
        page.run(f"element('set').value = '{number}'; show()")
        table = page.run("[...element('classes').rows].map((row) => row.innerText)")
        assert table == [
            f"{classes.names[row['index']]}\t{100 * row['share']:.1f} %\t{row['probability']:.3f}"
            for row in one["classes"]
        ]
        # What the canvas shows of each class, and what is read under the mouse.
        page.run("element('view').value = 'classes'; draw()")
        shown = page.run("[...element('canvas').getContext('2d').getImageData(0, 0, 50, 37).data]")
        colors = np.array(shown, dtype=np.uint8).reshape(37, 50, 4)[:, :, :3]
        np.testing.assert_array_equal(colors, classes.palette[one["labels"]])
        box = page.run(
            "(({left, top, width, height}) => [left, top, width, height])"
            "(element('canvas').getBoundingClientRect())"
        )
        for x, y in ((0, 0), (49, 36), (17, 20)):
            page.move_mouse(box[0] + (x + 0.5) * box[2] / 50, box[1] + (y + 0.5) * box[3] / 37)
            name = classes.names[one["labels"][y, x]]
            probability = one["probability"][y, x] / 255
            told = f"{name}, probability {probability:.2f} (x {x}, y {y})"
            page.wait(f"element('pixel').textContent === {told!r}")
        page.run("element('download').click()")
        assert downloaded(tmp_path / "downloads" / "mask.png") == one["mask"]
    for view in ("overlay", "probability", "image"):
        page.run(f"element('view').value = '{view}'; draw()")

    # What the canvas shows is dropped on the page.
    page.run("shown = null")
    page.run(
        "new Promise((done) => element('canvas').toBlob(done)).then((blob) => {"
        "  const data = new DataTransfer();"
        "  data.items.add(new File([blob], 'dropped.png', { type: 'image/png' }));"
        "  document.dispatchEvent(new DragEvent('drop', { dataTransfer: data }));"
        "})"
    )
    page.wait("shown !== null && shown.width === 50 && shown.height === 37")

    page.give_file("#file", tmp_path / "large.png")
    page.wait(f"{STATUS}.includes('Shrunk from 90 x 60.')")
    page.give_file("#file", tmp_path / "text.png")
    page.wait(f"{STATUS}.startsWith('This is no picture that can be read')")
    assert page.run("element('status').className") == "error"
    # The refusal is in the browser's log; nothing else went wrong.
    assert [p for p in page.problems if "422" not in p] == []


def test_the_camera_is_shown(visited: browser.Page) -> None:
    visited.problems.clear()
    visited.run("shown = null")
    visited.run("element('camera').click()")
    visited.wait("shown !== null && shown.width > 1")
    assert visited.run("element('camera').textContent") == "Stop the camera"
    visited.run("element('camera').click()")
    assert visited.run("stream === null")
    assert visited.problems == []
