"""Private networks of environments, on Linux: namespaces, veths, a bridge each, and nftables.

```
 service namespaces        router namespace          host
 eth0 10.0.0.2 ---------- port0 |                                    table inet wye:
 eth0 10.0.0.3 ---------- port1 | bridge 10.0.0.1      wye-7         who may come in, who may go out
                                | uplink 100.80.0.15 - 100.80.0.14   127.0.0.1:5432 -> 100.80.0.15:10000
                                |   10000 -> 10.0.0.2:5432
```

The private addresses are the same in every environment, so a fork needs no new configuration; only the uplink's pair
of addresses is its own. `network` is the driver; the rest are its parts.
"""

from wye.drivers.network.network import LinuxNetwork as LinuxNetwork
