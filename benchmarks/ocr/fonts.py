"""Finds the fonts that test pages are drawn with, and knows which text each can show."""

from __future__ import annotations

from pathlib import Path

from PIL import ImageFont

# Files of the Debian packages fonts-dejavu-core, fonts-dejavu-extra, fonts-liberation, fonts-lato, fonts-freefont-ttf,
# fonts-ebgaramond, fonts-comfortaa, and for Chinese fonts-wqy-microhei, fonts-wqy-zenhei, fonts-arphic-uming,
# fonts-arphic-ukai.
LATIN = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansCondensed-Oblique.ttf",
    "LiberationSans-Regular.ttf",
    "LiberationSerif-Regular.ttf",
    "LiberationSerif-Italic.ttf",
    "LiberationMono-Regular.ttf",
    "LiberationSansNarrow-Regular.ttf",
    "Lato-Regular.ttf",
    "Lato-Light.ttf",
    "FreeSerif.ttf",
    "EBGaramond12-Regular.otf",
    "Comfortaa-Regular.ttf",
)
CHINESE = ("wqy-microhei.ttc", "wqy-zenhei.ttc", "uming.ttc", "ukai.ttc")


class Fonts:
    """The fonts below some folders, by file name."""

    def __init__(self, folders: list[Path]) -> None:
        wanted = {*LATIN, *CHINESE}
        self._paths: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.name in wanted:
                    self._paths.setdefault(path.name, path)

    def for_language(self, language: str) -> list[str]:
        """Names in the order of the tables above, so that a seed draws the same where all are installed."""
        return [name for name in (CHINESE if language == "zh" else LATIN) if name in self._paths]

    def missing(self) -> list[str]:
        return [name for name in (*LATIN, *CHINESE) if name not in self._paths]

    def load(self, name: str, size: int) -> ImageFont.FreeTypeFont:
        # The basic layout is the same with every build of Pillow; Raqm's needs libraries that not every one has.
        return ImageFont.truetype(str(self._paths[name]), size, layout_engine=ImageFont.Layout.BASIC)

    def shows(self, name: str, text: str) -> bool:
        """No character of the text comes out as the box that stands for a missing one."""
        font = self.load(name, 24)
        box = bytes(font.getmask("\uffff"))
        return all(bytes(font.getmask(character)) != box for character in set(text) if not character.isspace())
