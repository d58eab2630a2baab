"""The files that run Apprentice in a Firecracker microVM. Pure.

The guest has a fixed address on a network of its own with the machine, and shares no
file with it.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from hermes_apprentice.interfaces.install.placement import GUEST_HERMES
from hermes_apprentice.settings import Settings

MEMORY_MIB = 3_072
"""Enough for the sidecar and for training a classifier or a CRF."""

TAP = "apprentice0"
"""The network interface on the machine's side."""

MAC = "06:00:ac:1f:50:02"
"""The guest's; its first half says "locally administered", the rest is the address."""


def folder(home: Path) -> Path:
    """Return where everything about the microVM lies."""
    return home / "firecracker"


def vm_path(home: Path) -> Path:
    """Return where Firecracker's configuration lies."""
    return folder(home) / "vm.json"


def guest_settings_path(home: Path) -> Path:
    """Return where the guest's settings.toml lies until it is put into its disk."""
    return folder(home) / "guest" / "settings.toml"


def vm_text(home: Path) -> str:
    """Write Firecracker's configuration."""
    place = folder(home)
    content = {
        "boot-source": {
            "kernel_image_path": str(place / "vmlinux"),
            "boot_args": "console=ttyS0 reboot=k panic=1 pci=off root=/dev/vda rw",
        },
        "drives": [
            {
                "drive_id": "rootfs",
                "path_on_host": str(place / "rootfs.ext4"),
                "is_root_device": True,
                "is_read_only": False,
            }
        ],
        "network-interfaces": [{"iface_id": "eth0", "guest_mac": MAC, "host_dev_name": TAP}],
        "machine-config": {"vcpu_count": 2, "mem_size_mib": MEMORY_MIB},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def guest_settings(text: str) -> str:
    """Return the guest's settings.toml, made of the lines that both sides need."""
    return f'hermes_home = "{GUEST_HERMES}"\n{text}'


def steps_to_start(settings: Settings, key_env: str, key_file: bool) -> str:
    """Say how the microVM is made and started."""
    place = folder(settings.home)
    guest = shlex.quote(str(place))
    lines = [
        "Make and start the microVM, in a clone of the project:",
        f"sudo deploy/firecracker/build_rootfs.sh {guest}",
        f"a kernel for Firecracker as {place / 'vmlinux'}",
        "sudo deploy/firecracker/network.sh up $USER",
        f"firecracker --no-api --config-file {shlex.quote(str(vm_path(settings.home)))}",
    ]
    if key_env and not key_file:
        lines.insert(1, f"{key_env}=... into {place / 'guest' / 'upstream.env'}")
    return "\n  ".join(lines)
