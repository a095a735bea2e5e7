#!/bin/sh
# First process of a machine: its network, then the NFS server or the mount, then machine_commands.py, which runs what
# this host asks for. $bench (from the kernel's command line) is the machine's folder on this host.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
here=$(dirname "$0")
die() {
    echo "machine_init: $*"
    sync
    echo o >/proc/sysrq-trigger
    sleep 5
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm /dev/pts && mount -t tmpfs tmpfs /dev/shm && mount -t devpts devpts /dev/pts
for folder in /run /tmp /mnt /var/tmp /var/lib/nfs; do mount -t tmpfs tmpfs "$folder"; done
chmod 1777 /tmp /var/tmp /dev/shm

# What these hide, and is needed, comes back at its own path.
share() { mkdir -p "$1" 2>/dev/null; mount -t hostfs -o "$2,$1" none "$1" || die "cannot share $1"; }
share "${here%/tests/nfs}" ro # the project, with .venv
share "${bench:?}" rw
# shellcheck source=/dev/null
. "$bench/settings"

[ "$SKEW" = 0 ] || date -s "$SKEW seconds" >/dev/null
hostname "$NAME"
echo "127.0.0.1 localhost" >/run/hosts
number=1
for host in $HOSTS; do
    echo "$SUBNET$number $host" >>/run/hosts
    number=$((number + 1))
done
mount --bind /run/hosts /etc/hosts
echo "$NAME" | md5sum | cut -c1-32 >/run/machine-id
[ ! -e /etc/machine-id ] || mount --bind /run/machine-id /etc/machine-id
# A home that nobody has furnished: a heavy ~/.bashrc of this host's owner would slow each job down.
mkdir -p /tmp/home
sed 's|^\(root:[^:]*:0:0:[^:]*\):[^:]*:.*|\1:/tmp/home:/bin/bash|' /etc/passwd >/run/passwd
mount --bind /run/passwd /etc/passwd
ip link set lo up
{ ip addr add "$ADDRESS/24" dev vec0 && ip link set vec0 up; } || die "no network"

mkdir -p /run/root/lib && ln -s /usr/lib/uml/modules /run/root/lib/modules # modprobe wants ROOT/lib/modules/RELEASE
modprobe -d /run/root -a sunrpc lockd nfs nfsv3 nfsv4 nfsd || die "no NFS modules"
mkdir /run/rpcbind /run/rpc_pipefs
mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
rpcbind -w

serve() {
    mkdir /mnt/disk /mnt/nfs
    mount -t ext4 /dev/ubda /mnt/disk || die "no disk"
    # What the server must remember over a crash lies on its disk as well.
    mkdir -p /mnt/disk/export /mnt/disk/state
    mount --bind /mnt/disk/export /mnt/nfs
    mount --bind /mnt/disk/state /var/lib/nfs
    mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/nfsdcld
    mount -t nfsd nfsd /proc/fs/nfsd
    echo "/mnt/nfs *(rw,sync,no_root_squash,no_subtree_check,fsid=0)" >/run/exports
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    mount --bind /run/exports /etc/exports
    echo "$LEASE" >/proc/fs/nfsd/nfsv4leasetime
    echo "$LEASE" >/proc/fs/nfsd/nfsv4gracetime
    echo "$LEASE" >/proc/sys/fs/nfs/nlm_grace_period
    nfsdcld
    rpc.statd --no-notify
    exportfs -a
    rpc.mountd
    rpc.nfsd 4 || die "no NFS server"
    sm-notify
}

attach() {
    mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /mnt/nfs
    touch /var/lib/nfs/state
    rpc.statd --no-notify
    [ "$VERSION" = 3 ] && path=/mnt/nfs || path=/
    until mount -t nfs -o "vers=$VERSION${OPTIONS:+,$OPTIONS},retry=0" "server:$path" /mnt/nfs; do sleep 0.2; done
}

if [ "$NAME" = server ]; then serve; else attach; fi
mknod /run/bell c 4 64 # the first serial line: bench.py writes to it when there is something to do
exec "$PYTHON" "$here/machine_commands.py" "$bench" /run/bell
