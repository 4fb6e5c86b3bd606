"""The shop's web app: GET / (a page), GET /orders (counts as JSON), POST /orders (buys something), GET /health."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import redis
import shop

local = threading.local()
basket = shop.cache()

PAGE = """<!doctype html><title>Shop</title><h1>The shop</h1>
<p>{orders} orders so far, the last one has number {last}.</p>
<form method=post action=/orders><button>Buy something</button></form>
"""


def query(run):
    """Runs `run(connection)` on this thread's connection, once more on a new one if that was lost."""
    if getattr(local, "connection", None) is None:
        local.connection = shop.database()
    try:
        return run(local.connection)
    except psycopg.OperationalError:
        local.connection = shop.database()
        return run(local.connection)


def counts():
    orders = query(lambda connection: connection.execute("select count(*) from orders").fetchone()[0])
    last = basket.get("orders:last")
    return {"orders": orders, "last": int(last) if last else None, "placed": int(basket.get("orders:placed") or 0)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"ok": query(lambda connection: connection.execute("select 1").fetchone()[0]) == 1})
        elif self.path == "/orders":
            self.answer(200, counts())
        elif self.path == "/":
            self.answer(200, PAGE.format(**counts()), "text/html; charset=utf-8")
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/orders":
            self.answer(201, {"id": query(lambda connection: shop.place_order(connection, basket))})
        else:
            self.answer(404, {"error": "no such page"})

    def answer(self, status, body, kind="application/json"):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self):
        try:
            super().handle()
        except (psycopg.Error, redis.RedisError) as error:
            self.answer(503, {"error": str(error)})

    def log_message(self, form, *arguments):
        pass


if __name__ == "__main__":
    print("the shop is open on port 8000", flush=True)
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
