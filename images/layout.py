"""Where things stand in an image: enough to change one field of it. Knows well-formed images only."""
import struct

CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)


class Image(bytearray):
    """The bytes of an image, with positions in bytes."""

    # ---- numbers
    def get(self, form, at):
        return struct.unpack_from("<" + form, self, at)[0]

    def put(self, form, at, *values):
        struct.pack_into("<" + form, self, at, *values)

    # ---- superblock
    SB = 1024

    @property
    def block(self):
        return 1 << self[self.SB + 12]

    @property
    def wide(self):
        return self.get("I", self.SB + 80) & 0x80

    def root(self):
        return self.get("Q", self.SB + 112) if self.wide and self.get("Q", self.SB + 112) else self.get("H", self.SB + 14)

    def packed(self):
        return self.inode(self.get("Q", self.SB + 96))

    def seal(self):
        """Sets the checksum right."""
        end = self.SB + (self.block - 1024 if self.block > 1024 else self.block)
        self.put("I", self.SB + 4, 0)
        crc = 0xFFFFFFFF
        for byte in self[self.SB:end]:
            crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
        self.put("I", self.SB + 4, crc)

    # ---- inodes
    def inode(self, nid):
        return self.get("I", self.SB + 40) * self.block + nid * 32

    def nid(self, at):
        return (at - self.get("I", self.SB + 40) * self.block) // 32

    def extended(self, at):
        return self[at] & 1

    def layout(self, at):
        return self[at] >> 1 & 7

    def size(self, at):
        return self.get("Q" if self.extended(at) else "I", at + 8)

    def u(self, at):
        """Position of i_u."""
        return at + 16

    def xattrs(self, at):
        return at + (64 if self.extended(at) else 32)

    def behind_xattrs(self, at, alignment=1):
        count = self.get("H", at + 2)
        end = self.xattrs(at) + (12 + 4 * (count - 1) if count else 0)
        return -(-end // alignment) * alignment

    def data(self, at):
        """Positions of the blocks of flat data, the inline tail included."""
        size, block, inline = self.size(at), self.block, self.layout(at) == 2
        start, blocks = self.get("I", self.u(at)) * block, -(-size // self.block)
        whole = [start + n * block for n in range(blocks - inline)]
        return whole + ([self.behind_xattrs(at)] if inline else [])

    # ---- directories
    def entries(self, at):
        """(position of the entry, position of its name, name), block by block."""
        found, size = [], self.size(at)
        for number, start in enumerate(self.data(at)):
            limit = min(self.block, size - number * self.block)
            count = self.get("H", start + 8) // 12
            offsets = [self.get("H", start + 12 * n + 8) for n in range(count)] + [limit]
            for n in range(count):
                name = bytes(self[start + offsets[n]:start + offsets[n + 1]]).rstrip(b"\0")
                found.append((start + 12 * n, start + offsets[n], name))
        return found

    def entry(self, directory, name):
        return next((entry, at) for entry, at, found in self.entries(directory) if found == name)

    def find(self, path):
        """Position of the inode at `path`."""
        at = self.inode(self.root())
        for name in filter(None, path.split(b"/")):
            at = self.inode(self.get("Q", self.entry(at, name)[0]))
        return at

    # ---- compression
    def map_header(self, at):
        return self.behind_xattrs(at, 8)

    def index(self, at):
        """Position of the first record of an index: full ones have 8 bytes each."""
        return self.map_header(at) + (16 if self.layout(at) == 1 else 8)
