"""A morning's applications, written for this: what was decided alone, asked, answered, denied."""

from __future__ import annotations

from shared.codec import hex_sha256
from tests.server.console.sample_agent import Case


def item(text: str) -> dict[str, str]:
    sha = hex_sha256(text.encode())
    return {"kind": "item", "id": f"m-{sha[:12]}", "sha256": sha, "text": text}


def rule(name: str, text: str) -> dict[str, str]:
    return {"kind": "rule", "id": name, "sha256": hex_sha256(name.encode()), "text": text}


_WINDOWS = item("Eleven windows replaced in the same openings: Express. “No change to the openings.”")
_DECK = item("Rear deck, two storeys, new footings: Plan review. “Footings need drawings.”")
_GUT = item("Gut rehabilitation of six flats with new ducts: Plan review.")
_SHOP = item("Café fit-out on the ground floor, plans certified by the architect: Self-certified plans.")
_ROOF = rule("roof-like-for-like", "A new roof covering on the same structure needs no drawings.")
_SIGN = rule("sign-work", "The work is a sign, lettering or an awning with copy.")
_LIFT = rule("elevator-equipment", "The work is on an elevator, a lift or the like.")
_WRECK = rule("wrecking", "The work is to take a whole structure down.")

ALONE = [
    Case(
        "PA-2026-0131",
        "Tear off two layers of shingles, new felt, new shingles, 22 squares",
        980_000,
        "express",
        "Express",
        960,
        _ROOF["text"],
        sources=[_ROOF],
        row=2,
        work_type="roofing",
    ),
    Case(
        "PA-2026-0132",
        "Replace 9 wood windows with vinyl, same openings, front elevation",
        540_000,
        "express",
        "Express",
        934,
        "Like-for-like windows, as in the nearest decisions.",
        "memory",
        [_WINDOWS],
        row=3,
    ),
    Case(
        "PA-2026-0133",
        "Illuminated channel letters over the storefront, one set",
        310_000,
        "sign",
        "Signs and awnings",
        960,
        _SIGN["text"],
        sources=[_SIGN],
        row=4,
        work_type="sign",
    ),
    Case(
        "PA-2026-0134",
        "Replace hoist cables of passenger elevator no. 2",
        1_850_000,
        "conveyance",
        "Lifts and conveyances",
        960,
        _LIFT["text"],
        sources=[_LIFT],
        row=5,
    ),
    Case(
        "PA-2026-0135",
        "Re-roof garage, same pitch, no structural work",
        430_000,
        "express",
        "Express",
        940,
        _ROOF["text"],
        sources=[_ROOF],
        row=6,
    ),
    Case(
        "PA-2026-0136",
        "Wall sign for dental office, 24 sq ft, not lit",
        120_000,
        "sign",
        "Signs and awnings",
        960,
        _SIGN["text"],
        sources=[_SIGN],
        row=7,
    ),
    Case(
        "PA-2026-0137",
        "Install 14 replacement windows, same size and location",
        890_000,
        "express",
        "Express",
        921,
        "Like-for-like windows, as in the nearest decisions.",
        "memory",
        [_WINDOWS],
        row=8,
    ),
]
LONG = (
    "Interior alterations to an existing two-storey office building: remove non-bearing partitions on both floors, "
    "build eleven new offices and two meeting rooms, new acoustic ceilings, new lighting on existing circuits plus "
    "four new circuits, relocate six sprinkler heads, new kitchenette with sink and under-counter heater, accessible "
    "toilet room on the ground floor, patch and paint throughout. No change to the exterior, to the structure or to "
    "the use of the building. Work to be done in two phases so that the tenant can stay open."
)
ANSWERED = [
    (
        Case(
            "PA-2026-0128",
            "Erect a rear deck with stairs, 180 sq ft, on new concrete footings",
            1_420_000,
            "express",
            "Express",
            712,
            "Small outdoor work on a house.",
            "model",
            [_DECK, _WINDOWS],
            row=9,
        ),
        "correct",
        "New footings need drawings; decks go to plan review.",
        {"lane": "plan_review"},
    ),
    (
        Case(
            "PA-2026-0129",
            "Gut and rebuild three flats, new plumbing and ducts per plans",
            21_500_000,
            "plan_review",
            "Plan review",
            948,
            "A gut rehabilitation with drawings, like the nearest decision.",
            "memory",
            [_GUT],
            row=10,
        ),
        "approve",
        "",
        {},
    ),
    (
        Case(
            "PA-2026-0130",
            "Noise barrier along the yard, height not given",
            260_000,
            "express",
            "Express",
            418,
            "A fence or the like.",
            "model",
            [],
            row=11,
        ),
        "deny",
        "The height decides; the applicant was asked for it.",
        {},
    ),
]
WAITING = [
    Case(
        "PA-2026-0141",
        LONG,
        18_640_000,
        "plan_review",
        "Plan review",
        873,
        "Interior alterations with new circuits and moved sprinkler heads.",
        "model",
        [_GUT, _SHOP],
        row=12,
        address="77 Mill Rd",
        work_type="interior",
    ),
    Case(
        "PA-2026-0142",
        "Demolish frame garage at the alley and cart away, lot to be graded",
        640_000,
        "demolition",
        "Demolition",
        880,
        _WRECK["text"],
        sources=[_WRECK],
        row=13,
        address="2207 Harbor Ave",
        work_type="demolition",
    ),
    Case(
        "PA-2026-0143",
        "Convert shop front to coffee bar, certified drawings attached",
        6_250_000,
        "self_cert",
        "Self-certified plans",
        846,
        "A fit-out with certified drawings, like the nearest decision.",
        "memory",
        [_SHOP],
        row=14,
        address="208 Front St",
    ),
    Case(
        "PA-2026-0144",
        "Replace porch posts and railings",
        None,
        "express",
        "Express",
        655,
        "Porch repair in kind, as far as the words say.",
        "model",
        [_DECK],
        row=15,
        address=None,
    ),
]
UNSURE = Case("PA-2026-0145", "See attached", None, "", "", 0, "", "model", [], row=16)
DENIED = Case(
    "PA-2026-0146",
    "Take down what is left after the fire",
    980_000,
    "demolition",
    "Demolition",
    510,
    "The words speak of taking something down.",
    "model",
    [_WRECK],
    row=17,
)
