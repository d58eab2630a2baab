#!/bin/sh
# The network between this machine and the microVM. As root: network.sh up USER | network.sh down
# The guest reaches the outside (its upstream) through this machine, and nothing on this machine
# but what answers on 172.31.80.1; nobody reaches the guest from outside. Private networks are closed
# to it too: a model of your own there needs its address accepted above the first rule.
set -eu

case "${1:-}" in
up)
    user=${2:?"name the user who runs firecracker"}
    ip tuntap add dev apprentice0 mode tap user "$user"
    ip address add 172.31.80.1/30 dev apprentice0
    ip link set apprentice0 up
    sysctl -q -w net.ipv4.ip_forward=1
    nft -f - <<'RULES'
table ip apprentice {
    chain forward {
        type filter hook forward priority 0; policy accept;
        iifname "apprentice0" ip daddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16 } drop
        oifname "apprentice0" ct state established,related accept
        oifname "apprentice0" drop
    }
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 172.31.80.0/30 masquerade
    }
}
RULES
    ;;
down)
    ip link delete apprentice0 || true
    nft delete table ip apprentice || true
    ;;
*)
    echo "usage: network.sh up USER | network.sh down" >&2
    exit 2
    ;;
esac
