# Nothing that a package brings starts by itself in a container.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/apt/sources.list /etc/apt/sources.list.d/*
install -m 644 /mnt/wye/debian.sources /etc/apt/sources.list.d/debian.sources
cat > /etc/apt/apt.conf.d/container <<'END'
APT::Install-Recommends "false";
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
# Copies of the host's.
: > /etc/hostname
: > /etc/resolv.conf
cat > /etc/dpkg/dpkg.cfg.d/container <<'END'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
END
rm -f /etc/dpkg/dpkg.cfg.d/99mmdebstrap
