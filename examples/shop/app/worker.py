"""The shop's worker: places orders all day, and ships what others placed."""

import os
import time

import psycopg
import redis
import shop


def main():
    pause = 1 / float(os.environ.get("ORDERS_PER_SECOND", "50"))
    basket = shop.cache()
    print("the worker has begun", flush=True)
    while True:
        connection = shop.database()
        try:
            while True:
                number = shop.place_order(connection, basket)
                if number % 10 == 0:
                    connection.execute(
                        "update orders set status = 'shipped' where status = 'new' and id < %s", (number - 20,)
                    )
                if number % 1000 == 0:
                    print(f"order {number} placed", flush=True)
                time.sleep(pause)
        except (psycopg.OperationalError, redis.RedisError) as error:
            print(f"trying again: {error}", flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
