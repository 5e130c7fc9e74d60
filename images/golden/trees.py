"""The trees of which the golden images are made, as plain data: written to a directory, packed into a tar, and told line by line.

A tree maps paths (bytes, empty for the root) to `Node`s. What an image of it must show is computed from this model alone, never from
what some program wrote.
"""
import hashlib, os, stat, struct
from dataclasses import dataclass, field, replace

TIME = 1700000000  # of every node that says nothing else, and of the images


@dataclass(frozen=True)
class Node:
    kind: str  # f, d, l, c, b, p, s as in the listing; h: one more name of the node at `data`
    mode: int = 0o644
    owner: tuple = (0, 0)
    mtime: tuple = (TIME, 0)  # seconds, nanoseconds
    data: object = b""  # content, target, (major, minor), path of the hard link
    holes: tuple = ()  # (offset, length) of zeros that the source file does not store
    xattrs: dict = field(default_factory=dict)


# ---- content ----------------------------------------------------------------------------------------------------------------------
def numbers(seed):
    """Upper halves of Knuth's MMIX generator."""
    x = seed
    while True:
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        yield x >> 32


def noise(seed, size):
    """Incompressible."""
    out, source = bytearray(), numbers(seed)
    while len(out) < size:
        out += struct.pack("<I", next(source))
    return bytes(out[:size])


def text(seed, size):
    """Lines that compress to about a fifth."""
    out, source, line = bytearray(), numbers(seed), 0
    while len(out) < size:
        n = next(source)
        out += b"%05d: key_%02d = value of the golden tree, %s\n" % (line, n % 40, b"%x" % (n >> 20))
        line += 1
    return bytes(out[:size])


