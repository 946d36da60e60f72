#!/usr/bin/env python3
"""A proxy in front of an HTTP server that fails as it is told to, and counts.

usage: faulty_proxy.py HOST:PORT RULES LOG

Prints its port when it listens; ends with its standard input. Every request is a line of LOG: METHOD PATH STATUS BYTES.
RULES is read anew for each request; a line is METHOD PATTERN ACTION [COUNT]: the first rule that fits (METHOD may be *,
PATTERN is a regular expression searched in path and query) and was used less than COUNT times (once; * = always) acts:

    NUMBER[/SECONDS]   answers with this status, and Retry-After
    drop               closes the connection without an answer
    stall              never answers
    cut:BYTES          sends so many bytes of the body, then closes
    hold:BYTES         sends so many bytes of the body, then nothing more
    slow:SECONDS       answers later
"""
import http.client
import http.server
import re
import sys
import threading
import time
from pathlib import Path

LOCK = threading.Lock()
USED = {}


def rule_for(rules, method, path):
    with LOCK:
        lines = rules.read_text().splitlines() if rules.exists() else []
        for line in lines:
            words = line.split()
            if len(words) < 3 or words[0] not in ("*", method) or not re.search(words[1], path):
                continue
            count = words[3] if len(words) > 3 else "1"
            if count != "*" and USED.get(line, 0) >= int(count):
                continue
            USED[line] = USED.get(line, 0) + 1
            return words[2]
    return None


def main():
    target, rules, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def note(self, status, size=0):
            with LOCK, open(log, "a", encoding="utf-8") as out:
                out.write(f"{self.command} {self.path} {status} {size}\n")

        def body(self):
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                data = b""
                while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def forward(self):
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()
            sent = self.body()
            action = rule_for(rules, self.command, self.path) or ""
            if action == "drop":
                self.note("drop")
                self.close_connection = True
                return
            if action == "stall":
                self.note("stall")
                time.sleep(120)
                self.close_connection = True
                return
            if action.startswith("slow:"):
                time.sleep(float(action[5:]))
            if action[:1].isdigit():
                status, _, after = action.partition("/")
                self.note(status)
                self.send_response(int(status))
                if after:
                    self.send_header("Retry-After", after)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection(target, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
            if sent or self.command in ("PUT", "POST", "PATCH"):
                headers["Content-Length"] = str(len(sent))
            upstream.request(self.command, self.path, body=sent or None, headers=headers)
            answer = upstream.getresponse()
            data = answer.read()
            self.note(answer.status, len(data) + len(sent))
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "keep-alive"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            if length is not None and answer.status not in (204, 304):
                self.send_header("Content-Length", length)
            self.end_headers()
            if action.startswith(("cut:", "hold:")):
                self.wfile.write(data[:int(action.split(":")[1])])
                self.wfile.flush()
                if action.startswith("hold:"):
                    time.sleep(120)
                self.close_connection = True
                return
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = forward

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
