"""What the page gives to programs, and what it refuses to whoever asks."""

import json
import os
import socket

import pytest
from tiny import call


@pytest.fixture(scope="module")
def client(site):
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(site.url, verbose=False)


def test_programs_get_a_line_of_vsam_predict(
    client, tiny_data, tiny_run, predictor, tmp_path, monkeypatch
):
    from gradio_client import handle_file

    photo = tiny_data / "photos" / "dress" / "02.png"
    out = tmp_path / "out.jsonl"
    assert (
        call(
            "vsam-predict",
            [photo, "--model", tiny_run, "--device", "cpu", "--out", out],
            monkeypatch,
        )
        == 0
    )
    line = json.loads(out.read_text())
    assert line["image"] == "02.png"
    assert client.predict(handle_file(photo), api_name="/predict") == line
    said = predictor(photo)
    answer = client.predict(handle_file(photo), 0.2, True, api_name="/predict")
    assert answer == {"image": "02.png"} | said.describe(all_scores=True)
    answer = client.predict(photo=handle_file(photo), threshold=0.2, api_name="/predict")
    assert answer == {"image": "02.png"} | said.describe(threshold=0.2)


def test_programs_get_a_sentence_too(client, site, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    path = tmp_path / "notes.jpg"
    path.write_text("Buy milk.")
    with pytest.raises(AppError, match=r"“notes.jpg” could not be read as a photo: "):
        client.predict(handle_file(path), api_name="/predict")
    with pytest.raises(AppError, match="Expected a photo, but got none"):
        client.predict(None, api_name="/predict")
    photo = site.predictions  # any file
    with pytest.raises(AppError, match=r"Expected `threshold` to be from 0 to 1, but got 2"):
        client.predict(handle_file(photo), 2, api_name="/predict")


def test_the_server_fetches_no_address(client, site):
    """An address in the place of a file would make the server ask for it, in its own name."""
    from gradio_client.exceptions import AppError

    address = {"path": "http://203.0.113.1/a.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="nothing is fetched"):
        client.predict(address, api_name="/predict")


def test_the_server_reads_no_file_that_a_visitor_names(site, photo, tmp_path):
    """It would tell what lies there; a pipe that nobody writes to would stop the whole page."""
    import httpx

    refused = "Expected a file to be uploaded, not a path"
    api = f"{site.url}/gradio_api"
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    page = httpx.get(f"{site.url}/config").json()
    kinds = {each["id"]: each["type"] for each in page["components"]}
    events = {
        event["id"]: inputs
        for event in page["dependencies"]
        if {"image", "file"} & set(inputs := [kinds[id_] for id_ in event["inputs"]])
    }
    assert len(events) == 3  # the photo's, the gallery's, and that of programs
    [uploads] = site.temporary.iterdir()
    link = tmp_path / "link.jpg"
    link.symlink_to(uploads)
    of_gradio = {"meta": {"_type": "gradio.FileData"}}
    paths = (
        *(photo, pipe, tmp_path / "none.jpg", uploads, f"{photo}\0", f"file://{photo}"),
        *(folder / os.path.relpath(photo, uploads) for folder in (uploads, link)),
    )
    named = [{"path": str(path)} | of_gradio for path in paths]
    # What Gradio doesn't take for a file, and doesn't check.
    named += [{"path": str(photo)} | meta for meta in ({}, {"meta": {}}, {"meta": {"_type": "x"}})]
    for number, file in enumerate(named):
        call = httpx.post(f"{api}/call/predict", json={"data": [file, None, False]}).json()
        assert refused in httpx.get(f"{api}/call/predict/{call['event_id']}", timeout=60).text
        for event, inputs in events.items():
            if "file" in inputs and file.get("meta") != of_gradio["meta"]:
                continue  # there Gradio asks for it, and logs an error
            session = f"{event}-{number}"
            given = {"image": file, "file": [file]}
            body = {
                "fn_index": event,
                "data": [given.get(kind) for kind in inputs],
                "session_hash": session,
            }
            httpx.post(f"{api}/queue/join", json=body)
            told = httpx.get(f"{api}/queue/data?session_hash={session}", timeout=60).text
            assert refused in told, (file, event, told)
    assert not list(site.temporary.rglob(pipe.name))


def test_a_drawing_that_is_a_script_is_never_shown(client, site, tmp_path):
    import httpx
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    path = tmp_path / "evil.svg"
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    with pytest.raises(AppError, match="could not be read"):
        client.predict(handle_file(path), api_name="/predict")
    (kept,) = site.temporary.rglob("evil.svg")
    answer = httpx.get(f"{site.url}/gradio_api/file={kept}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")


def test_only_predict_is_offered(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/predict"]
    assert client.view_api(return_format="dict")["unnamed_endpoints"] == {}


def test_only_this_machine_s_names_open_a_local_page(site):
    import httpx

    assert httpx.get(site.url).status_code == 200
    # As a browser asks that another site led here, by giving its own name this address.
    assert httpx.get(site.url, headers={"Host": "evil.example"}).status_code == 400
    answer = httpx.get(f"{site.url}/gradio_api/file={site.run / 'config.json'}")
    assert answer.status_code == 403
    policy = httpx.get(site.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_an_upload_that_is_broken_off_is_no_failure(site):
    """The page's fixture looks for tracebacks when it has ended."""
    import httpx

    address = httpx.URL(site.url)
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: 9999\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: "
        'form-data; name="files"; filename="half.png"\r\n\r\nhalf'
    )
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(head.encode())
    assert httpx.get(site.url).status_code == 200
