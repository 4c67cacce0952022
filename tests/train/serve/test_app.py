"""What the server answers, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from werkzeug.test import Client, TestResponse

from fcn_train.data import IMAGENET, image_to_tensor
from fcn_train.run import TrainedRun
from fcn_train.serve import app as serving
from fcn_train.serve.app import is_own_host

from .answers import unpacked
from .conftest import LIMITS, encoded, picture


def send(client: Client, data: bytes, **options: Any) -> TestResponse:
    return client.post("/segment", data=data, **{"content_type": "image/png", **options})


def assert_plain(response: TestResponse, code: int, *parts: str) -> None:
    """One line for people, and nothing of the program."""
    assert response.status_code == code
    assert response.mimetype == "text/plain"
    assert response.text.count("\n") == 1
    for part in parts:
        assert part in response.text
    assert "Traceback" not in response.text


@torch.no_grad()
def test_a_picture_is_segmented(client: Client, served_run: TrainedRun) -> None:
    pixels = picture()
    found = unpacked(send(client, encoded(pixels)).data)
    assert (found["height"], found["width"]) == pixels.shape[:2]
    logits = served_run.model(image_to_tensor(pixels, IMAGENET)[None])
    assert [one["name"] for one in found["sets"]] == list(logits) == ["semantic", "geometric"]
    for one, scores, classes in zip(
        found["sets"], logits.values(), served_run.label_sets, strict=True
    ):
        probability, labels = (values[0].numpy() for values in scores.softmax(1).max(1))
        assert len(np.unique(labels)) > 1
        assert (one["labels"] != labels).mean() < 0.01  # ties
        np.testing.assert_allclose(one["probability"] / 255, probability, atol=0.5 / 255 + 1e-5)
        with Image.open(io.BytesIO(one["mask"])) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.array(mask), one["labels"])
            np.testing.assert_array_equal(
                np.array(mask.convert("RGB")), classes.palette[one["labels"]]
            )
        rows = one["classes"]
        assert [row["share"] for row in rows] == sorted((r["share"] for r in rows), reverse=True)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        for row in rows:
            of_class = one["labels"] == row["index"]
            assert row["share"] == pytest.approx(of_class.mean())
            assert row["probability"] == pytest.approx(probability[of_class].mean(), abs=1e-3)


def test_answers_may_be_compressed(client: Client) -> None:
    plain = send(client, encoded(picture()))
    packed = send(client, encoded(picture()), headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    found, expected = unpacked(gzip.decompress(packed.data)), unpacked(plain.data)
    for one, other in zip(found["sets"], expected["sets"], strict=True):
        np.testing.assert_array_equal(one["labels"], other["labels"])


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (100, 100)])
def test_pictures_of_any_size_up_to_the_limit(size: tuple[int, int], client: Client) -> None:
    found = unpacked(send(client, encoded(picture(*size))).data)
    assert found["sets"][0]["labels"].shape == size


def test_photographs_are_turned_upright(client: Client) -> None:
    tag = Image.Exif()
    tag[0x112] = 6
    found = unpacked(send(client, encoded(picture(20, 30), "JPEG", exif=tag)).data)
    assert (found["height"], found["width"]) == (30, 20)


def huge_png() -> bytes:
    """100,000 x 100,000 pixels, said in the head of a file of a few bytes."""
    head = (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + len(head).to_bytes(4, "big")
        + chunk
        + zlib.crc32(chunk).to_bytes(4, "big")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty."),
        (b"no picture", "This is no picture that can be read (BMP, GIF, JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This is no picture"),
        (encoded(picture())[:-300], "This is an image that cannot be decoded."),
        (encoded(picture(100, 101)), "has 101 x 100 pixels; the limit is 0.01 million."),
        (huge_png(), "This is no picture|has 100000 x 100000 pixels"),
        (
            encoded(np.zeros((4, 4), dtype=np.uint16)),
            "This is an image of more than 8 bits per channel.",
        ),
    ],
    ids=["empty", "text", "svg", "truncated", "large", "bomb", "deep"],
)
def test_pictures_of_no_use_are_refused_in_words(
    data: bytes, message: str, client: Client, warned: list[str]
) -> None:
    response = send(client, data)
    assert_plain(response, 422)
    assert any(part in response.text for part in message.split("|"))
    assert warned == []


def test_flipped_bits_never_end_in_a_failure(client: Client) -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(picture(9, 13), kind)
        for bit in rng.integers(0, 8 * len(whole), 5):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            assert send(client, bytes(damaged)).status_code in (200, 422)


def test_large_files_are_refused_unread(client: Client) -> None:
    assert_plain(send(client, b"x" * 100_001), 413, "The file is larger than 0.1 MB.")


def test_only_pictures_may_be_sent(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert_plain(send(client, encoded(picture()), content_type=kind), 415, "Send a picture")


def test_other_addresses_and_methods_are_refused(client: Client) -> None:
    for path in ("/absent", "/page.html", "/../page.py", "/segment/", "/%2e%2e/app.py"):
        assert_plain(client.get(path), 404, "There is no such page.")
    assert_plain(client.get("/segment"), 405, "Use POST.")
    assert_plain(client.post("/model"), 405, "Use GET or HEAD.")
    assert_plain(client.options("/segment"), 405)


def test_pages_from_elsewhere_cannot_ask(client: Client) -> None:
    data = encoded(picture())
    assert_plain(
        send(client, data, headers={"Host": "evil.example"}), 400, "This address is not the server"
    )
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert_plain(send(client, data, headers={"Origin": origin}), 403, "Another page may not")
    own = {"Origin": "http://localhost", "Host": "localhost"}
    assert send(client, data, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("header", "host", "own"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST:80", "::1", True),
        ("[::1]:8000", "127.0.0.1", True),
        ("192.168.0.7:8000", "127.0.0.1", False),
        ("evil.example:8000", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.168.0.7:8000", "0.0.0.0", True),
        ("[fe80::1]", "::", True),
        ("evil.example", "0.0.0.0", False),
        ("my-machine:8000", "my-machine", True),
        ("other-machine", "my-machine", False),
    ],
)
def test_whose_host_a_request_may_name(header: str, host: str, own: bool) -> None:
    assert is_own_host(header, host) == own


def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript")):
        response = client.get(path)
        assert response.status_code == 200
        assert response.mimetype == f"text/{kind}"
        assert "http:" not in response.text
        assert "https:" not in response.text
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    page = client.get("/").text
    assert "<script>" not in page
    assert "style=" not in page


def test_the_page_is_told_of_the_network(client: Client, served_run: TrainedRun) -> None:
    told = json.loads(client.get("/model").data)
    assert told["title"] == "fcn-pool4 of two <sets>"
    assert told["limits"] == {"bytes": LIMITS.file_bytes, "pixels": LIMITS.pixels}
    for one, classes in zip(told["sets"], served_run.label_sets, strict=True):
        assert tuple(entry["name"] for entry in one["classes"]) == classes.names
        colors = [entry["color"] for entry in one["classes"]]
        assert colors == classes.palette[: len(classes.names)].tolist()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("secret"), "the program failed; its console says why"),
        (FileNotFoundError(2, "No such file", "/secret"), "the program failed; its console says"),
        (MemoryError("std::bad_alloc"), "out of memory; try smaller images"),
    ],
)
def test_failures_are_told_without_their_inside(
    error: Exception,
    message: str,
    client: Client,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*arguments: object) -> bytes:
        raise error

    monkeypatch.setattr(serving, "answer", failing)
    response = send(client, encoded(picture()))
    assert_plain(response, 500, f"The picture was not segmented: {message}")
    assert "secret" not in response.text
    assert len(warned) == 1
    monkeypatch.undo()
    assert send(client, encoded(picture())).status_code == 200
