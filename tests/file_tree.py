#!/usr/bin/env python3
"""Prints what is in a directory, one line a name, sorted: kind, mode, owner, time, links, device, extended attributes,
contents. The directory itself is left out, and so are the sizes of directories: they are the file system's.

    file_tree.py DIRECTORY
"""
import hashlib
import os
import stat
import sys

root = os.fsencode(sys.argv[1])
names = []
for folder, folders, files in os.walk(root):
    names += [os.path.join(folder, name) for name in folders + files]
first = {}  # of the names of a file
for path in sorted(names):
    name = os.fsdecode(path[len(root) :].lstrip(b"/"))
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    words = [repr(name), oct(st.st_mode), f"{st.st_uid}:{st.st_gid}", str(int(st.st_mtime))]
    if kind == stat.S_IFLNK:
        words.append("-> " + repr(os.readlink(path)))
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        words.append(f"device {os.major(st.st_rdev)}:{os.minor(st.st_rdev)}")
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            words.append(f"{st.st_size} {hashlib.sha256(file.read()).hexdigest()}")
    if kind != stat.S_IFDIR and st.st_nlink > 1:
        words.append("same as " + repr(first.setdefault(st.st_ino, name)))
    for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
        if not attribute.startswith("trusted.overlay."):
            words.append(f"{attribute}={os.getxattr(path, attribute, follow_symlinks=False).hex()}")
    print(*words)
