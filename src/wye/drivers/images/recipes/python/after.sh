ln -s /usr/bin/python3 /usr/local/bin/python
# The whole system here belongs to one application.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
