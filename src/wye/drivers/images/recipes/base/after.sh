# Nothing that a package brings starts by itself in a container.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/apt/sources.list /etc/apt/sources.list.d/*
install -m 644 /run/wye/debian.sources /etc/apt/sources.list.d/debian.sources
cat > /etc/apt/apt.conf.d/container <<'END'
APT::Install-Recommends "false";
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
: > /etc/hostname
