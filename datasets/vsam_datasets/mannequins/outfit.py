"""What a mannequin wears, and the labels that follow from it. No drawing here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Colour, colour
from .fabrics import NEUTRAL_TOPS, NEUTRAL_TROUSERS, Fabric, pick, sample_fabric

CATEGORIES = ("Coat", "Dress", "Hoodie", "Jeans", "Jumpsuit", "Shorts", "Skirt", "Tee")
"""The categories, by DeepFashion's names."""

ATTRIBUTES = (
    "bag",
    "belt",
    "boots",
    "buttons",
    "checked",
    "collar",
    "denim",
    "dotted",
    "floral",
    "hat",
    "hood",
    "long-sleeve",
    "maxi",
    "mini",
    "short-sleeve",
    "sleeveless",
    "striped",
    "v-neck",
)
"""The attributes. They describe all that the person wears, not only the labelled garment."""

ATTRIBUTE_KINDS = {
    "item": ("bag", "belt", "boots", "hat"),
    "cut": (
        "buttons",
        "collar",
        "hood",
        "long-sleeve",
        "maxi",
        "mini",
        "short-sleeve",
        "sleeveless",
        "v-neck",
    ),
    "fabric": ("checked", "denim", "dotted", "floral", "striped"),
}
"""What the attributes are about: things worn at one place of the body, how the clothes are cut, and
what they are made of, which shows wherever there is cloth."""

LOWER = ("Jeans", "Shorts", "Skirt")
"""Categories worn below the waist; a plain top accompanies them."""

UPPER = ("Hoodie", "Tee")
"""Categories worn above the waist; plain slim trousers accompany them."""

_PATTERNS = ("solid", "striped", "dotted", "floral", "checked")
_DENIM_TOO = ("Dress", "Jumpsuit", "Shorts", "Skirt")
_LEATHER = tuple(map(colour, "#4a2f22 #7a4a2b #2a2a2d #8c5a3a #a3562f #5b1f24".split()))
_SHOES = tuple(map(colour, "#2d2d33 #7a4a33 #e6e1d8 #8b3a3a #3c4f63".split()))
_HATS = tuple(map(colour, "#c9a26b #39424f #8f3f3f #5d6b4d #d9cbb2 #a8703c".split()))


@dataclass(frozen=True)
class Outfit:
    """All that a mannequin wears.

    Attributes:
        category: One of `CATEGORIES`.
        fabric: The cloth of the labelled garment.
        sleeve: `long`, `short` or `none`.
        neck: `round`, `v` or `collar`.
        hood: Whether a hood lies on the shoulders.
        length: `mini`, `midi` or `maxi` for dresses and skirts, else empty.
        buttons: Whether a row of buttons runs down the front.
        belt: Whether a belt is worn.
        hat: `brim`, `beanie`, `cap` or empty.
        bag: `tote`, `crossbody` or empty.
        boots: Whether the shoes are boots.
        top_colour: Of the plain companion top.
        trouser_colour: Of the plain companion trousers.
        leather: Of belt, bag and boots.
        shoe_colour: Of low shoes.
        hat_colour: Of the hat.
    """

    category: str
    fabric: Fabric
    sleeve: str
    neck: str
    hood: bool
    length: str
    buttons: bool
    belt: bool
    hat: str
    bag: str
    boots: bool
    top_colour: Colour
    trouser_colour: Colour
    leather: Colour
    shoe_colour: Colour
    hat_colour: Colour

    @property
    def attributes(self) -> tuple[str, ...]:
        """The labels that hold, sorted."""
        sleeve = {"long": "long-sleeve", "short": "short-sleeve", "none": "sleeveless"}
        holds = {
            sleeve[self.sleeve]: True,
            "bag": bool(self.bag),
            "belt": self.belt,
            "boots": self.boots,
            "buttons": self.buttons,
            "collar": self.neck == "collar",
            "hat": bool(self.hat),
            "hood": self.hood,
            "maxi": self.length == "maxi",
            "mini": self.length == "mini",
            "v-neck": self.neck == "v",
            self.fabric.pattern: self.fabric.pattern != "solid",
        }
        return tuple(sorted(name for name, true in holds.items() if true))


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Choose garment, details and accessories, as independent of each other as cuts allow."""
    category = str(rng.choice(CATEGORIES))
    length = str(rng.choice(("mini", "midi", "maxi"))) if category in ("Dress", "Skirt") else ""
    hides_ankles = category in ("Jeans", "Jumpsuit") or length == "maxi"
    sleeve, neck = _cut(rng, category)
    hood = category == "Hoodie" or (category == "Coat" and neck == "round")
    return Outfit(
        category=category,
        fabric=sample_fabric(rng, _pattern(rng, category)),
        sleeve=sleeve,
        neck=neck,
        hood=hood,
        length=length,
        buttons=category in ("Coat", "Dress", "Jumpsuit", "Skirt") and rng.random() < 0.45,
        belt=category not in UPPER and rng.random() < 0.40,
        hat=str(rng.choice(("brim", "beanie", "cap"))) if rng.random() < 0.24 else "",
        bag=str(rng.choice(("tote", "crossbody"))) if rng.random() < 0.28 else "",
        boots=not hides_ankles and rng.random() < 0.38,
        top_colour=pick(rng, NEUTRAL_TOPS),
        trouser_colour=pick(rng, NEUTRAL_TROUSERS),
        leather=pick(rng, _LEATHER),
        shoe_colour=pick(rng, _SHOES),
        hat_colour=pick(rng, _HATS),
    )


def sample_distractor(rng: np.random.Generator, worn: str) -> tuple[str, Fabric]:
    """Choose a category other than the worn one, and a fabric, for the background."""
    category = str(rng.choice([name for name in CATEGORIES if name != worn]))
    return category, sample_fabric(rng, _pattern(rng, category))


def _pattern(rng: np.random.Generator, category: str) -> str:
    if category == "Jeans":
        return "denim"
    return str(rng.choice((*_PATTERNS, "denim") if category in _DENIM_TOO else _PATTERNS))


def _cut(rng: np.random.Generator, category: str) -> tuple[str, str]:
    """Choose sleeve and neckline."""
    if category == "Coat":
        return "long", str(rng.choice(("collar", "collar", "round")))
    if category == "Hoodie":
        return "long", "round"
    if category in LOWER:
        return str(rng.choice(("none", "long"))), "round"
    if category == "Tee":
        return "short", str(rng.choice(("round", "v")))
    return str(rng.choice(("none", "short", "long"))), str(rng.choice(("round", "v", "collar")))
