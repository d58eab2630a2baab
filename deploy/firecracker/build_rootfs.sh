#!/bin/sh
# Makes the disk of the microVM that Apprentice runs in. As root, in the project's folder:
#   build_rootfs.sh FOLDER [SIZE]
# FOLDER is what `apprentice setup --isolation firecracker --apply` has made: firecracker/ in
# Apprentice's home, with guest/settings.toml and, if there is a key, guest/upstream.env.
# Needs debootstrap, ssh-keygen and mkfs.ext4. Asks nothing; makes FOLDER/rootfs.ext4 and a key pair.
set -eu

folder=${1:?"name the folder firecracker/ in Apprentice's home"}
size=${2:-6G}
mirror=${MIRROR:-}
suite=${SUITE:-bookworm}
project=$(cd "$(dirname "$0")/../.." && pwd)
owner=$(stat -c %u:%g "$folder")
[ -f "$folder/guest/settings.toml" ] || { echo "no guest/settings.toml in $folder: run setup first" >&2; exit 2; }

root=$(mktemp -d)
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT

# shellcheck disable=SC2086  # no mirror is no argument
debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,openssh-server,python3,python3-venv,ca-certificates,nftables \
    "$suite" "$root" $mirror

# Apprentice, in an environment of its own.
install -d "$root/opt/src"
tar -C "$project" -c pyproject.toml constraints.txt README.md LICENSE hermes_apprentice skills cron mcp_server \
    | tar -C "$root/opt/src" -x
chroot "$root" python3 -m venv /opt/hermes-apprentice
# The guest trusts whom this machine trusts: a proxy with certificates of its own, for one.
for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do [ ! -f $file ] || cp -L $file "$root$file"; done
mount -t proc proc "$root/proc"
chroot "$root" /opt/hermes-apprentice/bin/pip install --no-cache-dir -c /opt/src/constraints.txt /opt/src
umount "$root/proc"
rm -rf "$root/opt/src" "$root/etc/pip.conf"
ln -sf /opt/hermes-apprentice/bin/apprentice "$root/usr/local/bin/apprentice"

# Its user and its homes.
chroot "$root" useradd --system --create-home --home-dir /var/lib/hermes-apprentice --shell /bin/sh apprentice
install -d -m 700 "$root/var/lib/hermes-apprentice/.ssh" "$root/var/lib/hermes-sessions"
cp "$folder"/guest/* "$root/var/lib/hermes-apprentice/"
chmod 700 "$root/var/lib/hermes-apprentice"
chmod 600 "$root"/var/lib/hermes-apprentice/*.*
[ -f "$folder/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C apprentice -f "$folder/id_ed25519"
cp "$folder/id_ed25519.pub" "$root/var/lib/hermes-apprentice/.ssh/authorized_keys"
chroot "$root" chown -R apprentice:apprentice /var/lib/hermes-apprentice /var/lib/hermes-sessions
chown "$owner" "$folder/id_ed25519" "$folder/id_ed25519.pub"
echo 'export APPRENTICE_HOME=/var/lib/hermes-apprentice HERMES_HOME=/var/lib/hermes-sessions' \
    > "$root/var/lib/hermes-apprentice/.profile"

# A fixed address; whatever name the kernel gives the only interface.
cat > "$root/etc/systemd/network/10-apprentice.network" <<'NETWORK'
[Match]
MACAddress=06:00:ac:1f:50:02
[Network]
Address=172.31.80.2/30
Gateway=172.31.80.1
DNS=${DNS}
NETWORK
sed -i "s/\${DNS}/${DNS:-9.9.9.9}/" "$root/etc/systemd/network/10-apprentice.network"
echo "nameserver ${DNS:-9.9.9.9}" > "$root/etc/resolv.conf"
echo apprentice > "$root/etc/hostname"
printf '/dev/vda / ext4 defaults 0 1\n' > "$root/etc/fstab"
printf 'PasswordAuthentication no\nPermitRootLogin no\nAllowUsers apprentice\n' \
    > "$root/etc/ssh/sshd_config.d/apprentice.conf"

cat > "$root/etc/systemd/system/apprentice.service" <<'UNIT'
[Unit]
Description=hermes-apprentice: the sidecar between Hermes and its model
After=network-online.target

[Service]
Type=exec
User=apprentice
ExecStartPre=-/opt/hermes-apprentice/bin/apprentice models pull
ExecStartPre=/opt/hermes-apprentice/bin/python -m hermes_apprentice.interfaces.across admit /var/lib/hermes-apprentice/hermes.key
ExecStart=/opt/hermes-apprentice/bin/apprentice serve --host 172.31.80.2
Environment=APPRENTICE_HOME=/var/lib/hermes-apprentice HERMES_HOME=/var/lib/hermes-sessions
EnvironmentFile=-/var/lib/hermes-apprentice/upstream.env
Restart=always
RestartSec=2
TimeoutStopSec=75
TimeoutStartSec=600
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl enable -q systemd-networkd ssh apprentice

rm -f "$folder/rootfs.ext4"
truncate -s "$size" "$folder/rootfs.ext4"
mkfs.ext4 -q -d "$root" "$folder/rootfs.ext4"
chmod 600 "$folder/rootfs.ext4"
chown "$owner" "$folder/rootfs.ext4"
echo "made $folder/rootfs.ext4"
