"""Draw the page's example pictures: `python assets/examples/draw.py` rewrites the PNG files beside it.

They are ours, so that they can be shipped with the page. Sizes are in units of a 480 x 360 canvas.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH, HEIGHT, SCALE = 480, 360, 3
FOLDER = Path(__file__).resolve().parent


def smooth(points, steps=14):
    """Closed Catmull-Rom curve through `points`."""
    p = np.array(points, dtype=float)
    before, after, next_after = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (x[:, None] for x in (before, p, after, next_after))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


class Scene:
    """A canvas three times as fine as the picture, so that edges come out smooth."""

    def __init__(self, top, bottom, seed=0):
        self.rng = np.random.default_rng(seed)
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
        self.gradient((0, HEIGHT), top, bottom, grain=2)

    def _paint(self, mask, colour, shade=0.0):
        """Flat colour through a mask; `shade` darkens it towards the lower right, as a body in the sun."""
        layer = Image.new("RGB", self.image.size, colour)
        if shade:
            light = mask.filter(ImageFilter.GaussianBlur(14 * SCALE // 2))
            light = ImageChops.offset(light, -5 * SCALE, -6 * SCALE).point(lambda v: int(255 * (1 - shade) + v * shade))
            layer = ImageChops.multiply(layer, Image.merge("RGB", [light] * 3))
        self.image.paste(layer, mask=mask)

    def _mask(self, draw_on):
        mask = Image.new("L", self.image.size)
        draw_on(ImageDraw.Draw(mask))
        return mask

    def gradient(self, rows, top, bottom, grain=6, wave=0):
        """A band from one colour to another, with grain for sand or grass and a wavy upper edge."""
        first, last = (int(row * SCALE) for row in rows)
        t = np.linspace(0, 1, last - first)[:, None, None]
        band = np.array(top) * (1 - t) + np.array(bottom) * t
        band = np.repeat(band, WIDTH * SCALE, 1)
        noise = self.rng.normal(0, grain, ((last - first) // 4 + 1, WIDTH * SCALE // 4, 1)).repeat(4, 0).repeat(4, 1)
        band = (band + noise[: last - first]).clip(0, 255).astype(np.uint8)
        layer = Image.new("RGB", self.image.size, tuple(top))
        layer.paste(Image.fromarray(band), (0, first))
        x = np.arange(0, WIDTH * SCALE + 1, 6)
        edge = first + wave * SCALE * np.sin(x / (37 * SCALE)) + wave * SCALE * 0.6 * np.sin(x / (13 * SCALE) + 1)
        outline = [(0, last), *zip(x.tolist(), edge.tolist(), strict=True), (WIDTH * SCALE, last)]
        self.image.paste(layer, mask=self._mask(lambda d: d.polygon(outline, fill=255)))

    def blob(self, points, colour, shade=0.35):
        outline = [tuple(xy) for xy in (smooth(points) * SCALE).tolist()]
        self._paint(self._mask(lambda d: d.polygon(outline, fill=255)), colour, shade)

    def polygon(self, points, colour, shade=0.0):
        outline = [(x * SCALE, y * SCALE) for x, y in points]
        self._paint(self._mask(lambda d: d.polygon(outline, fill=255)), colour, shade)

    def ellipse(self, x, y, rx, ry, colour, shade=0.0):
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self._paint(self._mask(lambda d: d.ellipse(box, fill=255)), colour, shade)

    def line(self, points, colour, width):
        path = [(x * SCALE, y * SCALE) for x, y in points]

        def draw_on(d):
            d.line(path, fill=255, width=int(width * SCALE), joint="curve")
            for x, y in (path[0], path[-1]):
                r = width * SCALE / 2
                d.ellipse([x - r, y - r, x + r, y + r], fill=255)

        self._paint(self._mask(draw_on), colour)

    def haze(self, draw_on, colour, blur):
        """A soft shape: shadows, clouds, foam and spray."""
        mask = self._mask(draw_on).filter(ImageFilter.GaussianBlur(blur * SCALE))
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=mask)

    def shadow(self, x, y, rx, ry, strength=110):
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self.haze(lambda d: d.ellipse(box, fill=strength), (40, 40, 50), 3)

    def cloud(self, x, y, size):
        def draw_on(d):
            for dx, dy, r in ((-1.2, 0.15, 0.6), (-0.4, -0.2, 0.8), (0.5, -0.1, 0.75), (1.3, 0.2, 0.5)):
                cx, cy, cr = (x + dx * size) * SCALE, (y + dy * size) * SCALE, r * size * SCALE
                d.ellipse([cx - cr, cy - cr * 0.7, cx + cr, cy + cr * 0.7], fill=235)

        self.haze(draw_on, (255, 255, 255), size / 9)

    def save(self, name):
        picture = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        picture.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(
            FOLDER / f"{name}.png", optimize=True
        )


def dog(s, coat=(206, 160, 100), dark=(150, 104, 60)):
    def at(points):
        return [(250 + 0.78 * (x - 250), 300 + 1.15 * (y - 300)) for x, y in points]

    # far legs, in the stride of a gallop
    s.blob(at([(302, 226), (330, 236), (352, 254), (368, 262), (364, 268), (346, 264), (318, 250), (296, 244)]), dark)
    s.blob(at([(168, 222), (150, 242), (126, 252), (104, 266), (108, 272), (132, 264), (162, 254), (186, 240)]), dark)
    # tail
    s.blob(at([(152, 196), (128, 178), (106, 172), (88, 150), (80, 152), (92, 178), (118, 196), (150, 212)]), coat)
    # body, chest, neck and head
    s.blob(
        at([(146, 200), (170, 182), (214, 178), (262, 180), (296, 168), (314, 142), (330, 126), (352, 120),
            (370, 132), (394, 142), (404, 150), (400, 160), (376, 166), (358, 170), (346, 192), (336, 218),
            (312, 240), (286, 240), (246, 226), (208, 224), (184, 240), (158, 232)]),
        coat,
    )  # fmt: skip
    # near legs
    s.blob(at([(292, 220), (324, 224), (338, 248), (362, 270), (378, 276), (376, 284), (354, 282), (326, 262),
               (296, 244)]), coat)  # fmt: skip
    s.blob(at([(154, 208), (194, 216), (194, 240), (168, 258), (148, 282), (130, 290), (128, 282), (140, 262),
               (150, 240)]), coat)  # fmt: skip
    # muzzle, chest, ear, eye, nose, mouth, collar
    s.blob(at([(372, 140), (396, 144), (406, 152), (398, 162), (374, 164), (364, 154)]), (236, 206, 162), 0.2)
    s.blob(at([(318, 190), (338, 196), (332, 220), (312, 236), (300, 222)]), (236, 206, 162), 0.2)
    s.blob(at([(326, 128), (342, 126), (346, 144), (334, 172), (320, 176), (314, 156)]), dark, 0.2)
    s.ellipse(*at([(361, 139)])[0], 4, 4, (30, 20, 16))
    s.ellipse(*at([(362.5, 137.5)])[0], 1.2, 1.2, (255, 255, 255))
    s.ellipse(*at([(402, 149)])[0], 6, 5, (26, 20, 20))
    s.line(at([(376, 160), (388, 160), (398, 157)]), (70, 36, 30), 2)
    s.blob(at([(380, 160), (390, 160), (388, 176), (380, 174)]), (222, 92, 104), 0.1)
    s.line(at([(312, 168), (330, 182), (346, 186)]), (196, 40, 44), 6)


def dog_on_beach():
    s = Scene((96, 168, 228), (214, 234, 246), seed=1)
    s.cloud(90, 52, 26)
    s.cloud(350, 40, 34)
    s.gradient((128, 216), (36, 116, 168), (84, 176, 196), grain=5)
    for y, width in ((150, 1.2), (166, 1.6), (184, 2.2)):
        x = np.arange(-20, 520, 12)
        wave = y + 2 * np.sin(x / 21 + y)
        s.line(list(zip(x.tolist(), wave.tolist(), strict=True)), (150, 206, 220), width)
    s.gradient((206, HEIGHT), (232, 244, 244), (240, 246, 244), grain=3, wave=4)
    s.gradient((214, HEIGHT), (206, 178, 128), (236, 208, 156), grain=11, wave=4)
    s.shadow(242, 296, 104, 9)
    dog(s)
    for x, y in ((110, 318), (160, 326), (78, 306), (214, 330)):
        s.ellipse(x, y, 5, 2.4, (190, 160, 112))
    s.save("dog_on_beach")


def child_with_sprinkler():
    s = Scene((150, 204, 240), (216, 238, 248), seed=2)
    for x, y, r in ((40, 96, 60), (130, 88, 54), (230, 98, 52), (330, 84, 58), (440, 96, 66)):
        s.ellipse(x, y, r, r * 0.8, (58, 116 + x % 17, 58), 0.4)
    s.gradient((132, HEIGHT), (108, 168, 72), (70, 136, 50), grain=14)

    # sprinkler and its fan of water
    def spray(d):
        for i in range(17):
            angle = np.pi * (0.08 + 0.84 * i / 16)
            reach = 150 + 26 * np.sin(i * 2.3)
            t = np.linspace(0, 1, 24)
            x = 330 + np.cos(angle) * reach * t
            y = 292 - np.sin(angle) * 210 * t + 150 * t**2
            d.line([(a * SCALE, b * SCALE) for a, b in zip(x, y, strict=True)], fill=190, width=int(2.4 * SCALE))

    s.haze(spray, (236, 248, 255), 1.2)
    s.line([(336, 298), (420, 312), (482, 304)], (60, 150, 90), 5)
    s.polygon([(320, 304), (340, 304), (335, 288), (325, 288)], (230, 180, 50))
    s.ellipse(330, 287, 7, 4, (90, 90, 100))
    # child: legs, shorts, shirt, arms raised, head with hair
    s.shadow(172, 322, 64, 9)
    skin, hair = (234, 180, 144), (112, 70, 40)
    s.blob([(142, 252), (164, 252), (160, 290), (146, 318), (128, 322), (126, 314), (138, 300)], skin)
    s.blob([(172, 252), (196, 252), (204, 284), (226, 300), (234, 296), (236, 304), (222, 316), (192, 300)], skin)
    s.blob([(136, 222), (202, 222), (208, 262), (176, 266), (172, 250), (166, 266), (132, 264)], (40, 92, 176))
    s.blob([(142, 156), (168, 150), (198, 156), (206, 190), (204, 228), (136, 230), (136, 186)], (232, 74, 66))
    s.blob([(146, 158), (136, 176), (112, 158), (98, 132), (90, 134), (96, 160), (122, 190), (144, 188)], skin)
    s.blob([(192, 160), (212, 172), (236, 150), (250, 124), (258, 128), (250, 158), (224, 190), (198, 188)], skin)
    s.blob([(160, 138), (182, 138), (182, 160), (160, 160)], skin)
    s.ellipse(171, 116, 28, 31, skin, 0.3)
    s.blob(
        [(142, 116), (144, 92), (164, 80), (188, 82), (202, 100), (200, 118), (192, 102), (170, 98), (152, 104)], hair
    )
    for x in (162, 182):
        s.ellipse(x, 116, 3, 3.6, (50, 34, 28))
    s.blob([(160, 128), (172, 132), (184, 128), (178, 138), (166, 138)], (170, 50, 56), 0.0)
    rng = np.random.default_rng(5)
    for x, y in zip(rng.uniform(190, 470, 60), rng.uniform(110, 280, 60), strict=True):
        s.ellipse(x, y, 1.5, 2.1, (240, 250, 255))
    s.save("child_with_sprinkler")


def boat_on_lake():
    s = Scene((250, 190, 130), (252, 226, 186), seed=3)
    s.ellipse(330, 128, 24, 24, (255, 244, 214))
    s.polygon([(-10, 190), (70, 96), (126, 150), (190, 70), (268, 160), (330, 120), (420, 176), (490, 140), (490, 200),
               (-10, 200)], (116, 112, 146))  # fmt: skip
    s.polygon([(190, 70), (166, 100), (180, 108), (192, 98), (206, 112), (216, 100)], (244, 240, 246))
    s.polygon([(70, 96), (50, 120), (64, 124), (74, 116), (86, 122), (92, 118)], (244, 240, 246))
    s.gradient((186, HEIGHT), (222, 168, 130), (52, 92, 130), grain=6)
    rng = np.random.default_rng(3)
    for y in range(200, 352, 9):
        for x in rng.uniform(0, 480, 5):
            s.line([(x, y), (x + rng.uniform(12, 50), y)], (236, 200, 164) if y < 260 else (92, 134, 166), 1.1)
    s.haze(lambda d: d.ellipse([170 * SCALE, 284 * SCALE, 350 * SCALE, 312 * SCALE], fill=120), (24, 44, 70), 4)
    s.polygon([(250, 96), (254, 96), (254, 262), (250, 262)], (96, 66, 44))
    s.blob([(258, 102), (280, 160), (322, 240), (300, 250), (258, 252), (262, 180)], (250, 248, 240), 0.25)
    s.blob([(246, 116), (244, 180), (246, 248), (196, 250), (186, 244), (222, 180)], (216, 70, 60), 0.25)
    s.blob([(158, 262), (176, 266), (254, 268), (330, 264), (352, 258), (338, 280), (314, 298), (206, 300), (180, 290)],
           (142, 78, 44), 0.4)  # fmt: skip
    s.line([(164, 268), (250, 274), (342, 266)], (236, 220, 190), 3)
    s.save("boat_on_lake")


def shapes():
    s = Scene((248, 246, 240), (248, 246, 240), seed=4)
    s.image.paste((248, 246, 240), (0, 0, *s.image.size))
    s.ellipse(170, 122, 70, 70, (220, 40, 40))
    s.polygon([(240, 200), (360, 200), (360, 320), (240, 320)], (40, 80, 220))
    s.save("shapes")


if __name__ == "__main__":
    for draw in (dog_on_beach, child_with_sprinkler, boat_on_lake, shapes):
        draw()
