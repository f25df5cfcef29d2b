"""The outside world as the product's network tests see it: one server with TLS, in the folder it is started in.

`/files/...` are files, `/simple/...` is a Python index, `/npm/...` a registry of npm's, `/git/...` git's own server
program over the repositories in `git`, `/echo` says what it was sent, `/forever` never ends. Each request becomes a line
of `requests`, each answer that was cut off a line that begins with `ended`. Its port is in `port` once it listens.
"""

import base64
import hashlib
import http.server
import io
import json
import os
import ssl
import subprocess
import tarfile
import time
import urllib.parse
import zipfile


def wheel():
    """A Python package with one module, as pip wants it."""
    files = {
        "loopy.py": "WORD = 'from the wheel'\n",
        "loopy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loopy\nVersion: 1.0\n",
        "loopy-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "loopy-1.0.dist-info/RECORD"])
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for name, text in {**files, "loopy-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return bytes_.getvalue()


def tarball():
    """A package of Node's with one module, as npm wants it."""
    files = {
        "package/package.json": json.dumps({"name": "loopy", "version": "1.0.0", "main": "index.js"}),
        "package/index.js": "module.exports = 'from the tarball'\n",
    }
    bytes_ = io.BytesIO()
    with tarfile.open(fileobj=bytes_, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return bytes_.getvalue()


WHEEL, TARBALL = wheel(), tarball()
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()


def note(line):
    with open("requests", "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        note(f"{self.command} {self.path} {self.headers.get('authorization') or '-'}")
        url = urllib.parse.urlsplit(self.path)
        here = f"https://localhost:{self.server.server_port}"
        if url.path.startswith("/git/"):
            return self.git(url, body)
        if url.path == "/forever":
            return self.forever()
        if url.path == "/echo":
            said = self.headers.get("authorization") or "nothing"
            return self.send(200, f"{self.command} with {said}\n".encode(), "text/plain", {"x-echo": said})
        pages = {
            "/simple/loopy/": ("text/html", f'<a href="{here}/files/loopy-1.0-py3-none-any.whl">loopy</a>'.encode()),
            "/files/loopy-1.0-py3-none-any.whl": ("application/zip", WHEEL),
            "/npm/loopy": ("application/json", json.dumps({
                "name": "loopy",
                "dist-tags": {"latest": "1.0.0"},
                "versions": {"1.0.0": {
                    "name": "loopy",
                    "version": "1.0.0",
                    "dist": {"tarball": f"{here}/npm/loopy/-/loopy-1.0.0.tgz", "integrity": INTEGRITY},
                }},
            }).encode()),
            "/npm/loopy/-/loopy-1.0.0.tgz": ("application/octet-stream", TARBALL),
            "/files/hello": ("text/plain", b"hello from outside\n"),
        }
        if url.path in pages:
            kind, bytes_ = pages[url.path]
            return self.send(200, bytes_, kind)
        return self.send(404, b"there is no such page\n", "text/plain")

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def send(self, status, bytes_, kind, headers=()):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(bytes_)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(bytes_)

    def forever(self):
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            note(f"ended {self.path}")
        self.close_connection = True

    def git(self, url, body):
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROJECT_ROOT": os.getcwd(),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("content-type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding") or "",
            "GIT_PROTOCOL": self.headers.get("git-protocol") or "",
        }
        said = subprocess.run(["git", "http-backend"], env=environment, input=body, stdout=subprocess.PIPE, check=False)
        head, _, rest = said.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        kind = headers.pop("Content-Type", "text/plain")
        self.send(status, rest, kind, headers)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
with open("package-lock.json", "w", encoding="utf-8") as lock:
    tarball_url = f"https://localhost:{server.server_port}/npm/loopy/-/loopy-1.0.0.tgz"
    packages = {
        "": {"name": "it", "version": "1.0.0", "dependencies": {"loopy": "1.0.0"}},
        "node_modules/loopy": {"version": "1.0.0", "resolved": tarball_url, "integrity": INTEGRITY},
    }
    json.dump({"name": "it", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}, lock)
with open("port.new", "w", encoding="utf-8") as port:
    port.write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
