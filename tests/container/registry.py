"""A registry that holds one image, `lora-job:0.2.0` without any file, for `docker pull`."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND = "application/vnd.oci.image"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def empty_layer() -> bytes:
    """A tar archive with nothing in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w"):
        pass
    return archive.getvalue()


def made_image(labels: dict[str, str]) -> dict[str, tuple[str, bytes]]:
    """What a registry answers under `manifests/` and `blobs/`: type and content by tag or digest."""
    layer = empty_layer()
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels, "Cmd": ["none"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [digest(layer)]}
    blobs = {f"{KIND}.config.v1+json": json.dumps(config).encode(), f"{KIND}.layer.v1.tar+gzip": gzip.compress(layer)}
    described = [{"mediaType": kind, "digest": digest(blob), "size": len(blob)} for kind, blob in blobs.items()]
    manifest = {"schemaVersion": 2, "mediaType": f"{KIND}.manifest.v1+json", "config": described[0], "layers": described[1:]}
    answer = (f"{KIND}.manifest.v1+json", json.dumps(manifest).encode())
    held = {digest(blob): ("application/octet-stream", blob) for blob in blobs.values()}
    return held | {"0.2.0": answer, digest(answer[1]): answer}


@contextmanager
def registry(labels: dict[str, str]) -> Iterator[str]:
    """The address of a registry on this machine that holds lora-job:0.2.0 with these labels; Docker asks it without TLS."""
    held = made_image(labels)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[1]
            kind, content = ("text/plain", b"") if self.path == "/v2/" else held.get(name, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", digest(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
