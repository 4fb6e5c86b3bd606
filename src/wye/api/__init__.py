"""What crosses the socket: wire values and the client."""
