"""Which file systems are network file systems."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|ceph|lustre|gpfs|afs|9p|beegfs|pvfs2|orangefs|panfs|vboxsf|virtiofs"
    r"|glusterfs|fuse\.(sshfs|glusterfs\w*|ceph\w*|s3fs|gcsfuse|rclone|moosefs|cvmfs2?|lustre)"
)


def network_file_system(path: Path) -> str | None:
    """The kind of network file system that a path lies on; None for a local or an unknown one."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    where, mounted_at, kind = path.resolve(), "", ""
    for line in lines:
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # the longest that holds the path, and of equals the last, which covers the others
        if where.is_relative_to(point) and len(point) >= len(mounted_at):
            mounted_at, kind = point, fields[fields.index("-") + 1]
    return kind if NETWORK.fullmatch(kind) else None
