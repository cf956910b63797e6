"""A backbone by its name."""

from __future__ import annotations

import difflib
import importlib.util

from vsam_heatmaps.errors import VsamError

from ..plan import VggPlan
from .interface import Backbone
from .torchvision_cnns import TorchvisionBackbone, torchvision_names
from .vgg import VGG, VGG_BN, VggBackbone


def build_backbone(name: str, *, image_size: int, plan: VggPlan, batch_norm: bool) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: `vgg16`, a ResNet or ConvNeXt of torchvision, or a model of timm. What both libraries
            have is torchvision's.
        image_size: Side of the input in pixels; ViTs are built for it.
        plan: VGG-16's channels.
        batch_norm: VGG-16 normalises after each convolution.

    Raises:
        VsamError: If there is no such backbone, or it needs timm, which is not installed.
    """
    if name == VGG:
        return VggBackbone(plan, batch_norm=batch_norm)
    if name in torchvision_names():
        return TorchvisionBackbone(name)
    if importlib.util.find_spec("timm") is None:
        raise _unknown(
            name,
            [VGG, VGG_BN, *torchvision_names()],
            " Models of timm need it installed: pip install 'vsam[timm]'.",
        )
    import timm

    from .timm_models import build_timm_backbone

    # A name may say which of timm's weights it is meant for: arch.tag.
    if not timm.is_model(name) or ("." in name and name not in timm.list_pretrained()):
        known = [*timm.list_models(), *timm.list_pretrained(f"{name.partition('.')[0]}*")]
        raise _unknown(name, [VGG, VGG_BN, *torchvision_names(), *known])
    return build_timm_backbone(name, image_size=image_size)


def _unknown(name: str, known: list[str], more: str = "") -> VsamError:
    longer = [each for each in known if name and each.startswith(name)]
    near = list(dict.fromkeys([*longer[:3], *difflib.get_close_matches(name, known, n=3)]))
    hint = f" Near it are {', '.join(near)}." if near else ""
    return VsamError(
        f"Expected `backbone` to be {VGG}, {VGG_BN}, one of torchvision's "
        f"{', '.join(torchvision_names())}, or a ViT or CNN of timm, but got {name!r}.{hint}{more}"
    )
