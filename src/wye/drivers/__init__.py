"""One outside thing each, behind the protocols of wye.interfaces."""
