#!/bin/sh
# The guest's first process: makes a machine on which every controller is bound to cgroup v2, as on a current
# distribution, and runs the sandbox's tests at the places of the tree in which servers are started there.
#
# Says `== <place>` before the tests of a place, `== ended <status>` after them, and `== done` at the very end.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp

if [ "$1" != moved ]; then
    # Nobody may pivot away from the kernel's first file system, which containers must. A mount of it on itself is another
    # matter, and costs no copy.
    mount -t proc proc /proc
    mount --bind / /new
    cd /new && mount --move . / && exec chroot . /init moved
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
for module in /modules/*; do insmod "$module"; done
if ! mount -t ext4 /dev/vda /tmp || ! chmod 1777 /tmp || ! mount -t cgroup2 cgroup2 /sys/fs/cgroup; then
    echo '== this kernel lacks what the guest needs'
    echo o >/proc/sysrq-trigger
    sleep 60
fi
python3 - <<'PYTHON'
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
PYTHON
# A guest that hangs ends itself, whoever may have forgotten it.
(sleep "${SECONDS_AT_MOST:-1200}"; echo "== too slow"; echo o >/proc/sysrq-trigger) &

cgroup=/sys/fs/cgroup
echo "== guest: $(uname -r), $(python3 -V), controllers: $(cat $cgroup/cgroup.controllers)"

# What the tests find must be limits by cgroup v2, all of them; a test that left them out would fail.
export EYOT_TEST_LIMITS='cgroup v2'
as_user='setpriv --reuid 1234 --regid 1234 --clear-groups --no-new-privs'

# The place's name, then what the tests are run with (perhaps nothing), `--`, and which tests.
place() {
    echo "== $1"
    shift
    before=
    while [ "$1" != -- ]; do before="$before $1"; shift; done
    shift
    $before /tests ${FILTER:-"$@"} --test-threads "${THREADS:-2}" --show-output 2>&1
    echo "== ended $?"
}

# Runs the rest of its arguments in a group, which it enters itself so that nobody else is in it.
cat >/run/within <<'SCRIPT'
#!/bin/sh
echo 0 >"$1/cgroup.procs" || exit 1
shift
exec "$@"
SCRIPT
chmod 755 /run/within

# As systemd leaves a group that it delegates to a user.
delegate() {
    mkdir "$1"
    chown 1234:1234 "$1" "$1/cgroup.procs" "$1/cgroup.subtree_control" "$1/cgroup.threads"
    mark "$1" user
}
# As systemd marks what it delegates. Ordinary users see the one kind of mark only, root both.
mark() { python3 -c 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2] + ".delegate", b"1")' "$1" "$2"; }

place 'root, in the topmost group' -- contract:: cgroup::

# From here on as under systemd: controllers are given on from the top, and everything sits in a leaf.
mkdir $cgroup/init.scope $cgroup/system.slice $cgroup/user.slice
echo 0 >$cgroup/init.scope/cgroup.procs
echo '+memory +pids +cpu' >$cgroup/cgroup.subtree_control
echo '+memory +pids' >$cgroup/system.slice/cgroup.subtree_control
echo '+memory +pids +cpu' >$cgroup/user.slice/cgroup.subtree_control

place 'root, in the group of a session with other processes' -- contract::container_from_inside contract::process_and

mkdir $cgroup/system.slice/plain.service
place 'root, in a service that has no CPU controller' /run/within $cgroup/system.slice/plain.service -- \
    contract::container_from_inside

echo '+cpu' >$cgroup/system.slice/cgroup.subtree_control
mkdir $cgroup/system.slice/eyot.service
mark $cgroup/system.slice/eyot.service trusted
place 'root, in a service with a delegated group' /run/within $cgroup/system.slice/eyot.service -- \
    contract::container_from_inside contract::container_and

# A container engine's: the group is the root of what the server sees of the tree, and yet an inner one.
cat >/run/inside <<'SCRIPT'
#!/bin/sh
umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"
SCRIPT
chmod 755 /run/inside
mkdir $cgroup/box.scope
place 'root, in a container with a cgroup namespace' /run/within $cgroup/box.scope unshare --cgroup --mount /run/inside -- \
    contract::process_and contract::container_from_inside

delegate $cgroup/user.slice/eyot.scope
place 'a user, in a delegated scope' /run/within $cgroup/user.slice/eyot.scope $as_user -- contract::container cgroup::

# DelegateSubgroup=: the server sits in a leaf, and the group above it is the one that was delegated.
delegate $cgroup/user.slice/eyot.service
mkdir $cgroup/user.slice/eyot.service/main
chown -R 1234:1234 $cgroup/user.slice/eyot.service/main
place 'a user, in a leaf of a delegated service' /run/within $cgroup/user.slice/eyot.service/main $as_user -- \
    contract::container_from_inside contract::container_and

echo "== left: $(find $cgroup -name 'eyot-*' ! -name eyot-server -type d | tr '\n' ' ')"
echo '== done'
echo o >/proc/sysrq-trigger
sleep 60