def repeated(seed, size):
    """One page of text over and over, marked now and then: extents of many lclusters."""
    page, out = text(seed, 1500), bytearray()
    while len(out) < size:
        out += page + (b"== %d ==\n" % len(out) if len(out) // 1500 % 9 == 0 else b"")
    return bytes(out[:size])


def acl(*entries):
    """As setxattr takes it: version 2, then (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ANY = 0xFFFFFFFF
ACL = acl((1, 6, ANY), (2, 5, 1000), (4, 4, ANY), (16, 7, ANY), (32, 4, ANY))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


# ---- trees ------------------------------------------------------------------------------------------------------------------------
def nodes():
    """Metadata: every file type, name, owner, mode, time and kind of attribute; little content."""
    t = {b"": Node("d", 0o755, xattrs={b"user.root": b"of the tree"})}
    t[b"types"] = Node("d", 0o750)
    t[b"types/empty"] = Node("d", 0o755)
    t[b"types/character"] = Node("c", 0o666, data=(1, 3))
    t[b"types/block"] = Node("b", 0o660, data=(300, 70000))
    t[b"types/fifo"] = Node("p", 0o600)
    t[b"types/socket"] = Node("s", 0o755)
    t[b"types/symlink"] = Node("l", 0o777, data=b"../sizes/300")
    t[b"types/long-symlink"] = Node("l", 0o777, data=b"long/" * 150)
    t[b"sizes"] = Node("d", 0o755)
    for size in (0, 1, 300):
        t[b"sizes/%d" % size] = Node("f", data=text(size + 1, size))
    t[b"names"] = Node("d", 0o755)
    t[b"names/m"] = Node("f", data=b"one file of many names\n")
    for name in (b"!", b"+", b"-rf", b"..a", b"...", b".hidden", b".wh.x", b" ", b"a b", b"\n", b"\xff", b"caf\xc3\xa9", b"n" * 255, b"\xfe" * 255):
        t[b"names/" + name] = Node("h", data=b"names/m")
    t[b"wide"] = Node("d", 0o755)
    for n in range(60):
        t[b"wide/%02d-%s" % (n, b"x" * (40 + n * 7 % 61))] = Node("h", data=b"names/m")
    t[b"owners"] = Node("d", 0o1777, owner=(65534, 65535))
    for n, owner in enumerate([(1000, 100), (65535, 65535), (65536, 0), (0xFFFFFFFE, 0xFFFFFFFE)]):
        t[b"owners/%d" % n] = Node("f", (0o4755, 0o2755, 0o000, 0o7777)[n], owner=owner)
    t[b"times"] = Node("d", 0o755, mtime=(TIME + 1, 999999999))
    for n, time in enumerate([(0, 0), (1, 1), (-2, 500000000), (-(2**31) + 1, 0), (2**32, 7), (10413792000, 123456789)]):
        t[b"times/%d" % n] = Node("f", data=b"%d" % n, mtime=time)
    t[b"xattrs"] = Node("d", 0o755, xattrs={b"system.posix_acl_default": ACL, b"trusted.overlay.opaque": b"y"})
    for n in range(4):
        shared = {b"user.shared": b"by four inodes", b"security.test": b"label", b"trusted.shared": bytes(60)}
        t[b"xattrs/shared-%d" % n] = Node("f", xattrs={**shared, b"user.own": b"%d" % n})
    t[b"xattrs/acl"] = Node("f", 0o674, xattrs={b"system.posix_acl_access": ACL})
    t[b"xattrs/capability"] = Node("f", 0o755, xattrs={b"security.capability": CAPABILITY})
    t[b"xattrs/empty-value"] = Node("f", xattrs={b"user.empty": b""})
    t[b"xattrs/long"] = Node("f", xattrs={b"user." + b"n" * 200: noise(5, 500), b"user.erofs.prefix": b"1", b"user.erofs.": b"2"})
    t[b"xattrs/symlink"] = Node("l", 0o777, data=b"acl", xattrs={b"trusted.overlay.redirect": b"/somewhere"})
    return t


def content():
    """What compression makes of files: runs around cluster edges, plain clusters between encoded ones, tails, duplicates, holes."""
    lines = text(11, 14000)
    t = {b"": Node("d", 0o755), b"sub": Node("d", 0o755)}
    t[b"empty"] = Node("f")
    t[b"one"] = Node("f", data=b"1")
    t[b"text"] = Node("f", data=lines)
    mixed = text(14, 5000) + noise(12, 4300) + repeated(16, 70001) + bytes(20480) + b"end"
    t[b"mixed"] = Node("f", data=mixed, mtime=(TIME + 5, 6))
    t[b"sub/part"] = Node("f", data=lines[:8192] + text(17, 700))
    t[b"sub/tail"] = Node("f", data=text(18, 600))
    t[b"sub/link"] = Node("h", data=b"text")
    t[b"sub/symlink"] = Node("l", 0o777, data=b"../text")
    return t


def large():
    """Few files that fill clusters of 64 KiB and more."""
    t = {b"": Node("d", 0o755)}
    t[b"text"] = Node("f", data=text(21, 40001))
    t[b"mixed"] = Node("f", data=repeated(22, 40000) + noise(23, 5000) + repeated(24, 30000))
    t[b"repeated"] = Node("f", data=repeated(25, 1500000))
    return t


def holes():
    """Holes at the beginning, in the middle, at the end, everywhere; equal chunks; chunks around the end of a file."""
    part = noise(31, 4096)
    t = {b"": Node("d", 0o755)}
    t[b"all"] = Node("f", data=bytes(40000), holes=((0, 40000),))
    t[b"begin"] = Node("f", data=bytes(16384) + part, holes=((0, 16384),))
    t[b"middle"] = Node("f", data=part + bytes(24576) + part[:100], holes=((4096, 24576),))
    t[b"end"] = Node("f", data=part + bytes(20000), holes=((4096, 20000),))
    t[b"equal"] = Node("f", data=part * 3)
    t[b"xattr"] = Node("f", data=part[:900], xattrs={b"user.x": b"moves the table"})
    t[b"short"] = Node("f", data=text(33, 100))
    t[b"empty"] = Node("f")
    return t


def lower():
    """The layer below, for merges, increments and tars."""
    t = {b"": Node("d", 0o755), b"dir": Node("d", 0o700, owner=(1, 2)), b"hidden": Node("d", 0o755), b"only": Node("d", 0o755)}
    t[b"kept"] = Node("f", data=text(41, 2000))
    t[b"replaced"] = Node("f", data=text(42, 1500), xattrs={b"user.layer": b"lower"})
    t[b"removed"] = Node("f", data=b"gone in the layer above\n")
    t[b"dir/a"] = Node("f", data=b"a of the lower layer\n")
    t[b"dir/b"] = Node("f", data=text(43, 4097))
    t[b"dir/link"] = Node("h", data=b"dir/b")
    t[b"hidden/below"] = Node("f", data=b"hidden by an opaque directory\n")
    t[b"only/symlink"] = Node("l", 0o777, data=b"../kept")
    return t


WHITEOUT = Node("c", 0o000, data=(0, 0))


def upper():
    """The layer above: a whiteout, an opaque directory, new and replaced files."""
    t = {b"": Node("d", 0o755), b"dir": Node("d", 0o755), b"hidden": Node("d", 0o755, xattrs={b"trusted.overlay.opaque": b"y"})}
    t[b"replaced"] = Node("f", data=text(44, 1700), xattrs={b"user.layer": b"upper"})
    t[b"removed"] = WHITEOUT
    t[b"dir/c"] = Node("f", data=text(45, 1100))
    t[b"hidden/above"] = Node("f", data=b"shown\n")
    return t


def aufs():
    """A layer whose deletions are written the way of AUFS and of OCI layers."""
    t = {b"": Node("d", 0o755), b"dir": Node("d", 0o755), b"hidden": Node("d", 0o755)}
    t[b".wh.removed"] = Node("f", 0o600)
    t[b"hidden/.wh..wh..opq"] = Node("f", 0o600)
    t[b"hidden/above"] = Node("f", data=b"shown\n")
    t[b"dir/c"] = Node("f", data=text(45, 1100))
    return t


# ---- what becomes of a tree -------------------------------------------------------------------------------------------------------
def each(tree, change):
    return {path: change(path, node) for path, node in tree.items()}


def without(tree, unwanted):
    return {path: node for path, node in tree.items() if not unwanted(path, node)}


def at_time(tree, time=(TIME, 0)):
    return each(tree, lambda _, node: replace(node, mtime=time))


def no_xattrs(tree):
    return each(tree, lambda _, node: replace(node, xattrs={}))


def separate(tree):
    """Every name with an inode of its own."""
    return each(tree, lambda _, node: tree[node.data] if node.kind == "h" else node)


def merged(below, above):
    """As mkfs.erofs merges layers: names of the upper one win, a whiteout stays and hides, an opaque directory hides."""
    opaque = [path for path, node in above.items() if node.xattrs.get(b"trusted.overlay.opaque") == b"y"]

    def hidden(path):
        parts = path.split(b"/")
        parents = [b"/".join(parts[:n]) for n in range(1, len(parts))]
        return any(parent in opaque or (parent in above and above[parent].kind != "d") for parent in parents)

    return {**without(below, lambda path, _: hidden(path)), **above}


# ---- forms ------------------------------------------------------------------------------------------------------------------------
def ordered(tree):
    return sorted(tree, key=lambda path: path.split(b"/") if path else [])


def original(tree, path):
    return tree[path].data if tree[path].kind == "h" else path


def parent(path):
    return path.rpartition(b"/")[0]


def listing(tree):
    """What the tree shows, in the form of tests/kernels: path, type, mode, owner, link count, size of files and symlinks, mtime, SHA-256
    or target or device number, attributes, first of the paths with the same inode; in byte order of paths."""
    def escaped(raw):
        return "".join(chr(c) if 0x20 < c < 0x7F and c != 0x5C else "\\x%02x" % c for c in raw)

    links, names, lines = {}, {}, []
    for path in sorted(tree):
        if path and tree[path].kind == "d":
            links[parent(path)] = links.get(parent(path), 2) + 1
        names.setdefault(original(tree, path), []).append(path)
    for path in sorted(tree):
        source = original(tree, path)
        node, size, told = tree[source], 0, "-"
        if node.kind == "f":
            size, told = len(node.data), hashlib.sha256(node.data).hexdigest()
        elif node.kind == "l":
            size, told = len(node.data), escaped(node.data)
        elif node.kind in "cb":
            told = "%x" % os.makedev(*node.data)
        count = links.get(path, 2) if node.kind == "d" else len(names[source])
        xattrs = ",".join(sorted(escaped(name) + "=" + value.hex() for name, value in node.xattrs.items()))
        time = "%d.%09d" % node.mtime
        first = names[source][0]
        fields = [escaped(path) or ".", node.kind, "%o" % node.mode, "%d:%d" % node.owner, str(count), str(size), time, told, xattrs]
        lines.append("\t".join([*fields, "-" if first == path else escaped(first)]) + "\n")
    return "".join(lines)


def write(tree, root):
    """Makes the tree at `root`; needs root."""
    root = os.fsencode(root)
    at = lambda path: os.path.join(root, path) if path else root
    for path in ordered(tree):
        node, name = tree[path], at(path)
        if node.kind == "d":
            os.mkdir(name)
        elif node.kind == "f":
            with open(name, "wb") as f:
                f.truncate(len(node.data))
                position = 0
                for hole, length in [*node.holes, (len(node.data), 0)]:
                    f.seek(position)
                    f.write(node.data[position:hole])
                    position = hole + length
        elif node.kind == "l":
            os.symlink(node.data, name)
        elif node.kind in "cbps":
            kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK}[node.kind]
            os.mknod(name, kind | 0o600, os.makedev(*node.data) if node.kind in "cb" else 0)
    for path in ordered(tree):
        if tree[path].kind == "h":
            os.link(at(tree[path].data), at(path), follow_symlinks=False)
    # Attributes after owner and mode, which take some away; times last, children first.
    for path in reversed(ordered(tree)):
        node, name = tree[path], at(path)
        if node.kind == "h":
            continue
        os.chown(name, *node.owner, follow_symlinks=False)
        if node.kind != "l":
            os.chmod(name, node.mode)
        for key, value in node.xattrs.items():
            os.setxattr(name, key, value, follow_symlinks=False)
        seconds, nanoseconds = node.mtime
        os.utime(name, ns=(0, seconds * 10**9 + nanoseconds), follow_symlinks=False)


def tar(tree, data=True):
    """A PAX archive; without `data` only its headers, as a stream that keeps the data elsewhere."""
    out = bytearray()

    def member(name, typeflag, node, body, linkname=b"", size=None):
        size = len(body) if size is None else size
        major, minor = node.data if node.kind in "cb" else (0, 0)
        number = lambda n, width: b"%0*o\0" % (width - 1, n)
        uid, gid = (min(n, 0o7777777) for n in node.owner)
        head = name[:100].ljust(100, b"\0") + number(node.mode, 8) + number(uid, 8) + number(gid, 8) + number(size, 12)
        head += number(max(0, min(node.mtime[0], 8**11 - 1)), 12) + b" " * 8 + typeflag + linkname[:100].ljust(100, b"\0")
        head += b"ustar\0" + b"00" + bytes(64) + number(major, 8) + number(min(minor, 0o7777777), 8)
        head = head.ljust(512, b"\0")
        head = head[:148] + b"%06o\0 " % sum(head) + head[156:]
        out.extend(head + body + bytes(-len(body) % 512))

    def record(key, value):
        length = len(key) + len(value) + 3
        total = length + len(str(length))
        total = length + len(str(total))
        return b"%d %s=%s\n" % (total, key, value)

    # Links after what they link to.
    for path in sorted(ordered(tree), key=lambda path: tree[path].kind == "h"):
        node = tree[path]
        pax = record(b"path", path or b"./") if len(path) > 99 else b""
        source = tree[original(tree, path)]
        seconds, nanoseconds = source.mtime
        if nanoseconds or not 0 <= seconds < 8**11:
            negative = seconds < 0 and nanoseconds
            whole, rest = (-(seconds + 1), 10**9 - nanoseconds) if negative else (seconds, nanoseconds)
            pax += record(b"mtime", b"%s%d.%09d" % (b"-" if negative else b"", whole, rest))
        for key, number in zip((b"uid", b"gid"), source.owner):
            if number > 0o7777777:
                pax += record(key, b"%d" % number)
        for key, value in sorted(source.xattrs.items()):
            pax += record(b"SCHILY.xattr." + key, value)
        target = node.data if node.kind in "lh" else b""
        if len(target) > 100:
            pax += record(b"linkpath", target)
        if pax:
            member(b"PaxHeaders/" + path[:80], b"x", Node("f"), pax)
        typeflag = {"f": b"0", "h": b"1", "l": b"2", "c": b"3", "b": b"4", "d": b"5", "p": b"6"}[node.kind]
        body = node.data if node.kind == "f" and data else b""
        size = len(node.data) if node.kind == "f" else 0
        member((path or b".") + (b"/" if node.kind == "d" else b""), typeflag, source, body, target, size)
    return bytes(out) + bytes(1024)
