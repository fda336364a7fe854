#!/bin/sh
# One libvirt host of the lab: runs as the first process of its own network, mount, PID and UTS
# namespaces, so that ending it ends everything that runs on the host.
# Arguments: the host's folder, its name.
set -eu
folder=$1
name=$2
echo "$name" > /proc/sys/kernel/hostname

# Nothing of the machine's own libvirt is seen or touched.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/libvirt
for path in /etc/libvirt /etc/ssh /var/lib/libvirt /var/log/libvirt /var/cache/libvirt \
    /etc/hosts /etc/passwd /etc/group; do
    mount --bind "$folder$path" "$path"
done

/usr/sbin/sshd -f /etc/ssh/sshd_config
# A daemon that ends while /run/restart is there is started again, as after an upgrade.
libvirtd() {
    /usr/sbin/libvirtd --listen --config /etc/libvirt/libvirtd.conf >> /var/log/libvirt/libvirtd.out 2>&1 &
    daemon=$!
}
libvirtd
# `wait` also collects what was orphaned on this host: QEMU starts as a daemon. A zombie would
# look to libvirt like a QEMU that does not end.
while :; do
    while kill -0 "$daemon" 2> /dev/null; do
        wait "$daemon" || true
    done
    [ -e /run/restart ] || break
    rm /run/restart
    libvirtd
done
