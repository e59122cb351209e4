"""Chromium, headless, and what is to be seen in its pictures."""

import struct
import subprocess
import zlib

# How a page is looked at: light, dark, and as narrow as a phone.
SHOTS = {
    "light": ["--window-size=1200,1400"],
    "dark": ["--window-size=1200,1400", "--blink-settings=preferredColorScheme=0"],
    "phone": ["--window-size=500,1400"],
}


def picture(path):
    """Width, height and rows of pixels (as bytes) of a PNG of eight bits a channel."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n"), path
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
            channels = {2: 3, 6: 4}[color]
            assert depth == 8
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, pitch, rows = zlib.decompress(packed), width * channels, []
    before = bytearray(pitch)
    for y in range(height):
        kind = raw[y * (pitch + 1)]
        row = bytearray(raw[y * (pitch + 1) + 1 : (y + 1) * (pitch + 1)])
        for x in range(pitch):
            left = row[x - channels] if x >= channels else 0
            up, corner = before[x], before[x - channels] if x >= channels else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            elif kind == 4:
                p = left + up - corner
                guess = min((left, up, corner), key=lambda v: abs(p - v))
            else:
                guess = 0
            row[x] = (row[x] + guess) & 255
        rows.append(row)
        before = row
    return width, height, channels, rows


def brightness(path):
    """Mean brightness of the margin, and how many different colours there are in all."""
    _, _, channels, rows = picture(path)
    edge = [row[2 * channels : 2 * channels + 3] for row in rows[::7]]
    colours = {
        bytes(row[x : x + 3]) for row in rows[::5] for x in range(0, len(row) - 3, 7 * channels)
    }
    return sum(sum(pixel) for pixel in edge) / (3 * len(edge)), len(colours)


def chromium(program, url, folder, *options):
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        f"--user-data-dir={folder}/profile", "--virtual-time-budget=6000", *options, url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
