"""The body, clothes and luggage of a person in a pose, as tubes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from reid_lab.dataset.synthetic.draw import STEPS, Floats, Tube
from reid_lab.dataset.synthetic.garments import Wardrobe, wardrobe
from reid_lab.dataset.synthetic.person import Pedestrian
from reid_lab.dataset.synthetic.pose import Limb, Pose, Vec

_GRID = np.linspace(0, 1, STEPS)
Knots = Sequence[tuple[float, float]]  # (position along the tube, 0 to 1; half width)


def tubes(person: Pedestrian, pose: Pose) -> list[Tube]:
    """Return all parts of the person, in no particular order."""
    clothes = wardrobe(person)
    parts = _trunk(person, pose, clothes) + _head(person, pose, clothes)
    for leg in pose.legs:
        parts += _leg(person, leg, clothes)
    for arm in pose.arms:
        parts += _arm(person, arm, clothes)
    return parts + _carried(person, pose, clothes)


def _profile(knots: Knots, factor: float = 1.0) -> Floats:
    """Interpolate half widths (STEPS,) between knots, times `factor`."""
    return _sampled(tuple(knots), factor)


@lru_cache(maxsize=1024)
def _sampled(knots: tuple[tuple[float, float], ...], factor: float) -> Floats:
    positions, values = zip(*knots, strict=True)
    result: Floats = (np.interp(_GRID, positions, values) * factor).astype(np.float32)
    return result


def _round(start: Vec, end: Vec, knots: Knots, texture: Floats, *, flat: bool = False) -> Tube:
    """Return a circular tube; `flat` cuts its far end."""
    radius = _profile(knots)
    return Tube(start, end, radius, radius, texture, (False, flat))


def _mix(a: Vec, b: Vec, share: float) -> Vec:
    """Return the point at fraction `share` from a to b."""
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


def _moved(p: Vec, left: float = 0.0, up: float = 0.0, forward: float = 0.0) -> Vec:
    return (p[0] + left, p[1] + up, p[2] + forward)


def _trunk(person: Pedestrian, pose: Pose, clothes: Wardrobe) -> list[Tube]:
    build, frame = person.build, person.frame
    hip, neck = pose.pelvis, pose.neck
    thick = {"jacket": 1.06, "coat": 1.08, "hoodie": 1.08}.get(person.upper, 1.0)
    wide = build * thick
    shoulder, waist, hips = 0.112 * frame, 0.083 * (1 + 0.4 * (frame - 1)), 0.094 / frame
    bottom = {"coat": -0.17, "hoodie": -0.01, "jacket": -0.02}.get(person.upper, 0.0)
    hem = 0.02 + bottom
    start, end = _moved(neck, up=0.012), _moved(hip, up=hem, forward=0.0)
    length = start[1] - end[1]
    to_waist, to_hips = 0.21 / length, min(1.0, 0.29 / length)
    last = hips * (1.12 if person.upper == "coat" else 1.0)
    width = _profile(
        [(0, 0.03), (0.05, 0.046), (0.1, shoulder * 0.8), (0.14, shoulder * 0.97), (0.2, shoulder),
         (0.32, shoulder * 0.95),
         (to_waist, waist), (to_hips, hips), (1.001, last)], wide)  # fmt: skip
    depth = _profile(
        [(0, 0.03), (0.1, 0.045), (0.32, 0.068), (to_waist, 0.058), (to_hips, 0.068),
         (1.001, 0.085 if person.upper == "coat" else 0.07)], wide)  # fmt: skip
    parts = [
        Tube(start, end, width, depth, clothes.torso, (False, True)),
        Tube(_moved(hip, up=0.05), _moved(hip, up=-0.045), _profile([(0, waist * 0.95),
             (0.6, hips * 0.97), (1, hips * 0.88)], build),
             _profile([(0, 0.046), (1, 0.056)], build),
             clothes.pelvis, (True, True)),
        _round(_moved(neck, up=0.05, forward=0.012), neck, [(0, 0.03), (1, 0.033)], clothes.skin),
    ]  # fmt: skip
    if person.lower in ("skirt", "dress"):
        flare = hips * build * 1.1 + 0.08 * pose.spread
        parts.append(
            Tube(_moved(hip, up=0.07), _moved(hip, up=-0.235),
                 _profile([(0, waist * build), (0.35, hips * build * 1.04), (1, flare)]),
                 _profile([(0, 0.055), (0.35, 0.072), (1, 0.085 + 0.26 * pose.spread)]),
                 clothes.skirt, (True, True))
        )  # fmt: skip
    return parts


def _head(person: Pedestrian, pose: Pose, clothes: Wardrobe) -> list[Tube]:
    head = pose.head
    top, chin = _moved(head, up=0.026), _moved(head, up=-0.028, forward=0.004)
    width = _profile([(0, 0.0435), (0.5, 0.043), (1, 0.033)])
    depth = _profile([(0, 0.052), (0.5, 0.052), (1, 0.04)])
    parts = [Tube(top, chin, width, depth, clothes.head)]
    if person.hair in ("long", "bob"):
        low = -0.1 if person.hair == "long" else -0.045
        parts.append(
            Tube(_moved(top, up=0.006, forward=-0.014), _moved(head, up=low, forward=-0.022),
                 _profile([(0, 0.044), (0.4, 0.052), (1, 0.046)]),
                 _profile([(0, 0.044), (1, 0.032)]), clothes.hair)
        )  # fmt: skip
    elif person.hair == "bun":
        parts.append(
            _round(_moved(top, up=0.028, forward=-0.036), _moved(top, up=0.024, forward=-0.046),
                   [(0, 0.025), (1, 0.025)], clothes.hair)
        )  # fmt: skip
    elif person.hair == "ponytail":
        parts.append(
            _round(_moved(top, forward=-0.054), _moved(head, up=-0.1, forward=-0.075),
                   [(0, 0.018), (0.5, 0.022), (1, 0.01)], clothes.hair)
        )  # fmt: skip
    return parts + _hat(person, top, clothes)


def _hat(person: Pedestrian, top: Vec, clothes: Wardrobe) -> list[Tube]:
    if person.hat == "none":
        return []
    if person.hat == "hood":  # behind the face and wider than the head
        return [
            Tube(_moved(top, up=0.01, forward=-0.018), _moved(top, up=-0.085, forward=-0.02),
                 _profile([(0, 0.048), (0.6, 0.058), (1, 0.06)]),
                 _profile([(0, 0.05), (1, 0.05)]), clothes.hat)
        ]  # fmt: skip
    crown = Tube(_moved(top, up=0.012), _moved(top, up=-0.004), _profile([(0, 0.046), (1, 0.048)]),
                 _profile([(0, 0.054), (1, 0.057)]), clothes.hat, (False, True))  # fmt: skip
    if person.hat == "cap":
        brim = _round(_moved(top, forward=0.035), _moved(top, up=-0.008, forward=0.085),
                      [(0, 0.03), (1, 0.012)], clothes.hat)  # fmt: skip
        brim.width = _profile([(0, 0.012), (1, 0.01)])
        return [crown, brim]
    if person.hat == "hat":
        return [crown, Tube(_moved(top, up=0.0), _moved(top, up=-0.01),
                            _profile([(0, 0.075), (1, 0.078)]), _profile([(0, 0.08), (1, 0.08)]),
                            clothes.hat, (True, True))]  # fmt: skip
    return [crown]


def _leg(person: Pedestrian, leg: Limb, clothes: Wardrobe) -> list[Tube]:
    b = person.build
    bare = person.lower in ("shorts", "skirt", "dress")
    skin_thigh, skin_shin = (
        [(0, 0.044 * b), (1, 0.034 * b)],
        [(0, 0.034 * b), (0.3, 0.035 * b), (1, 0.02)],
    )
    parts = []
    if bare:
        parts.append(_round(_mix(leg.root, leg.middle, 0.35), leg.middle, skin_thigh, clothes.skin))
        parts.append(_round(leg.middle, leg.end, skin_shin, clothes.skin))
    if person.lower == "shorts":
        parts.append(_round(leg.root, _mix(leg.root, leg.middle, 0.85),
                            [(0, 0.056 * b), (1, 0.05 * b)], clothes.leg, flat=True))  # fmt: skip
    if not bare:
        slim = 0.9 if person.lower == "jeans" else 1.05
        parts.append(
            _round(leg.root, leg.middle, [(0, 0.054 * b), (1, 0.04 * b * slim)], clothes.leg)
        )
        parts.append(
            _round(leg.middle, _mix(leg.middle, leg.end, 0.97),
                   [(0, 0.04 * b * slim), (0.3, 0.039 * b * slim), (1, 0.031 * slim)],
                   clothes.leg, flat=True)
        )  # fmt: skip
    heel = _moved(leg.end, up=-0.014, forward=-0.012)
    parts.append(_round(heel, leg.tip, [(0, 0.024), (0.5, 0.023), (1, 0.018)], clothes.shoe))
    return parts


def _arm(person: Pedestrian, arm: Limb, clothes: Wardrobe) -> list[Tube]:
    b = person.build
    skin = [(0, 0.03 * b), (1, 0.025 * b)]
    parts = [_round(_mix(arm.end, arm.tip, 0.2), arm.tip, [(0, 0.017), (1, 0.015)], clothes.skin)]
    if person.upper == "tshirt":
        parts.append(_round(_mix(arm.root, arm.middle, 0.4), arm.middle, skin, clothes.skin))
        parts.append(_round(arm.middle, arm.end, [(0, 0.025 * b), (1, 0.016)], clothes.skin))
        knots = [(0, 0.026 * b), (0.3, 0.033 * b), (1, 0.035 * b)]
        hem = _mix(arm.root, arm.middle, 0.72)
        parts.append(_round(arm.root, hem, knots, clothes.sleeve, flat=True))
        return parts
    thick = b * (1.0 if person.upper == "longsleeve" else 1.12)
    parts.append(
        _round(
            arm.root,
            arm.middle,
            [(0, 0.019 * thick), (0.3, 0.031 * thick), (1, 0.028 * thick)],
            clothes.sleeve,
        )
    )
    parts.append(_round(arm.middle, arm.end, [(0, 0.028 * thick), (1, 0.022 * thick)],
                        clothes.sleeve, flat=True))  # fmt: skip
    return parts


def _even(radius: float) -> Floats:
    """Return the profile of a box with rounded edges."""
    return _profile([(0, radius * 0.88), (0.08, radius), (0.92, radius), (1, radius * 0.92)])


def _carried(person: Pedestrian, pose: Pose, clothes: Wardrobe) -> list[Tube]:
    """Return what the person carries; hand-held objects are in the right hand."""
    hand, bag, b = pose.arms[1].tip, clothes.bag, person.build
    if person.carried == "backpack":
        top = _moved(pose.neck, up=-0.03, forward=-0.095 * b)
        return [Tube(top, _moved(top, up=-0.24), _even(0.092), _even(0.055), bag, (True, True))]
    if person.carried == "shoulderbag":
        top = _moved(pose.pelvis, left=0.115 * b, up=0.06, forward=-0.01)
        return [Tube(top, _moved(top, up=-0.12), _even(0.04), _even(0.085), bag, (True, True))]
    if person.carried == "handbag":
        hang = _mix(pose.arms[1].middle, pose.arms[1].end, 0.75)
        top = _moved(hang, up=-0.05)
        return [
            _round(hang, top, [(0, 0.006), (1, 0.012)], bag),
            Tube(top, _moved(top, up=-0.1), _even(0.035), _even(0.07), bag, (True, True)),
        ]
    if person.carried == "tote":
        top = _moved(hand, up=-0.07)
        return [
            _round(hand, top, [(0, 0.008), (1, 0.03)], bag),
            Tube(top, _moved(top, up=-0.16), _even(0.035), _even(0.085), bag, (True, True)),
        ]
    if person.carried == "umbrella":
        knots = [(0, 0.01), (0.2, 0.011), (0.25, 0.024), (0.7, 0.02), (1, 0.006)]
        return [_round(_moved(hand, up=0.06), _moved(hand, up=-0.3, forward=0.08), knots, bag)]
    if person.carried == "suitcase":
        top = (hand[0] - 0.03, 0.26, hand[2] - 0.16)
        return [
            _round(hand, top, [(0, 0.007), (1, 0.007)], bag),
            Tube(top, (top[0], 0.015, top[2]), _even(0.075), _even(0.05), bag, (True, True)),
        ]
    return []
