#!/usr/bin/env python3
"""Servers that keep caches, for scenarios: Azure's blob storage, and GitHub's cache for Actions (version 2).

usage: cache_servers.py azblob LOG | gha LOG

Prints its port when it listens; ends with its standard input. Every request is a line of LOG: METHOD PATH STATUS.
Written from the descriptions of the protocols, not from the client that they test: each signature is computed anew from
what came over the wire. What is kept is in memory.

azblob has one account, "account", whose key is KEY below. gha knows tokens by their text: any JSON web token that is
signed "test"; what one scope has written the scopes of another token may read.
"""
import base64
import hashlib
import hmac
import http.server
import json
import re
import sys
import threading
import urllib.parse
import xml.etree.ElementTree as ET

KEY = base64.b64encode(b"a key of thirty-two bytes, or so!").decode()
LOCK = threading.RLock()


class Refused(Exception):
    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class BlockBlobs:
    """Blobs by name, and blocks that are no part of one yet."""

    def __init__(self):
        self.blobs, self.blocks = {}, {}

    def put(self, name, query, headers, body):
        if query.get("comp") == "block":
            base64.b64decode(query["blockid"], validate=True)
            self.blocks[name, query["blockid"]] = body
            return
        if headers.get("If-None-Match") == "*" and name in self.blobs:
            raise Refused(409, "BlobAlreadyExists")
        if query.get("comp") == "blocklist":
            ids = [e.text for e in ET.fromstring(body)]
            if missing := [i for i in ids if (name, i) not in self.blocks]:
                raise Refused(400, "InvalidBlockList", f"no block {missing[0]}")
            self.blobs[name] = b"".join(self.blocks.pop((name, i)) for i in ids)
            return
        if headers.get("x-ms-blob-type") != "BlockBlob":
            raise Refused(400, "MissingRequiredHeader", "x-ms-blob-type")
        self.blobs[name] = body

    def get(self, name, headers):
        if name not in self.blobs:
            raise Refused(404, "BlobNotFound")
        data = self.blobs[name]
        if not (wanted := headers.get("x-ms-range") or headers.get("Range")):
            return 200, data
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
        if int(first) >= len(data):
            raise Refused(416, "InvalidRange")
        return 206, data[int(first):int(last) + 1 if last else None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/octet-stream", **headers):
        with LOCK, open(self.log, "a", encoding="utf-8") as out:
            out.write(f"{self.command} {self.path} {status}\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = {k.lower(): v for k, v in urllib.parse.parse_qsl(url.query, keep_blank_values=True)}
        try:
            with LOCK:
                self.respond(url, query, body)
        except Refused as refused:
            self.refuse(refused)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any


class Azblob(Handler):
    containers, store = set(), BlockBlobs()

    def refuse(self, refused):
        text = (f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{refused.code}</Code>'
                f"<Message>{refused.message}</Message></Error>")
        self.answer(refused.status, text.encode(), "application/xml", x_ms_error_code=refused.code)

    def check(self, url, query, body):
        """The Shared Key scheme for the Blob service."""
        h = self.headers
        length = h.get("Content-Length") or ""
        lines = [self.command, h.get("Content-Encoding", ""), h.get("Content-Language", ""),
                 "" if length == "0" else length, h.get("Content-MD5", ""), h.get("Content-Type", ""),
                 "" if h.get("x-ms-date") else h.get("Date", ""), h.get("If-Modified-Since", ""),
                 h.get("If-Match", ""), h.get("If-None-Match", ""), h.get("If-Unmodified-Since", ""),
                 h.get("Range", "")]
        lines += sorted(f"{k.lower()}:{v.strip()}" for k, v in h.items() if k.lower().startswith("x-ms-"))
        lines += ["/account" + url.path, *(f"{k}:{v}" for k, v in sorted(query.items()))]
        mac = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        if h.get("Authorization") != "SharedKey account:" + base64.b64encode(mac).decode():
            raise Refused(403, "AuthenticationFailed", "the MAC signature is not the same as any computed signature")
        if not h.get("x-ms-version") or not h.get("x-ms-date"):
            raise Refused(400, "MissingRequiredHeader")

    def respond(self, url, query, body):
        self.check(url, query, body)
        _, container, *name = urllib.parse.unquote(url.path).split("/", 2)
        if query.get("restype") == "container":
            if self.command == "PUT":
                if container in self.containers:
                    raise Refused(409, "ContainerAlreadyExists")
                self.containers.add(container)
                return self.answer(201)
            if container not in self.containers:
                raise Refused(404, "ContainerNotFound")
            return self.answer(200)
        if container not in self.containers:
            raise Refused(404, "ContainerNotFound")
        name = f"{container}/{name[0]}"
        if self.command == "PUT":
            self.store.put(name, query, self.headers, body)
            return self.answer(201)
        status, data = self.store.get(name, self.headers)
        return self.answer(status, data)


class Gha(Handler):
    # (scope, key, version) → number of the blob; reserved ones are not ready
    entries, ready, store = {}, [], BlockBlobs()

    def refuse(self, refused):
        text = json.dumps({"code": refused.code, "msg": refused.message or refused.code})
        self.answer(refused.status, text.encode(), "application/json")

    def scopes(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        parts = token.split(".")
        if len(parts) != 3 or parts[2] != "test":
            raise Refused(401, "unauthenticated", "bad token")
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        return json.loads(claims["ac"])

    def respond(self, url, query, body):
        if url.path.startswith("/blob/"):
            if query.get("sig") != "signed/+=":
                raise Refused(403, "AuthenticationFailed")
            if self.command == "PUT":
                self.store.put(url.path, query, self.headers, body)
                return self.answer(201)
            status, data = self.store.get(url.path, self.headers)
            return self.answer(status, data)
        service, _, method = url.path.rpartition("/")
        if service != "/results/twirp/github.actions.results.api.v1.CacheService" or self.command != "POST":
            raise Refused(404, "bad_route")
        scopes = self.scopes()
        call = json.loads(body)
        answer = getattr(self, method)(scopes, call)
        return self.answer(200, json.dumps(answer).encode(), "application/json")

    def place(self, number):
        host = self.headers["Host"]
        return f"http://{host}/blob/{number}?sig={urllib.parse.quote_plus('signed/+=')}&se=2030"

    @staticmethod
    def own(scopes):
        own = [s["Scope"] for s in scopes if s["Permission"] & 2]
        if not own:
            raise Refused(403, "permission_denied", "read only")
        return own[0]

    def CreateCacheEntry(self, scopes, call):
        place = (self.own(scopes), call["key"], call["version"])
        if place in self.entries:
            raise Refused(409, "already_exists", "an entry of this key, version and scope is there")
        self.entries[place] = len(self.entries) + 1
        return {"ok": True, "signed_upload_url": self.place(self.entries[place])}

    def FinalizeCacheEntryUpload(self, scopes, call):
        place = (self.own(scopes), call["key"], call["version"])
        number = self.entries.get(place)
        if number is None or len(self.store.blobs.get(f"/blob/{number}", b"")) != int(call["size_bytes"]):
            return {"ok": False}
        self.ready.append(place)
        return {"ok": True, "entry_id": str(number)}

    def GetCacheEntryDownloadURL(self, scopes, call):
        allowed = [s["Scope"] for s in scopes]
        for key, exact in [(call["key"], True), *((k, False) for k in call.get("restore_keys", []))]:
            for scope in allowed:
                for place in reversed(self.ready):
                    fits = place[1] == key if exact else place[1].startswith(key)
                    if place[0] == scope and place[2] == call["version"] and fits:
                        return {"ok": True, "signed_download_url": self.place(self.entries[place]),
                                "matched_key": place[1]}
        return {"ok": False}


def token(*scopes):
    """A token with these (scope, permission)."""
    claims = {"ac": json.dumps([{"Scope": s, "Permission": p} for s, p in scopes]), "exp": 4102444800, "nbf": 1}
    parts = [{"alg": "none"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + ".test"


def main():
    handler = {"azblob": Azblob, "gha": Gha}[sys.argv[1]]
    handler.log = sys.argv[2]

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_):
            if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], OSError):
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
