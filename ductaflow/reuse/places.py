"""Places that are nobody's input: the system's own, the interpreter's, and what programs cache.

Data may lie anywhere else, also in `/dev/shm`, `/run/media`, `/var/lib/mydata`, `/etc/myapp.conf`
or `~/.local/share`: what a run asks there counts as in the project.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

_WHOLE = (
    "/bin/", "/boot/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/proc/", "/sbin/", "/sys/",
    "/nix/store/", "/snap/", "/System/", "/Library/", "/opt/homebrew/", "/var/cache/",
)  # fmt: skip
"""Folders in which there is nothing but what a system, or its packages, has put there."""

_USR_LOCAL = (
    "bin", "sbin", "lib", "lib32", "lib64", "libexec", "include", "etc", "games", "man",
    "share/applications", "share/bash-completion", "share/ca-certificates", "share/doc",
    "share/fonts", "share/gdal", "share/icons", "share/info", "share/jupyter", "share/locale",
    "share/man", "share/mime", "share/proj", "share/terminfo", "share/xml", "share/zoneinfo",
)  # fmt: skip
_ETC = (
    "ImageMagick-6", "ImageMagick-7", "OpenCL", "X11", "adjtime", "alternatives", "apt",
    "bash.bashrc", "bash_completion.d", "ca-certificates", "ca-certificates.conf",
    "crypto-policies", "dbus-1", "debian_version", "default", "dpkg", "environment", "fonts",
    "fstab", "gai.conf", "group", "gss", "host.conf", "hostname", "hosts", "init.d", "inputrc",
    "jupyter", "krb5.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload",
    "locale.alias", "locale.conf", "locale.gen", "localtime", "login.defs", "lsb-release",
    "machine-id", "magic", "magic.mime", "mailcap", "mime.types", "mtab", "netconfig",
    "networks", "nsswitch.conf", "nvidia", "os-release", "pam.d", "papersize", "passwd", "pki",
    "profile", "profile.d", "protocols", "pulse", "resolv.conf", "rpc", "security", "selinux",
    "services", "shadow", "shells", "ssl", "sudoers", "sudoers.d", "sysconfig", "systemd",
    "terminfo", "timezone", "udev", "vulkan", "xdg",
)  # fmt: skip
_VAR_LIB = (
    "alternatives", "apt", "ca-certificates", "dbus", "dpkg", "extrausers", "flatpak",
    "fontconfig", "locales", "misc", "nscd", "pacman", "rpm", "selinux", "snapd", "sss", "systemd",
)  # fmt: skip
_RUN = (
    "NetworkManager", "avahi-daemon", "cups", "dbus", "lock", "log", "mount/utab", "nscd",
    "resolvconf", "sshd", "sssd", "sudo", "systemd", "udev", "utmp", "uuidd",
)  # fmt: skip
_HOME = (
    ".cache", ".fonts", ".inputrc", ".ipython", ".jupyter", ".local/bin", ".local/lib",
    ".local/share/Trash", ".local/share/applications", ".local/share/fonts", ".local/share/icons",
    ".local/share/jupyter", ".local/share/mime", ".matplotlib", "Library/Caches",
    "Library/Fonts", "Library/Jupyter",
)  # fmt: skip
_PREFIX = (
    "Lib", "DLLs", "Library", "Scripts", "bin", "conda-meta", "etc", "include", "lib", "lib32",
    "lib64", "libexec", "man", "pkgs", "pyvenv.cfg", "sbin", "share", "ssl",
)  # fmt: skip
"""What an interpreter has below its prefix, which may also be a folder with all a user has."""


@lru_cache(maxsize=16)
def interpreter_places(folders: Iterable[str]) -> tuple[str, ...]:
    """The places of an interpreter and its packages, by their names and without links.

    Args:
        folders: Its prefixes and its packages' folders.
    """
    found = []
    for folder in folders:
        if folder.rstrip(os.sep) in ("/usr", "/usr/local", ""):
            continue  # the system's own, of which more is known
        whole = folder.endswith("-packages") or not _is_prefix(folder)
        found += [folder] if whole else [os.path.join(folder, name) for name in _PREFIX]
    return _both(found)


def _is_prefix(folder: str) -> bool:
    return any(os.path.isdir(os.path.join(folder, name)) for name in ("bin", "Scripts"))


@lru_cache(maxsize=1)
def _system() -> tuple[str, ...]:
    local = [f"/usr/local/{name}" for name in _USR_LOCAL]
    etc = [f"{etc}/{name}" for etc in ("/etc", "/private/etc") for name in _ETC]
    var = [f"/var/lib/{name}" for name in _VAR_LIB]
    run = [f"{run}/{name}" for run in ("/run", "/var/run") for name in _RUN]
    return tuple(f"{path}{os.sep}" for path in (*local, *etc, *var, *run))


def is_system(path: str) -> bool:
    """Whether a path is in the system's own places, or a device.

    Args:
        path: Absolute.
    """
    if path.startswith("/usr/"):
        return not path.startswith("/usr/local/") or f"{path}/".startswith(_system())
    if path.startswith("/dev/"):
        return not path.startswith("/dev/shm/")  # noqa: S108  (data lies there)
    if path.startswith(("/run/user/", "/var/run/user/")):
        return "/gvfs/" not in path  # where GNOME mounts what it connects to
    return path.startswith(_WHOLE) or f"{path}/".startswith(_system())


@lru_cache(maxsize=16)
def caches(home: str, named: tuple[str, ...]) -> tuple[str, ...]:
    """What programs keep for themselves in a user's home.

    Args:
        home: The home folder.
        named: Other folders that are caches.
    """
    return _both([*(os.path.join(home, name) for name in _HOME), *named])


def _both(folders: Iterable[str]) -> tuple[str, ...]:
    """Folders as they are named and without links, as beginnings of what is in them."""
    names = {name for folder in folders for name in (folder, os.path.realpath(folder))}
    return tuple(sorted(name + os.sep for name in names))
