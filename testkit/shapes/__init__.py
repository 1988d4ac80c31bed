"""Files in the shapes of well-known public data sets, made here, with fraud of known probability.

True column names, types and quirks; the values are our own. `SHAPES` has them by name.
"""

from __future__ import annotations

from typing import Final

from testkit.shapes import (
    banksim,
    fraudecom,
    ieee_cis,
    kaggle_financial,
    paysim,
    shop,
    sparkov,
    tabformer,
    ulb,
)
from testkit.shapes.base import Shape

SHAPES: Final[dict[str, Shape]] = {
    module.SHAPE.name: module.SHAPE
    for module in (
        sparkov,
        ieee_cis,
        ulb,
        paysim,
        banksim,
        tabformer,
        kaggle_financial,
        fraudecom,
        shop,
    )
}
