"""What the web app and the worker share: connections that come back by themselves."""

import os
import random
import time

import psycopg
import redis


def database():
    """A connection to Postgres; waits for it to be there."""
    while True:
        try:
            return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=3)
        except psycopg.OperationalError:
            time.sleep(0.05)


def cache():
    return redis.Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=3, socket_timeout=3)


def place_order(connection, basket):
    """One order of a random article, counted in Redis. Its number."""
    row = connection.execute(
        "insert into orders (customer_id, article_id, quantity) values (%s, %s, %s) returning id",
        (random.randint(1, 1000), random.randint(1, 200), random.randint(1, 5)),
    ).fetchone()
    basket.incr("orders:placed")
    basket.set("orders:last", row[0])
    return row[0]
